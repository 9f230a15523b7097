"""What decoding takes, so that a playout can plan for it: this is the machine's own time and says nothing about the network."""

from __future__ import annotations

from collections import deque

import numpy as np

__all__ = ["DecodingTime"]

_SHARE = 0.9


class DecodingTime:
    """Plans as much time for decoding a packet as nine in ten packets of the last `window_s` seconds took.

    Packets are decoded one after the other. A packet that waits for the one before it takes no longer for that.
    """

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._taken: deque[tuple[float, float]] = deque()  # (arrival, seconds)
        self._ready: float | None = None

    def add(self, arrived: float, waited_s: float) -> tuple[float, float]:
        """Add a packet that arrived at `arrived` and whose samples were there `waited_s` later (seconds).

        Returns how much longer than planned it waited, and how much longer than planned its own decoding took (s; negative: less).
        """
        ready = arrived + waited_s
        own_s = waited_s if self._ready is None else min(waited_s, ready - self._ready)
        self._ready = ready
        self._taken.append((arrived, own_s))
        while self._taken[0][0] < arrived - self._window_s:
            self._taken.popleft()
        planned_s = float(np.quantile([taken for _, taken in self._taken], _SHARE, method="higher"))
        return waited_s - planned_s, own_s - planned_s
