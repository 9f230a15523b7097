"""When a microphone's samples were captured, from what the sound system says of each block: counted in samples, since those come evenly.

What a host says jumps where nothing else does: PulseAudio behind ALSA claims 100 to 170 ms for the first second and 10 from then on. A
listener would take the packets of that second for late ones, and hold everything back as long.
"""

from __future__ import annotations

__all__ = ["CaptureClock"]

_SLEW = 0.0005
_LOST_S = 0.1


class CaptureClock:
    """Capture times of a device's blocks at `rate` Hz, whose stream says that its latency is `latency_s`.

    A block is taken to be no older than twice that and its own length. Behind the first block the time goes on by the samples' count, and
    what is heard of further blocks moves it by at most 0.05%; only what cannot be right any more sets it anew: lost input, or 0.1 s off.
    """

    def __init__(self, rate: float, latency_s: float) -> None:
        self._rate = rate
        self._latency_s = latency_s
        self._next_s: float | None = None

    def captured(self, now_s: float, age_s: float, frames: int, *, lost: bool = False) -> float:
        """When a block's first sample was captured: it came `now_s`, the host says `age_s` ago; `lost` that some went before it."""
        duration_s = frames / self._rate
        # Some hosts give no usable times: then a block is as old as it is long.
        age_s = min(max(age_s, duration_s), 2 * self._latency_s + duration_s) if 0.0 < age_s < 1.0 else duration_s
        said_s = now_s - age_s
        if self._next_s is None or lost or abs(said_s - self._next_s) > _LOST_S:
            self._next_s = said_s
        max_s = _SLEW * duration_s
        captured_s = self._next_s + min(max(said_s - self._next_s, -max_s), max_s)
        self._next_s = captured_s + duration_s
        return captured_s
