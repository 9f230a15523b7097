"""How late packets come: a transit time means nothing by itself, but against the quickest of the last seconds it says how late one is."""

from __future__ import annotations

from collections import deque

import numpy as np

from streamcodec.errors import InputError

__all__ = ["JitterEstimator"]


class JitterEstimator:
    """How late packets come, in seconds, by those of the last `window_s` seconds.

    `add` takes when a packet came and when its sound was captured, on any two clocks: their offset and a slow drift fall out, since only
    differences to the quickest packet of the window count.

    Two sorts of packets are left out of `quantile`, or one long stall would make everything behind it wait: what is later than `max_s` was
    beyond any buffer, and what catches up, in a burst or bit by bit, was held up by one stall, of which its first packet tells.
    """

    def __init__(self, *, window_s: float = 10.0, max_s: float = 0.25) -> None:
        if window_s <= 0.0 or max_s <= 0.0:
            raise InputError(f"window_s is {window_s} and max_s {max_s}, expected both above 0")
        self._window_s = window_s
        self._max_s = max_s
        self._last: tuple[float, float] | None = None
        self._transits: deque[tuple[float, float]] = deque()  # when, how long
        self._quickest: deque[tuple[float, float]] = deque()  # those that no later one beats, ascending

    def add(self, arrived: float, captured: float) -> float:
        """Note a packet (seconds) and return how late it is: 0 for the quickest."""
        transit = arrived - captured
        while self._quickest and self._quickest[-1][1] >= transit:
            self._quickest.pop()
        # Closer on the heels of the one before than the two were spoken: a backlog is worked off, at once or bit by bit.
        in_burst = self._last is not None and arrived - self._last[0] < 0.75 * (captured - self._last[1])
        self._last = arrived, captured
        if not in_burst or not self._transits:
            self._transits.append((arrived, transit))
        self._quickest.append((arrived, transit))
        for queue in (self._transits, self._quickest):
            while queue and queue[0][0] < arrived - self._window_s:
                queue.popleft()
        return transit - self._quickest[0][1]

    def quantile(self, share: float) -> float:
        """The lateness that `share` of the packets keep within; 0 before the first."""
        if not self._transits:
            return 0.0
        late = np.fromiter((transit for _, transit in self._transits), np.float64) - self._quickest[0][1]
        kept = late[late <= self._max_s]
        if not kept.size:
            return 0.0
        # Not interpolated: between a packet that came in time and one that did not there is nothing to be had.
        return float(np.quantile(kept, share, method="higher"))
