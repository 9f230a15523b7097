"""Takes the cores that nobody else wants: a niced run of two threads on one free core is several times slower than one of one.

A parallel loop ends when its slowest thread does, and a thread without a core of its own holds up, at every layer, all the others.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

__all__ = ["FreeCores", "busy_seconds"]


def busy_seconds() -> float | None:
    """Processor seconds that this machine has spent on anything since it started; None where the system does not tell."""
    try:
        first = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()
    except OSError:
        return None
    user, nice, system, _idle, _waiting, hardware, software, stolen = map(int, first[1:9])
    return (user + nice + system + hardware + software + stolen) / os.sysconf("SC_CLK_TCK")


class FreeCores:
    """Counts the cores that other processes left free since the last look, from 1 to `most`."""

    def __init__(
        self,
        most: int,
        cores: int | None = None,
        *,
        busy: Callable[[], float | None] = busy_seconds,
        own: Callable[[], float] = time.process_time,
        wall: Callable[[], float] = time.monotonic,
    ) -> None:
        self.most = most
        self.cores = cores or os.cpu_count() or most
        self._busy, self._own, self._wall = busy, own, wall
        self._last = self._look()

    def _look(self) -> tuple[float | None, float, float]:
        return self._busy(), self._own(), self._wall()

    def count(self) -> int:
        """How many threads to run until the next look; a tenth or two of a core that others use is no reason to give it up."""
        (before, own_before, then), (busy, own, now) = self._last, self._look()
        self._last = busy, own, now
        if busy is None or before is None or now <= then:
            return self.most
        others = (busy - before - (own - own_before)) / (now - then)
        return max(1, min(self.most, int(self.cores - others + 0.2)))
