"""Ties a process to the one that has started it: the kernel ends it where its parent is gone, however that came.

As a program it does that for another one, which it becomes: `python tether.py PARENT-PID PROGRAM ARGUMENT...`. Standard library alone.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

__all__ = ["end_with_parent"]

_PR_SET_PDEATHSIG = 1


def end_with_parent(parent: int) -> None:
    """Let the kernel kill this process when `parent`, which has started it, ends; end it now where that has happened already."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


if __name__ == "__main__":
    end_with_parent(int(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])
