"""`streamcodec server-process`: one of the processes of `serve --processes N`, which starts it and tells it what it is."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Coroutine
from typing import Annotated, Any

import typer

__all__ = ["server_process"]


def server_process(
    number: Annotated[int, typer.Argument(metavar="NUMBER", help="Which one, for whoever lists processes.")],  # noqa: ARG001
    parent: Annotated[int, typer.Argument(metavar="PARENT", help="The process of `serve`, with which it ends.")],
) -> Coroutine[Any, Any, int]:
    """Serve as process NUMBER of the server whose `serve` is the process PARENT."""
    from streamcodec.server.processes.tether import end_with_parent

    end_with_parent(parent)
    # What comes is from `serve`, which has started this process, and from nobody else.
    settings, origins, part = pickle.load(sys.stdin.buffer)
    part.share.take()
    from streamcodec.cli.serving import run_server

    return run_server(settings, origins, part)
