"""Comfort noise for pauses, of which most packets are not sent: it resembles the quiet packets that were."""

from __future__ import annotations

import numpy as np

from streamcodec.audio.dsp.comfort_noise import ComfortNoise
from streamcodec.audio.dsp.fades import fade_in
from streamcodec.types import Samples, block_shape

__all__ = ["PauseNoise"]

# The maximum length of the noise. A packet of a pause arrives about every second. If no more packets arrive, the noise fades out.
_MAX_S = 2.0
_FADE_S = 0.5
# The noise is generated again after this much more of the pause was received.
_RENEW_EVERY_S = 0.4


class PauseNoise:
    """Learns from quiet packets at `rate` Hz, and makes the noise that a buffer plays if nothing arrives after them.

    Noise is mono: with several `channels` a pause is silent.

    `quiet` is whether the newest packet was quiet; `padded` counts the samples of noise from `pad`.
    """

    def __init__(self, rate: float, channels: int = 1) -> None:
        self.quiet = False
        self.padded = 0
        self._rate = rate
        self._channels = channels
        self._comfort = ComfortNoise(rate)
        self._noise = np.empty(0, np.float32)
        self._learned_since = 0  # samples learned after `_noise` was made
        self._was_padded = False  # after `_noise` was made

    def follow(self, samples: Samples, *, quiet: bool, withheld: int) -> tuple[Samples, Samples | None]:
        """Take the samples of the next packet; return the samples to play, and the noise to play after them if the packet is quiet.

        The first `withheld` samples belong to the packet before.
        """
        if self._channels > 1:
            return samples, None
        out = self._comfort.fade_into(samples)
        if quiet:
            self._comfort.learn(out if self.quiet else out[withheld:])
            self._learned_since += out.size
            if not self.quiet or self._learned_since >= round(_RENEW_EVERY_S * self._rate) or self._was_padded:
                self._renew()
        self.quiet = quiet
        return out, self._noise if quiet else None

    def pad(self, samples: int) -> tuple[Samples, Samples | None]:
        """Make `samples` samples to play until the buffer holds enough, and the noise to play after them; outside a pause, zeros."""
        self._was_padded = True
        if not self.quiet:
            return np.zeros(block_shape(samples, self._channels), np.float32), None
        self.padded += samples
        return self._comfort.go_on(samples), self._noise

    def _renew(self) -> None:
        self._noise, self._learned_since, self._was_padded = self._comfort.make(round(_MAX_S * self._rate)), 0, False
        end = round(_FADE_S * self._rate)
        self._noise[-end:] *= fade_in(end)[::-1]
