"""Estimates how late packets arrive: the lateness of a packet is its transit time minus the shortest one of the last seconds."""

from __future__ import annotations

from collections import deque

import numpy as np

from streamcodec.errors import InputError

__all__ = ["JitterEstimator"]


class JitterEstimator:
    """The lateness of the packets of the last `window_s` seconds, in seconds.

    `add` takes the times when a packet arrived and when its sound was captured, on any two clocks. Only differences to the fastest packet
    of the window count, so an offset between the clocks and a slow drift cancel out.

    `quantile` leaves out two kinds of packets, because otherwise one long stall would delay everything after it. The first kind is later
    than `max_s`, which no buffer could bridge. The second kind catches up after a stall, in a burst or gradually: one stall delayed all of
    these packets, and the first of them already counts for it.
    """

    def __init__(self, *, window_s: float = 10.0, max_s: float = 0.25) -> None:
        if window_s <= 0.0 or max_s <= 0.0:
            raise InputError(f"window_s is {window_s} and max_s {max_s}, expected both above 0")
        self._window_s = window_s
        self._max_s = max_s
        self._last: tuple[float, float] | None = None
        self._transits: deque[tuple[float, float]] = deque()  # (arrival, transit time)
        self._minima: deque[tuple[float, float]] = deque()  # (arrival, transit time) of packets with no faster one after them, ascending

    def add(self, arrived: float, captured: float) -> float:
        """Add a packet's times (seconds); return how late it is: 0 for the fastest of the window."""
        transit = arrived - captured
        while self._minima and self._minima[-1][1] >= transit:
            self._minima.pop()
        # If a packet arrives sooner after the previous one than it was captured after it, a backlog is being delivered.
        in_burst = self._last is not None and arrived - self._last[0] < 0.75 * (captured - self._last[1])
        self._last = arrived, captured
        if not in_burst or not self._transits:
            self._transits.append((arrived, transit))
        self._minima.append((arrived, transit))
        for queue in (self._transits, self._minima):
            while queue and queue[0][0] < arrived - self._window_s:
                queue.popleft()
        return transit - self._minima[0][1]

    def quantile(self, share: float) -> float:
        """The lateness that `share` of the packets do not exceed; 0 before the first packet."""
        if not self._transits:
            return 0.0
        late = np.fromiter((transit for _, transit in self._transits), np.float64) - self._minima[0][1]
        counted = late[late <= self._max_s]
        if not counted.size:
            return 0.0
        # No interpolation: a value between two packets' lateness would be too small for the later one and larger than the other needs.
        return float(np.quantile(counted, share, method="higher"))
