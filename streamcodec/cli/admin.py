"""`streamcodec admin`: what runs on a server, and ending, narrowing and draining it, over the server's private port."""

from __future__ import annotations

import datetime
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from streamcodec.cli.options import number
from streamcodec.cli.token import seconds_of
from streamcodec.errors import ConnectionFailed, InputError, printable

__all__ = ["DEFAULT_PRIVATE_URL", "admin_app", "table"]

DEFAULT_PRIVATE_URL = "http://127.0.0.1:9090"
TOKEN_VARIABLE = "STREAMCODEC_ADMIN_TOKEN"
_MOST_BYTES = 16 << 20
_WITHIN_S = 10.0

admin_app = typer.Typer(
    help=f"See and end what runs on a server, by its private port (serve --private-port) and its admin token (${TOKEN_VARIABLE}).",
    rich_markup_mode=None,
    no_args_is_help=True,
)

Url = Annotated[str, typer.Option("--server", metavar="URL", envvar="STREAMCODEC_PRIVATE_URL", help="The server's private port.")]
TokenFile = Annotated[
    Path | None, typer.Option("--token-file", metavar="FILE", help=f"Holds the admin token; else ${TOKEN_VARIABLE} does.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print what the server has answered.")]
Session = Annotated[str, typer.Argument(metavar="SESSION", help="As `list` and `listeners` show it.")]


@admin_app.command("list")
def list_streams(url: Url = DEFAULT_PRIVATE_URL, token_file: TokenFile = None, as_json: AsJson = False) -> int:
    """Show the streams: who publishes them, since when, how many packets, at which bandwidth and how late they come out."""
    found = _ask(url, token_file, "GET", "/admin/streams")
    columns = {
        "stream": lambda one: one["stream"],
        "session": lambda one: one["session"] or "(away)",
        "address": lambda one: one["address"] or "-",
        "holder": lambda one: one["holder"] or "-",
        "since": lambda one: _time(one["since"]),
        "packets": lambda one: one["packets"],
        "dropped": lambda one: one["dropped"],
        "kbps": lambda one: one["sent_kbps"],
        "late p95 ms": lambda one: None if one["late_ms"] is None else one["late_ms"]["p95"],
        "recorded": lambda one: "yes" if one["recorded"] else "no",
        "listeners": lambda one: one["listeners"],
    }
    return _show(found, "streams", columns, as_json)


@admin_app.command()
def listeners(url: Url = DEFAULT_PRIVATE_URL, token_file: TokenFile = None, as_json: AsJson = False) -> int:
    """Show the listeners: what they listen to, how far they lag, their bandwidth, and the jitter that they report."""
    found = _ask(url, token_file, "GET", "/admin/listeners")
    columns = {
        "stream": lambda one: one["stream"] + (" (waits)" if one["waits"] else ""),
        "session": lambda one: one["session"],
        "address": lambda one: one["address"],
        "holder": lambda one: one["holder"] or "-",
        "since": lambda one: _time(one["since"]),
        "format": lambda one: one["format"],
        "kbps": lambda one: one["bandwidth_kbps"],
        "lag ms": lambda one: one["lag_ms"],
        "jitter ms": lambda one: one["jitter_ms"],
        "margin ms": lambda one: one["margin_ms"],
    }
    return _show(found, "listeners", columns, as_json)


@admin_app.command()
def nodes(url: Url = DEFAULT_PRIVATE_URL, token_file: TokenFile = None, as_json: AsJson = False) -> int:
    """Show the nodes of the server's cluster: where clients reach them, how full they are, and whether they drain."""
    found = _ask(url, token_file, "GET", "/admin/nodes")
    columns = {
        "node": lambda one: one["node"] + (" (here)" if one["here"] else ""),
        "address": lambda one: one["address"],
        "publishers": lambda one: one["publishers"],
        "listeners": lambda one: one["listeners"],
        "room": lambda one: one["room"],
        "load": lambda one: one["load"],
        "draining": lambda one: "yes" if one["draining"] else "no",
        "version": lambda one: one["version"],
    }
    return _show(found, "nodes", columns, as_json)


@admin_app.command()
def end(
    session: Annotated[str | None, typer.Argument(metavar="[SESSION]", help="As `list` and `listeners` show it.")] = None,
    stream: Annotated[str | None, typer.Option(metavar="NAME", help="End this stream instead, also one whose publisher is away.")] = None,
    bar: Annotated[bool, typer.Option("--bar", help="Let nobody in again with the token that the session has shown.")] = False,
    url: Url = DEFAULT_PRIVATE_URL,
    token_file: TokenFile = None,
) -> int:
    """End a session or a stream. Without --bar its holder may come back."""
    if (session is None) is (stream is None) or (bar and session is None):
        raise InputError("expected either a SESSION, which --bar may go with, or --stream NAME")
    path = f"/admin/sessions/{quote(session, safe='')}/end" if session is not None else f"/admin/streams/{quote(stream or '', safe='')}/end"
    _ask(url, token_file, "POST", path, {"bar": bar} if session is not None else {})
    print("ended")
    return 0


