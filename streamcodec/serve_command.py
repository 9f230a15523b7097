"""`streamcodec serve`: its options, and the server that they ask for."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Literal

import streamcodec
from streamcodec.collector import settle
from streamcodec.config import DEFAULT_PACKET_FRAMES
from streamcodec.errors import InputError

__all__ = ["add_arguments", "prepare"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    from streamcodec_clients.options import add_model_options, port, positive_int

    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 for every network (default: %(default)s)")
    parser.add_argument("--port", type=port, default=8765, help="0 takes any free one (default: %(default)s)")
    add_model_options(parser)
    parser.add_argument(
        "--capacity",
        type=_capacity,
        metavar="N",
        default="auto",
        help="refuse what would be more than N streams to encode or decode; auto: what this machine can do in time, by its own measure; "
        "off: whatever comes (default: %(default)s)",
    )
    parser.add_argument(
        "--max-publishers", type=positive_int, metavar="N", default=256, help="refuse more than so many (default: %(default)s)"
    )
    parser.add_argument(
        "--max-listeners", type=positive_int, metavar="N", default=1024, help="refuse more than so many (default: %(default)s)"
    )
    parser.add_argument(
        "--publish-token-file", type=Path, metavar="FILE", help="tokens, one a line, that allow to publish; also $STREAMCODEC_PUBLISH_TOKEN"
    )
    parser.add_argument(
        "--listen-token-file", type=Path, metavar="FILE", help="tokens that allow to listen; also $STREAMCODEC_LISTEN_TOKEN"
    )
    parser.add_argument("--verbose", action="store_true", help="say more")


def prepare(args: argparse.Namespace) -> Coroutine[Any, Any, int]:
    """Load what is needed and return what serves until it is cancelled."""
    from streamcodec_clients.options import load_codec

    from streamcodec.server import Limits, Server, Tokens

    logging.basicConfig(level=logging.DEBUG if args.verbose else logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("websockets").setLevel(logging.WARNING)
    codec = load_codec(args, server=True)
    limits = Limits(max_publishers=args.max_publishers, max_listeners=args.max_listeners, capacity=args.capacity)
    tokens = Tokens(
        publish=_tokens(args.publish_token_file, "STREAMCODEC_PUBLISH_TOKEN"),
        listen=_tokens(args.listen_token_file, "STREAMCODEC_LISTEN_TOKEN"),
    )

    async def serve() -> int:
        async with Server(codec, args.host, args.port, tokens=tokens, limits=limits) as server:
            model = f"model {codec.name} ({codec.fingerprint}), {codec.engine.name}"
            packets = f"{1000 * DEFAULT_PACKET_FRAMES / codec.frame_rate:.0f} ms packets"
            room = "" if server.room is None else f", room for about {server.room} live publisher(s) at {packets}"
            settle()
            print(f"streamcodec {streamcodec.__version__} at {server.url}: {model}{room}", flush=True)
            await asyncio.Event().wait()
        return 0

    return serve()


def _capacity(text: str) -> int | Literal["auto"] | None:
    if text == "auto":
        return "auto"
    if text == "off":
        return None
    if not text.strip().isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is neither auto, off nor a whole number above 0")
    return int(text)


def _tokens(path: Path | None, variable: str) -> tuple[str, ...]:
    found = [os.environ[variable]] if os.environ.get(variable) else []
    if path is not None:
        try:
            listed = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        except OSError as exc:
            raise InputError(f"{path}: {exc.strerror or exc}") from exc
        except UnicodeDecodeError as exc:
            raise InputError(f"{path}: is no text file, expected one token a line") from exc
        if not listed:
            raise InputError(f"{path}: holds no token, expected one a line")
        found += listed
    return tuple(found)
