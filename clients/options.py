"""Options that every client has, and the kinds of numbers that options take."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from streamcodec.errors import InputError

if TYPE_CHECKING:
    from streamcodec.codec import Codec

__all__ = ["add_connection_options", "add_model_options", "load_codec", "number", "port", "positive_int"]


def add_connection_options(parser: argparse.ArgumentParser) -> None:
    """Where to connect, under which name, and how much to say."""
    parser.add_argument("--server", metavar="URL", default="ws://127.0.0.1:8765", help="the server (default: %(default)s)")
    parser.add_argument("--stream", metavar="NAME", default="live", help="the stream's name (default: %(default)s)")
    parser.add_argument(
        "--token", default=os.environ.get("STREAMCODEC_TOKEN"), help="what the server asks for, if it does (default: $STREAMCODEC_TOKEN)"
    )
    parser.add_argument("--no-retry", action="store_true", help="give up when the connection fails instead of trying again")
    parser.add_argument("--quiet", action="store_true", help="no live line")


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Which model, and what it runs on."""
    parser.add_argument("--model", default="speech-24k", help="an embedded name, a file, a folder or a hub id (default: %(default)s)")
    parser.add_argument("--device", default="cpu", help="torch's name of it; cuda is untested (default: %(default)s)")
    parser.add_argument(
        "--engine", choices=["auto", "torch", "openvino"], default="auto", help="what runs it (default: the fastest installed)"
    )
    parser.add_argument(
        "--precision",
        choices=["auto", "fp32", "bf16"],
        default="fp32",
        help="bf16 is faster and gives other codes than the published code; auto is bf16 where the processor has it (default: %(default)s)",
    )
    parser.add_argument(
        "--threads",
        type=positive_int,
        metavar="N",
        default=1,
        help="of the model: a server runs so many steps at a time, a single stream gains little from more (default: %(default)s)",
    )


def load_codec(args: argparse.Namespace, *, server: bool = False) -> Codec:
    """The codec that the options of `add_model_options` ask for; a `server`'s starts at once and gives each thread a worker."""
    from streamcodec.codec import load

    try:
        return load(
            args.model,
            device=args.device,
            engine=args.engine,
            precision=args.precision,
            threads=args.threads,
            workers=args.threads if server else 1,
            wait_for_compile=not server,
        )
    except (RuntimeError, AssertionError) as exc:
        # What torch raises for a device that it does not know or was not built for.
        if args.device == "cpu":
            raise
        raise InputError(f"device {args.device!r} cannot be used: {str(exc).splitlines()[0]}") from exc


def positive_int(text: str) -> int:
    """An argument that must be a whole number above 0."""
    if not text.strip().isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def port(text: str) -> int:
    """An argument that must be a TCP port; 0 leaves the choice to the system."""
    if not text.strip().isdecimal() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port, expected 0 to 65535")
    return int(text)


def number(low: float, high: float) -> Callable[[str], float]:
    """The kind of an argument that must be a number from `low` to `high`."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is no number from {low:g} to {high:g}")
        return value

    return parse
