"""Freed memory stays with the run: glibc gives big blocks back to the system at once, and each step would pay for fresh pages again."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable

__all__ = ["keep_freed"]

# From glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4


def keep_freed(mallopt: Callable[[int, int], int] | None = None) -> bool:
    """Let this process keep what it frees, for good; whether the system's allocator can be told so (glibc's can)."""
    mallopt = mallopt or _mallopt()
    if mallopt is None:
        return False
    settings = {_MMAP_MAX: 0, _TRIM_THRESHOLD: 2**31 - 1, _TOP_PAD: 64 * 2**20}
    taken = [mallopt(option, value) for option, value in settings.items()]
    return all(taken)


def _mallopt() -> Callable[[int, int], int] | None:
    return getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
