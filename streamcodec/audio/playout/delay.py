"""How much audio a playout holds back: a floor, and as much as the packets' jitter asks for."""

from __future__ import annotations

from streamcodec.audio.playout.jitter_estimator import JitterEstimator

__all__ = ["TargetDelay"]


class TargetDelay:
    """The delay that `share` of the packets of the last `window_s` seconds need: at least `floor_s`, at most `ceiling_s`.

    `target_s` is that delay, `jitter_s` the lateness in it.
    """

    def __init__(self, floor_s: float, ceiling_s: float, share: float, window_s: float) -> None:
        self.target_s = self._floor_s = floor_s
        self.jitter_s = 0.0
        self._ceiling_s = ceiling_s
        self._share = share
        self._jitter = JitterEstimator(window_s=window_s, max_s=ceiling_s)
        self._captured: float | None = None

    def add(self, arrived: float, captured: float, duration_s: float) -> tuple[float, float]:
        """Take a packet's times (seconds, each on a clock of its own); return how late it is, and how much is missing before it."""
        late_s = self._jitter.add(arrived, captured)
        missing_s = 0.0 if self._captured is None else captured - self._captured - duration_s
        self._captured = captured
        self.update()
        return late_s, missing_s

    def update(self) -> None:
        """Set the target anew from what is known."""
        self.jitter_s = self._jitter.quantile(self._share)
        self.target_s = min(self._ceiling_s, self._floor_s + self.jitter_s)
