"""The target delay of a playout: a floor plus the jitter of the packets."""

from __future__ import annotations

from streamcodec.audio.playout.jitter_estimator import JitterEstimator

__all__ = ["TargetDelay"]


class TargetDelay:
    """The delay that is enough for `share` of the packets of the last `window_s` seconds, between `floor_s` and `ceiling_s`.

    `target_s` is that delay. `jitter_s` is its part that is due to the lateness of the packets.
    """

    def __init__(self, floor_s: float, ceiling_s: float, share: float, window_s: float) -> None:
        self.target_s = self._floor_s = floor_s
        self.jitter_s = 0.0
        self._ceiling_s = ceiling_s
        self._share = share
        self._jitter = JitterEstimator(window_s=window_s, max_s=ceiling_s)
        self._captured: float | None = None

    def add(self, arrived: float, captured: float, duration_s: float) -> tuple[float, float]:
        """Take a packet's times (seconds; the clocks may differ); return how late it is and how much audio is missing before it (s)."""
        late_s = self._jitter.add(arrived, captured)
        missing_s = 0.0 if self._captured is None else captured - self._captured - duration_s
        self._captured = captured
        self.update()
        return late_s, missing_s

    def update(self) -> None:
        """Update the target from the current jitter estimate."""
        self.jitter_s = self._jitter.quantile(self._share)
        self.target_s = min(self._ceiling_s, self._floor_s + self.jitter_s)
