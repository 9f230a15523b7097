"""When a process that has died is started again: at once, and after a longer and longer wait where it dies again and again."""

from __future__ import annotations

__all__ = ["FAILURES", "Restarts"]

_FIRST_S = 0.25
_MOST_S = 30.0
_WELL_S = 60.0
FAILURES = 6
"""So often in a row a process may die soon; where no other one runs then, all is over."""


class Restarts:
    """The restarts of one process; it reads no clock."""

    def __init__(self) -> None:
        self.count = 0
        self._failures = 0

    @property
    def hopeless(self) -> bool:
        """Whether it has died soon too often in a row."""
        return self._failures >= FAILURES

    def died(self, lasted_s: float) -> float:
        """It has died `lasted_s` after it was started: how long to wait (s) before it is started again."""
        self.count += 1
        self._failures = 1 if lasted_s >= _WELL_S else self._failures + 1
        return min(_MOST_S, _FIRST_S * 2.0 ** (self._failures - 1))
