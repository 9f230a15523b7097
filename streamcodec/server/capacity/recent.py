"""The newest of some durations, and their quantiles: times are given, nothing here reads a clock."""

from __future__ import annotations

from collections import deque
from itertools import takewhile

__all__ = ["NEWEST_S", "WINDOW_S", "LoopLag", "Recent"]

NEWEST_S, WINDOW_S = 1.0, 2.0
_MIN_VALUES = 20


class Recent:
    """Durations (s), each with the time at which it was noted, the newest 4,096 of them."""

    def __init__(self) -> None:
        self._noted: deque[tuple[float, float]] = deque(maxlen=4096)

    def note(self, now: float, seconds: float) -> None:
        """A duration of `seconds`. Calls must come in the order of their times."""
        self._noted.append((now, seconds))

    def quantiles(self, now: float, *shares: float, window_s: float = WINDOW_S) -> list[float]:
        """Quantiles of what was noted within `window_s`; 0 where that was too little."""
        recent = sorted(seconds for _, seconds in takewhile(lambda entry: entry[0] > now - window_s, reversed(self._noted)))
        if len(recent) < _MIN_VALUES:
            return [0.0] * len(shares)
        return [recent[min(len(recent) - 1, int(share * len(recent)))] for share in shares]

    def worst(self, now: float, share: float) -> float:
        """A quantile in the newest second or in the whole window, whichever is longer: a lull does not end what was."""
        return max(self.quantiles(now, share, window_s=window_s)[0] for window_s in (NEWEST_S, WINDOW_S))


class LoopLag:
    """How late an event loop's turns begin: what comes from a socket has waited as long before anybody reads it.

    A tick is due every `every_s`. One that a busy loop lets come late is noted in `recent`, and so are those that fell due meanwhile: else
    a loop that stands still for a second would count as one late tick among many.
    """

    def __init__(self, recent: Recent, now: float, every_s: float = 0.04) -> None:
        self._recent = recent
        self._every_s = every_s
        self._due = now + every_s

    def tick(self, now: float) -> float:
        """Note how late it is; returns when the next tick is due."""
        self._due = max(self._due, now - WINDOW_S)
        while self._due <= now:
            self._recent.note(now, now - self._due)
            self._due += self._every_s
        return self._due
