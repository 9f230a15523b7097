"""What ended streams leave goes back to the system: glibc keeps freed memory between blocks in use, 100 MiB and more after a busy hour."""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Callable

__all__ = ["MemoryReturn"]


class MemoryReturn:
    """Calls `trim` after streams have ended, at most every `every_s` seconds: in an idle moment, or as late again without one.

    It takes some 10 ms. The default is glibc's `malloc_trim`; where there is none, nothing needs to be done.
    """

    def __init__(
        self, every_s: float = 30.0, trim: Callable[[], object] | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._every_s = every_s
        self._trim = trim or _malloc_trim()
        self._clock = clock
        self._last = clock()
        self._left = False

    def left(self) -> None:
        """A stream ended."""
        self._left = True

    def check(self, *, idle: bool) -> None:
        """Trim if it is time; `idle` says that nothing is due just now."""
        if self._left and self._clock() - self._last >= (self._every_s if idle else 2 * self._every_s):
            self._trim()
            self._left, self._last = False, self._clock()


def _malloc_trim() -> Callable[[], object]:
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            return lambda: trim(0)
    return lambda: None
