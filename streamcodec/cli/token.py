"""`streamcodec token`: keys, and the signed tokens that they issue and prove."""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from streamcodec.errors import InputError, explain, printable
from streamcodec.output_file import write_text

if TYPE_CHECKING:
    from streamcodec.server import TokenKeys

__all__ = ["read_token_keys", "seconds_of", "token_app"]

VARIABLE = "STREAMCODEC_TOKEN_KEYS"
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

token_app = typer.Typer(
    help="Make keys, and issue and inspect the signed tokens that a server asks for (serve --token-keys).",
    rich_markup_mode=None,
    no_args_is_help=True,
)

KeysFile = Annotated[Path | None, typer.Option("--keys", metavar="FILE", help=f"A JSON Web Key Set; also ${VARIABLE}.")]


def read_token_keys(path: Path | None, text: str | None, where: str) -> TokenKeys | None:
    """The keys in the file and those in `text`, which was found at `where`, together; None where there are none. Raises `InputError`."""
    from streamcodec.server import TokenKeys

    found = None
    if text:
        found = _parsed(text, where)
    if path is not None:
        keys = _keys_in(path)
        found = keys if found is None else keys.before(found)
    assert found is None or isinstance(found, TokenKeys)
    return found


@token_app.command("new-key")
def new_key(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="The key set, which is made where there is none; a secret.")],
    algorithm: Annotated[
        Literal["EdDSA", "HS256"], typer.Option(help="EdDSA has a public half, which is all that a server needs; HS256 is one secret.")
    ] = "EdDSA",
) -> int:
    """Add a new key to a key set. It signs from now on; tokens of the older keys stay good as long as the server has those."""
    from streamcodec.server import TokenKeys

    keys = TokenKeys.generate(algorithm)
    added = keys.ids[0]
    if path.exists():
        keys = keys.before(_keys_in(path))
    else:
        path.touch(mode=0o600)
    write_text(path, keys.serialize())
    print(f"added key {added} ({algorithm}) to {path}: {len(keys)} in all")
    return 0


@token_app.command("public-keys")
def public_keys(path: Annotated[Path, typer.Argument(metavar="FILE", help="A key set of EdDSA keys.")]) -> int:
    """Print the public halves of a key set: a server proves tokens by them, and cannot sign any."""
    print(_keys_in(path).public().serialize(), end="")
    return 0


@token_app.command()
def issue(
    keys: KeysFile = None,
    publish: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Streams to publish: a name, in which * is anything. May be repeated.")
    ] = None,
    listen: Annotated[list[str] | None, typer.Option(metavar="PATTERN", help="Streams to listen to. May be repeated.")] = None,
    valid: Annotated[str, typer.Option("--for", metavar="TIME", help="How long it is good: 90s, 30m, 12h or 7d.")] = "12h",
    name: Annotated[str, typer.Option(metavar="NAME", help="Who holds it, for people.")] = "",
) -> int:
    """Print a token that lets its holder publish and listen to streams for a while."""
    from streamcodec.server import Grant

    if not publish and not listen:
        raise InputError("this token would grant nothing, expected --publish PATTERN or --listen PATTERN")
    found = read_token_keys(keys, os.environ.get(VARIABLE), f"${VARIABLE}")
    if found is None:
        raise InputError(f"there is no key to sign with, expected --keys FILE or ${VARIABLE}")
    grant = Grant(publish=publish or (), listen=listen or (), expires=int(time.time()) + seconds_of(valid), name=name)
    print(found.sign(grant))
    return 0


@token_app.command()
def inspect(keys: KeysFile = None) -> int:
    """Say what the token on standard input grants, and with --keys whether it is good. It is not shown itself."""
    from streamcodec.server.auth.keys import unproved

    token = sys.stdin.read().strip()
    found = read_token_keys(keys, os.environ.get(VARIABLE), f"${VARIABLE}")
    grant = unproved(token)
    left = grant.expires - time.time()
    print(f"holder    {printable(grant.name) or '-'}")
    print(f"publish   {', '.join(grant.publish) or '-'}")
    print(f"listen    {', '.join(grant.listen) or '-'}")
    print(f"expires   {time.strftime('%Y-%m-%d %H:%M:%S UTC', time.gmtime(grant.expires))}, {_told(left)}")
    if found is None:
        print("signature not looked at: no keys were given")
        return 0
    found.prove(token, time.time)
    print("signature good")
    return 0


def _keys_in(path: Path) -> TokenKeys:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as exc:
        raise InputError(explain(exc)) from exc
    except UnicodeDecodeError as exc:
        raise InputError(f"{path}: is no text file, expected a JSON Web Key Set") from exc
    return _parsed(text, str(path))


def _parsed(text: str, where: str) -> TokenKeys:
    from streamcodec.server import TokenKeys

    try:
        return TokenKeys.parse(text)
    except InputError as exc:
        raise InputError(f"{where}: {exc}") from exc


def seconds_of(text: str) -> int:
    """The seconds in a time as options take it: 90s, 30m, 12h or 7d. Raises `InputError`."""
    match = re.fullmatch(r"(\d{1,9})([smhd])", text.strip())
    if match is None or int(match[1]) == 0:
        raise InputError(f"{text!r} is no time, expected for instance 90s, 30m, 12h or 7d")
    return int(match[1]) * _UNITS_S[match[2]]


def _told(seconds: float) -> str:
    unit, size = next(((unit, size) for unit, size in reversed(_UNITS_S.items()) if abs(seconds) >= 2 * size), ("s", 1))
    return f"in {seconds / size:.0f} {unit}" if seconds >= 0 else f"{-seconds / size:.0f} {unit} ago"
