"""The target delay of a playout: what the jitter of the packets asks for, and at least a floor."""

from __future__ import annotations

from streamcodec.audio.playout.jitter_estimator import JitterEstimator

__all__ = ["TargetDelay"]


class TargetDelay:
    """The lateness that `share` of the packets of the last `window_s` seconds do not exceed, plus `reserve_s` for the others.

    `target_s` is that delay, at least `floor_s`, and `block_s`; all in all at most `ceiling_s`. `jitter_s` is the lateness alone.
    """

    def __init__(self, floor_s: float, ceiling_s: float, reserve_s: float, block_s: float, share: float, window_s: float) -> None:
        self.target_s = floor_s + block_s
        self.jitter_s = 0.0
        self._floor_s = floor_s
        self._ceiling_s = ceiling_s
        self._reserve_s = reserve_s
        self._block_s = block_s
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
        self.target_s = min(self._ceiling_s, max(self._floor_s, self.jitter_s + self._reserve_s) + self._block_s)
