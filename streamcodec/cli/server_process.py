"""`streamcodec server-process`: one of the processes of `serve --processes N`, which starts it and tells it what it is."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Coroutine
from typing import Any

__all__ = ["server_process"]


def server_process(number: int, parent: int) -> Coroutine[Any, Any, int]:  # noqa: ARG001 - `number` is for lists of processes
    """Serve as process NUMBER of the server whose `serve` is the process PARENT."""
    from streamcodec.server.processes.tether import end_with_parent

    end_with_parent(parent)
    # What comes is from `serve`, which has started this process, and from nobody else.
    settings, origins, part = pickle.load(sys.stdin.buffer)
    part.share.take()
    from streamcodec.cli.serving import run_server

    return run_server(settings, origins, part)
