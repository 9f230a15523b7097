"""Estimates when a microphone's samples were captured, from the times that the sound system reports and from the count of the samples.

The samples come at a steady rate, but the reported times can jump. PulseAudio through ALSA reports a latency of 100 to 170 ms for the first
second and of 10 ms afterwards. A listener would take the packets of that first second for late ones and would delay all audio by as much.
"""

from __future__ import annotations

__all__ = ["CaptureClock"]

_SLEW = 0.0005
_LOST_S = 0.1


class CaptureClock:
    """Capture times of a device's blocks at `rate` Hz; `latency_s` is the latency that the device's stream reports.

    A block's age is limited to twice that latency plus the block's length. After the first block, the time advances by the number of
    samples. The reported times of later blocks correct it by at most 0.05%. It is reset only if input was lost or if it is off by more
    than 0.1 s.
    """

    def __init__(self, rate: float, latency_s: float) -> None:
        self._rate = rate
        self._latency_s = latency_s
        self._next_s: float | None = None

    def captured(self, now_s: float, age_s: float, frames: int, *, lost: bool = False) -> float:
        """The capture time (s) of the first sample of a block of `frames` that arrived at `now_s`.

        `age_s` is the age of that sample as the host reports it. `lost` means that input before this block was lost.
        """
        duration_s = frames / self._rate
        # Some hosts report no usable times. Then the age is the block's duration.
        age_s = min(max(age_s, duration_s), 2 * self._latency_s + duration_s) if 0.0 < age_s < 1.0 else duration_s
        reported_s = now_s - age_s
        if self._next_s is None or lost or abs(reported_s - self._next_s) > _LOST_S:
            self._next_s = reported_s
        max_change_s = _SLEW * duration_s
        captured_s = self._next_s + min(max(reported_s - self._next_s, -max_change_s), max_change_s)
        self._next_s = captured_s + duration_s
        return captured_s
