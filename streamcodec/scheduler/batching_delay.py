"""Whether a batch waits for more rows. It reads no clock and runs nothing.

A step has a cost of its own beside that of its rows. So where steps of one row each would take most of the engine's time, a batch that
waits some milliseconds for more rows takes less of it. Where the engine has time, a wait would only be latency.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass

__all__ = ["BatchingDelay"]

_RATE_OVER_S = 1.0
_SMOOTHING = 0.1
# The part of the engine's time that steps of one row each would take: no wait up to the first, the longest wait from the second on.
_IDLE_SHARE, _BUSY_SHARE = 0.6, 0.9
_MAX_KINDS = 32  # remembered: last steps of streams come in many lengths
_WORTH_IT = 0.8  # of a lone row's time: a row that takes more in a batch gains nothing that is worth a wait


@dataclass
class _Traffic:
    """What is known of the steps of one key: rows a second at the time `at`, and seconds of a lone row and of a row among others."""

    rate: float = 0.0
    at: float = -math.inf
    lone_s: float | None = None
    shared_s: float | None = None

    def rate_at(self, now: float) -> float:
        return self.rate * math.exp(-max(0.0, now - self.at) / _RATE_OVER_S)


class BatchingDelay:
    """How much of the time that a row may wait for others it waits, for an engine that runs `workers` steps at a time."""

    def __init__(self, workers: int = 1) -> None:
        self._workers = workers
        self._kinds: dict[Hashable, _Traffic] = {}

    def arrived(self, key: Hashable, due: float) -> None:
        """Record that a row of `key` is due at the time `due` (seconds of any monotonic clock)."""
        kind = self._kind(key)
        kind.rate = kind.rate_at(due) + 1 / _RATE_OVER_S
        kind.at = max(kind.at, due)

    def ran(self, key: Hashable, rows: int, seconds: float) -> None:
        """Record that a step with `rows` rows of `key` took `seconds`."""
        kind = self._kind(key)
        if rows == 1:
            kind.lone_s = _average(kind.lone_s, seconds)
        else:
            kind.shared_s = _average(kind.shared_s, seconds / rows)

    def share(self, key: Hashable, now: float) -> float:
        """From 0, where a batch of `key` goes at once, to 1, where its rows wait for others as long as they may."""
        kind = self._kinds.get(key)
        if kind is None or kind.lone_s is None or (kind.shared_s is not None and kind.shared_s > _WORTH_IT * kind.lone_s):
            return 0.0
        load = sum(each.rate_at(now) * (each.lone_s or 0.0) for each in self._kinds.values()) / self._workers
        return min(1.0, max(0.0, (load - _IDLE_SHARE) / (_BUSY_SHARE - _IDLE_SHARE)))

    def _kind(self, key: Hashable) -> _Traffic:
        if key not in self._kinds:
            if len(self._kinds) == _MAX_KINDS:
                del self._kinds[min(self._kinds, key=lambda each: self._kinds[each].at)]
            self._kinds[key] = _Traffic()
        return self._kinds[key]


def _average(known: float | None, value: float) -> float:
    return value if known is None else known + _SMOOTHING * (value - known)
