"""Playing a little faster or slower at the same pitch, in quiet passages first."""

from __future__ import annotations

import numpy as np

from streamcodec.audio.dsp.wsola import lengthen, shorten
from streamcodec.types import Samples

__all__ = ["TempoAdjuster"]


class TempoAdjuster:
    """Shortens or lengthens packets at `rate` Hz by at most the share `fastest`, where they are off by more than `tolerance_s`.

    `shortened` and `lengthened` count the samples taken out and put in.
    """

    def __init__(self, rate: float, fastest: float, tolerance_s: float) -> None:
        self.shortened = self.lengthened = 0
        self._rate = rate
        self._fastest = fastest
        self._tolerance_s = tolerance_s
        self._allowance = 0.0
        self._loudness = 0.0

    def adjust(self, samples: Samples, excess_s: float) -> Samples:
        """Change a packet [T] by what is needed and allowed; what one packet does not use the next ones may, up to 15 ms."""
        loudness = float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))
        self._loudness += (loudness - self._loudness) * (0.5 if loudness > self._loudness else 0.02)
        quiet = loudness < 1e-3 or loudness < 0.1 * self._loudness
        gained = self._fastest * samples.size
        self._allowance = min(self._allowance + gained, max(0.015 * self._rate, gained))
        needed_s = abs(excess_s)
        if needed_s < (self._tolerance_s / 2 if quiet else self._tolerance_s):
            return samples
        # In a quiet passage half of it may go: a cut there is not heard.
        max_samples = min(round(needed_s * self._rate), samples.size // 2 if quiet else int(self._allowance))
        # The further off, the less similar the two ends of a cut need to be.
        similarity = 0.0 if quiet else 0.7 if needed_s < 0.1 else 0.3
        adjusted = (shorten if excess_s > 0 else lengthen)(samples, max_samples, self._rate, similarity=similarity)
        change = adjusted.size - samples.size
        if not quiet:
            self._allowance -= abs(change)
        self.shortened -= min(0, change)
        self.lengthened += max(0, change)
        return adjusted
