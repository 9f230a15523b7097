"""Plays a little faster or slower at the same pitch, in quiet passages first."""

from __future__ import annotations

import numpy as np

from streamcodec.audio.dsp.wsola import lengthen, shorten
from streamcodec.types import Samples

__all__ = ["TempoAdjuster"]


class TempoAdjuster:
    """Shortens or lengthens packets at `rate` Hz by at most the share `fastest`, if the delay is off by more than `tolerance_s`.

    `shortened` and `lengthened` count the samples that were removed and inserted.
    """

    def __init__(self, rate: float, fastest: float, tolerance_s: float) -> None:
        self.shortened = self.lengthened = 0
        self._rate = rate
        self._fastest = fastest
        self._tolerance_s = tolerance_s
        self._allowance = 0.0
        self._loudness = 0.0

    def adjust(self, samples: Samples, excess_s: float) -> Samples:
        """Shorten a packet, [T] or [C, T], by up to `excess_s`, or lengthen it if that is negative, as far as it is allowed.

        Later packets may use the allowance that earlier ones did not use, up to 15 ms.
        """
        loudness = float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))
        self._loudness += (loudness - self._loudness) * (0.5 if loudness > self._loudness else 0.02)
        quiet = loudness < 1e-3 or loudness < 0.1 * self._loudness
        length = samples.shape[-1]
        earned = self._fastest * length
        self._allowance = min(self._allowance + earned, max(0.015 * self._rate, earned))
        needed_s = abs(excess_s)
        if needed_s < (self._tolerance_s / 2 if quiet else self._tolerance_s):
            return samples
        # Up to half of a quiet packet may be removed, because a cut there is inaudible.
        max_samples = min(round(needed_s * self._rate), length // 2 if quiet else int(self._allowance))
        # The larger the excess, the less similar the two ends of a cut need to be.
        similarity = 0.0 if quiet else 0.7 if needed_s < 0.1 else 0.3
        adjusted = (shorten if excess_s > 0 else lengthen)(samples, max_samples, self._rate, similarity=similarity)
        change = adjusted.shape[-1] - length
        if not quiet:
            self._allowance -= abs(change)
        self.shortened -= min(0, change)
        self.lengthened += max(0, change)
        return adjusted
