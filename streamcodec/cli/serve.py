"""`streamcodec serve`: run the server until it is interrupted."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from streamcodec.cli.options import (
    DEFAULT_MODEL,
    DEFAULT_PORT,
    Device,
    Engine,
    Model,
    Precision,
    ServerThreads,
    load_codec,
    port_number,
    positive_int,
)
from streamcodec.cli.token import read_token_keys
from streamcodec.errors import InputError

__all__ = ["serve"]


_ECHO_TESTS = 16


def _capacity(text: str) -> int | Literal["auto"] | None:
    if text == "auto":
        return "auto"
    if text == "off":
        return None
    if not text.strip().isdecimal() or int(text) < 1:
        raise typer.BadParameter(f"{text!r} is neither auto, off nor a whole number above 0")
    return int(text)


def _checked_capacity(text: str) -> str:
    _capacity(text)
    return text


def size_of_bytes(text: str | int) -> int:
    """Parse a number of bytes, with one of the units KB, MB, GB and TB (powers of 1,000) or KiB, MiB, GiB and TiB (of 1,024)."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?(?:([KMGT])(i?)B?|B)?", str(text).strip(), re.IGNORECASE)
    size = 0
    if found is not None:
        number, unit, binary = found.groups()
        size = int(float(number) * (1024 if binary else 1000) ** ("KMGT".index(unit.upper()) + 1 if unit else 0))
    if size < 1:
        raise typer.BadParameter(f"{text!r} is no size, expected for instance 500MB or 2GB")
    return size


def serve(
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="The address to listen on; 0.0.0.0 for every network, :: with IPv6.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(parser=port_number, metavar="PORT", help="The port; 0 takes any free one.")] = DEFAULT_PORT,
    model: Model = DEFAULT_MODEL,
    device: Device = "cpu",
    engine: Engine = "auto",
    precision: Precision = "fp32",
    threads: ServerThreads = None,
    capacity: Annotated[
        str,
        typer.Option(
            parser=_checked_capacity,
            metavar="N",
            help="Refuse more than N streams to encode or decode; auto: as many as this machine can run in time, by its own measurement; "
            "off: no limit.",
        ),
    ] = "auto",
    max_publishers: Annotated[int, typer.Option(parser=positive_int, metavar="N", help="Refuse more publishers than this.")] = 256,
    max_listeners: Annotated[int, typer.Option(parser=positive_int, metavar="N", help="Refuse more listeners than this.")] = 1024,
    max_per_address: Annotated[
        int, typer.Option(parser=positive_int, metavar="N", help="Refuse more connections than this of one address, but for this machine.")
    ] = 64,
    publish_token_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Tokens that allow to publish, one a line; also $STREAMCODEC_PUBLISH_TOKEN."),
    ] = None,
    listen_token_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Tokens that allow to listen, one a line; also $STREAMCODEC_LISTEN_TOKEN."),
    ] = None,
    token_keys: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Keys of signed tokens, see `token`: a JSON Web Key Set; also $STREAMCODEC_TOKEN_KEYS."),
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Let everybody who reaches the port publish and listen, from other machines too.")
    ] = False,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL", help="Let pages of this website connect, as in https://example.org; * is every website. May be repeated."
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A name by which a proxy in front of a server on 127.0.0.1 asks for it. May be repeated."),
    ] = None,
    record: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Record every stream, each into a file of its own in this folder.")
    ] = None,
    record_quota: Annotated[
        int | None,
        typer.Option(
            parser=size_of_bytes,
            metavar="SIZE",
            help="The recordings in the folder may take so much in all, as in 500MB or 2GB; then no more is recorded (default: no bound).",
        ),
    ] = None,
    record_rotate: Annotated[
        bool, typer.Option("--record-rotate", help="Remove the oldest finished recordings instead, where the quota is used up.")
    ] = False,
    echo: Annotated[
        bool,
        typer.Option("--echo", help="Let everybody test their connection: streams named echo.* need no token, 16 at a time, 5 min each."),
    ] = False,
    no_page: Annotated[bool, typer.Option("--no-page", help="Serve no page for browsers at /.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Log more.")] = False,
) -> Coroutine[Any, Any, int]:
    """Run the server until it is interrupted."""
    import asyncio
    import contextlib
    import logging

    import streamcodec
    from streamcodec.gc_freeze import freeze_gc
    from streamcodec.processors import available_processors
    from streamcodec.server import Limits, Page, RecordingFolder, Server, Sites, Tokens
    from streamcodec.server.door import ask_for_descriptors

    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("websockets").setLevel(logging.WARNING)
    tokens = Tokens(
        publish=_tokens(publish_token_file, "STREAMCODEC_PUBLISH_TOKEN"), listen=_tokens(listen_token_file, "STREAMCODEC_LISTEN_TOKEN")
    )
    keys = read_token_keys(token_keys)
    sites = Sites(tuple(allow_origin or ()), tuple(allow_host or ()))
    if record is None and (record_quota is not None or record_rotate):
        raise InputError("--record-quota and --record-rotate are for recordings: expected --record FOLDER")
    recordings = None if record is None else RecordingFolder(record, record_quota, rotate=record_rotate)
    offered = None if no_page else Page(model)
    processors = available_processors()
    steps = threads or processors
    codec = load_codec(model, device, engine, precision, steps, workers=steps, wait_for_compile=False)
    ask_for_descriptors(max_publishers + max_listeners + 1024)
    limits = Limits(
        max_publishers=max_publishers,
        max_listeners=max_listeners,
        max_connections_per_address=max_per_address,
        max_echo_tests=_ECHO_TESTS if echo else 0,
        capacity=_capacity(capacity),
    )
    server = Server(
        codec,
        host,
        port,
        tokens=tokens,
        token_keys=keys,
        insecure=insecure,
        sites=sites,
        page=offered,
        recordings=recordings,
        limits=limits,
    )

    async def run() -> int:
        status = 0
        # An interrupt is how a server ends.
        with contextlib.suppress(asyncio.CancelledError):
            async with server as running:
                told = f"model {codec.name} ({codec.fingerprint}), {codec.capabilities.audio}"
                described = f"{told}, {codec.engine.name}, {processors} processor(s)"
                packets = f"{1000 * codec.config.packet_frames_for() / codec.frame_rate:.0f} ms packets"
                room = "" if running.room is None else f", room for about {running.room} live publisher(s) at {packets}"
                freeze_gc()
                print(f"streamcodec {streamcodec.__version__} at {running.url}: {described}{room}", flush=True)
                if running.page_url is not None:
                    print(f"talk and listen in a browser: {running.page_url}", flush=True)
                elif offered is not None:
                    print("no page for browsers: it was not built (make page)", flush=True)
                print(f"streamcodec: the engine is lost: {await running.until_lost()}", file=sys.stderr)
                status = 1
        print("stopped", flush=True)
        if server.engine_hangs:  # the interpreter would wait for the engine's threads
            os._exit(status or 1)
        return status

    return run()


def _tokens(path: Path | None, variable: str) -> tuple[str, ...]:
    found = [os.environ[variable]] if os.environ.get(variable) else []
    if path is not None:
        try:
            listed = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
        except OSError as exc:
            raise InputError(f"{path}: {exc.strerror or exc}") from exc
        except UnicodeDecodeError as exc:
            raise InputError(f"{path}: is no text file, expected one token a line") from exc
        if not listed:
            raise InputError(f"{path}: holds no token, expected one a line")
        found += listed
    return tuple(found)
