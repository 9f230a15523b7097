"""Options that every client has."""

from __future__ import annotations

import argparse
import os

__all__ = ["add_connection_options", "positive_int"]


def add_connection_options(parser: argparse.ArgumentParser) -> None:
    """Where to connect, under which name, and how much to say."""
    parser.add_argument("--server", metavar="URL", default="ws://127.0.0.1:8765", help="the server (default: %(default)s)")
    parser.add_argument("--stream", metavar="NAME", default="live", help="the stream's name (default: %(default)s)")
    parser.add_argument(
        "--token", default=os.environ.get("STREAMCODEC_TOKEN"), help="what the server asks for, if it does (default: $STREAMCODEC_TOKEN)"
    )
    parser.add_argument("--no-retry", action="store_true", help="give up when the connection fails instead of trying again")
    parser.add_argument("--quiet", action="store_true", help="no live line")


def positive_int(text: str) -> int:
    """An argument that must be a whole number above 0."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not above 0")
    return value