@admin_app.command()
def grant(
    session: Session,
    publish: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Streams that it may still publish. May be repeated.")
    ] = None,
    listen: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Streams that it may still listen to. May be repeated.")
    ] = None,
    valid: Annotated[str | None, typer.Option("--for", metavar="TIME", help="How long from now: 90s, 30m, 12h or 7d.")] = None,
    url: Url = DEFAULT_PRIVATE_URL,
    token_file: TokenFile = None,
) -> int:
    """Narrow what the token of a session grants, to no more than this, until the server stops. Sessions that need more end."""
    asked: dict[str, Any] = {"publish": publish or [], "listen": listen or []}
    if valid is not None:
        asked["exp"] = int(time.time()) + seconds_of(valid)
    _ask(url, token_file, "POST", f"/admin/sessions/{quote(session, safe='')}/grant", asked)
    print("narrowed")
    return 0


@admin_app.command()
def drain(
    within: Annotated[
        float | None,
        typer.Option("--seconds", parser=number(1, 86_400), metavar="S", help="Stop within so long (default: the server's setting)."),
    ] = None,
    to: Annotated[str | None, typer.Option(metavar="URL", help="Where its clients are to go (default: the server's setting).")] = None,
    url: Url = DEFAULT_PRIVATE_URL,
    token_file: TokenFile = None,
) -> int:
    """Let nobody new in, let everybody leave, and stop the server."""
    asked = {name: value for name, value in (("seconds", within), ("to", to)) if value is not None}
    _ask(url, token_file, "POST", "/admin/drain", asked)
    print("draining")
    return 0


def table(columns: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """Lines of text in columns; what a peer wrote is escaped."""
    cells = [list(columns), *([_cell(of(row)) for of in columns.values()] for row in rows)]
    widths = [max(len(line[at]) for line in cells) for at in range(len(columns))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells)


def _cell(value: Any) -> str:
    return "-" if value is None else printable(str(value))


def _time(since: float) -> str:
    return datetime.datetime.fromtimestamp(since, datetime.UTC).strftime("%m-%d %H:%M:%SZ")


def _show(found: Mapping[str, Any], key: str, columns: Mapping[str, Any], as_json: bool) -> int:
    try:
        print(json.dumps(found, indent=1) if as_json else table(columns, found[key]))
    except (KeyError, TypeError, ValueError, OverflowError, OSError) as exc:
        raise ConnectionFailed("the server's answer makes no sense: is it one of another version?") from exc
    return 0


def _ask(url: str, token_file: Path | None, method: str, path: str, body: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
    import httpx2

    from streamcodec.server.auth.asking import checked_url

    headers = {"Authorization": f"Bearer {_token(token_file)}", "Accept-Encoding": "identity"}
    where = checked_url(url, "the private port").rstrip("/") + path
    try:
        with (
            httpx2.Client(timeout=_WITHIN_S, trust_env=False) as client,
            client.stream(method, where, headers=headers, json=body) as answer,
        ):
            data = b""
            for piece in answer.iter_raw():
                data += piece
                if len(data) > _MOST_BYTES:
                    raise ConnectionFailed(f"{url} answers with more than {_MOST_BYTES >> 20} MiB")
            status = answer.status_code
    except (httpx2.HTTPError, httpx2.InvalidURL) as exc:
        raise ConnectionFailed(f"cannot ask {url}: {exc}. Does the server have a private port (serve --private-port)?") from exc
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        found = None
    if status != httpx2.codes.OK or not isinstance(found, dict):
        told = found.get("error") if isinstance(found, dict) else None
        hint = ". Does the server have an admin token?" if status == httpx2.codes.NOT_FOUND and told is None else ""
        raise ConnectionFailed(f"{url} answers with status {status}: {told or 'no explanation'}{hint}")
    return found


def _token(file: Path | None) -> str:
    from streamcodec.client.tokens import read_secret

    token = os.environ.get(TOKEN_VARIABLE, "").strip() if file is None else read_secret(file)
    if not token or not token.isascii() or not token.isprintable():
        raise InputError(f"there is no admin token, expected --token-file FILE or ${TOKEN_VARIABLE}")
    return token
