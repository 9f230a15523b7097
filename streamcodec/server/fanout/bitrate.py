"""What to do about a listener that falls behind: less bandwidth, then fewer packets, then no connection.

This is arithmetic: times are given, nothing here reads a clock or knows a socket. All times are seconds on one clock. A listener's lag is
the age of the oldest packet that it has not reported, or the audio since that packet, whichever is less: neither a burst nor a publisher
that pauses makes a lag.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["CALM_S", "BitrateController", "Verdict"]

CALM_S = 0.4
"""A listener that keeps up reports every quarter of a second, a round trip late: so much is no lag."""
_RISING_S = 0.6
# The next reports show what a step has brought.
_STEP_DOWN_EVERY_S = 0.5
_STEP_UP_AFTER_S = 5.0
_MAX_STEP_UP_AFTER_S = 60.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is due now: codebooks for the next packets, the age (s) that waiting packets may keep, whether to disconnect."""

    n_q: int
    keep_s: float | None = None
    give_up: bool = False


class BitrateController:
    """Decides for one listener. `ladder` are the numbers of codebooks that it may get, lowest first; `min_n_q` bounds them from below.

    Without `min_n_q` it gets the last of the ladder, or what it asks for, whatever its lag is. The number steps down as soon as the lag
    rises above 0.6 s and the round trip, and then every half second while the lag does not fall. It steps up after 5 s without lag; after
    each step up that was too much the next one comes later, up to 60 s. Packets older than `max_lag_s` are dropped until the oldest is half
    as old. A lag that stays above twice `max_lag_s` for `give_up_s` ends the connection.
    """

    def __init__(self, ladder: Sequence[int], min_n_q: int | None = None, *, max_lag_s: float, give_up_s: float) -> None:
        self._ladder = list(ladder)
        self._rung = self._max_rung = self._min_rung = len(self._ladder) - 1
        if min_n_q is not None:
            self._min_rung = next((i for i, n_q in enumerate(self._ladder) if n_q >= min_n_q), self._max_rung)
        self._max_lag_s = max_lag_s
        self._give_up_s = give_up_s
        self._burst_until = -math.inf
        self._burst_came = False
        self._stepped_at = -math.inf
        self._rose_at = -math.inf
        self._lag_at_step_s = 0.0
        self._calm_since: float | None = None
        self._behind_since: float | None = None
        self._step_up_after_s = _STEP_UP_AFTER_S

    @property
    def n_q(self) -> int:
        """Codebooks for the next packets."""
        return self._ladder[self._rung]

    @property
    def settled(self) -> bool:
        """Whether `look` changes nothing as long as there is no lag."""
        return self._rung == self._max_rung and self._calm_since is not None and self._behind_since is None

    def ask(self, n_q: int) -> None:
        """The listener wants at most `n_q` from now on."""
        self._max_rung = max((i for i, rung in enumerate(self._ladder) if rung <= n_q), default=0)
        self._rung = self._max_rung

    def expect_burst(self, until: float) -> None:
        """A burst of what is old already comes: judge nothing until then, or until the listener has caught up."""
        self._burst_until, self._burst_came = until, False

    def look(self, now: float, lag_s: float, round_trip_s: float = 0.0, waited_s: float = 0.0) -> Verdict:
        """Judge a listener's lag; `waited_s` is how long the oldest packet that could still be dropped has waited."""
        late_s = lag_s - round_trip_s
        if now < self._burst_until:
            if late_s <= CALM_S and self._burst_came:
                self._burst_until = -math.inf
            self._burst_came = late_s > CALM_S
            return Verdict(self.n_q)
        if late_s > _RISING_S:
            self._calm_since = None
            self._step_down(now, late_s)
        elif late_s > CALM_S:
            self._calm_since = None
        else:
            self._step_up(now)
        if lag_s <= 2 * self._max_lag_s:
            self._behind_since = None
        elif self._behind_since is None:
            self._behind_since = now
        give_up = self._behind_since is not None and now - self._behind_since > self._give_up_s
        return Verdict(self.n_q, self._max_lag_s / 2 if waited_s > self._max_lag_s else None, give_up)

    def _step_down(self, now: float, late_s: float) -> None:
        falling = late_s < self._lag_at_step_s and now - self._stepped_at < 10 * _STEP_DOWN_EVERY_S
        if self._rung <= min(self._min_rung, self._max_rung) or now - self._stepped_at < _STEP_DOWN_EVERY_S or falling:
            return
        if now - self._rose_at < 2 * self._step_up_after_s:
            self._step_up_after_s = min(_MAX_STEP_UP_AFTER_S, 2 * self._step_up_after_s)
            self._rose_at = -math.inf
        self._rung -= 1
        self._stepped_at, self._lag_at_step_s = now, late_s

    def _step_up(self, now: float) -> None:
        if self._calm_since is None:
            self._calm_since = now
        if self._rung >= self._max_rung or now - self._calm_since < self._step_up_after_s:
            return
        if math.isfinite(self._rose_at):
            # The last step up has held.
            self._step_up_after_s = max(_STEP_UP_AFTER_S, self._step_up_after_s / 2)
        self._rung += 1
        self._calm_since = self._rose_at = now
