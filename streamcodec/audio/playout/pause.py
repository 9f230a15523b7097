"""What is played in a pause of which most packets were left out: comfort noise like the quiet packets that came."""

from __future__ import annotations

import numpy as np

from streamcodec.audio.dsp.comfort_noise import ComfortNoise
from streamcodec.audio.dsp.fades import fade_in
from streamcodec.types import Samples

__all__ = ["PauseNoise"]

# The longest stretch of comfort noise: one packet of a pause comes about every second. Where none comes any more, the noise fades out.
_MAX_S = 2.0
_FADE_S = 0.5
# The noise is made anew when this much more of the pause is known.
_RENEW_EVERY_S = 0.4


class PauseNoise:
    """Learns from quiet packets at `rate` Hz, and gives the noise that a buffer goes on with behind each of them.

    `quiet` says whether the newest packet was quiet; `padded` counts the samples of noise from `pad`.
    """

    def __init__(self, rate: float) -> None:
        self.quiet = False
        self.padded = 0
        self._rate = rate
        self._comfort = ComfortNoise(rate)
        self._noise = np.empty(0, np.float32)
        self._learned = 0
        self._used = False

    def follow(self, samples: Samples, *, quiet: bool, withheld: int) -> tuple[Samples, Samples | None]:
        """Take the samples [T] of the next packet; return them as they are played, and the noise to go on with, if the packet was quiet.

        The first `withheld` samples are the rest of the packet before.
        """
        out = self._comfort.fade_into(samples)
        if quiet:
            self._comfort.learn(out if self.quiet else out[withheld:])
            self._learned += out.size
            if not self.quiet or self._learned >= round(_RENEW_EVERY_S * self._rate) or self._used:
                self._renew()
        self.quiet = quiet
        return out, self._noise if quiet else None

    def pad(self, samples: int) -> tuple[Samples, Samples | None]:
        """What is played for `samples` until there is enough to go on with, and the noise behind it: zeros where no pause is."""
        self._used = True
        if not self.quiet:
            return np.zeros(samples, np.float32), None
        self.padded += samples
        return self._comfort.go_on(samples), self._noise

    def _renew(self) -> None:
        self._noise, self._learned, self._used = self._comfort.make(round(_MAX_S * self._rate)), 0, False
        end = round(_FADE_S * self._rate)
        self._noise[-end:] *= fade_in(end)[::-1]
