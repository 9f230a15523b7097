"""Returns the memory of ended streams to the system: glibc keeps freed memory between used blocks, over 100 MiB after a busy hour."""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Callable

__all__ = ["MemoryReturn"]


class MemoryReturn:
    """Calls `trim` after streams have ended, at most once every `every_s` seconds.

    It waits for an idle moment, but calls `trim` without one after twice that time. `trim` takes about 10 ms. The default is glibc's
    `malloc_trim`. Without glibc, the default does nothing.
    """

    def __init__(
        self, every_s: float = 30.0, trim: Callable[[], object] | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._every_s = every_s
        self._trim = trim or _malloc_trim()
        self._clock = clock
        self._last = clock()
        self._has_ended = False

    def stream_ended(self) -> None:
        """Note that a stream has ended."""
        self._has_ended = True

    def check(self, *, idle: bool) -> None:
        """Trim if it is time; `idle` means that nothing is due now."""
        if self._has_ended and self._clock() - self._last >= (self._every_s if idle else 2 * self._every_s):
            self._trim()
            self._has_ended, self._last = False, self._clock()


def _malloc_trim() -> Callable[[], object]:
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            return lambda: trim(0)
    return lambda: None
