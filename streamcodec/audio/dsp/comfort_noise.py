"""Comfort noise: what a pause sounds like where nothing of it was sent, made from the last that was; it knows no clock and no codec.

    the last quiet samples -> their mean power spectrum and level -> noise of any length with random phases

Phases drawn anew for the whole length leave nothing in it that could be heard to come again, as repeated excerpts would.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from streamcodec.audio.dsp.fades import fade_in
from streamcodec.types import Samples

__all__ = ["ComfortNoise"]

_KEEP_S = 0.5
_WINDOW_S = 0.04
_FADE_S = 0.005
_MAX_INTERVAL_S = 10.0  # what is longer repeats itself, without a seam


class ComfortNoise:
    """Noise like the quiet samples learned last, at `rate` Hz and at their level; equal seeds make equal noise."""

    def __init__(self, rate: float, seed: int = 0) -> None:
        self._keep = round(_KEEP_S * rate)
        self._window = round(_WINDOW_S * rate)
        self._fade = round(_FADE_S * rate)
        self._longest = round(_MAX_INTERVAL_S * rate)
        self._chance = np.random.default_rng(seed)
        self._kept = np.empty(0, np.float32)
        self._tail = np.empty(0, np.float32)

    def learn(self, samples: Samples) -> None:
        """Take quiet samples [T]; half a second of the last ones counts."""
        self._kept = np.concatenate([self._kept, samples])[-self._keep :]

    def make(self, samples: int) -> Samples:
        """Noise [samples]; zeros where nothing was learned."""
        if not self._kept.size or samples <= 0:
            return np.zeros(max(0, samples), np.float32)
        period = min(samples, self._longest)
        period += -period % 512  # a length that transforms fast
        frequencies, powers, mean = self._spectrum()
        power = np.interp(np.fft.rfftfreq(period), frequencies, powers)
        bins = self._chance.standard_normal((2, power.size))
        noise = np.fft.irfft((bins[0] + 1j * bins[1]) * np.sqrt(power), period)
        # As it stands its power is 4 sum(power) / period^2: two for the two parts of each bin, two for the two signs of its frequency.
        noise *= period * math.sqrt(float(np.var(self._kept, dtype=np.float64)) / max(1e-30, 4 * float(power[1:].sum())))
        return np.asarray(np.resize(noise + mean, samples), np.float32)

    def go_on(self, samples: int) -> Samples:
        """Noise [samples] that goes on from the last samples that were learned, without a step."""
        noise = self.make(samples + self._fade)
        fade = min(self._fade, samples, self._kept.size - 1)
        if fade > 0:
            # Reflected in its last value, what was goes on with the same slope.
            last = self._kept[-1]
            noise[:fade] = noise[:fade] * fade_in(fade) + (2 * last - self._kept[-2 : -2 - fade : -1]) * fade_in(fade)[::-1]
        noise, self._tail = noise[:samples], noise[samples:]
        return noise

    def fade_into(self, samples: Samples) -> Samples:
        """What comes behind the last noise of `go_on`, with that fading out under its beginning; once."""
        fade = min(self._tail.size, samples.size)
        if not fade:
            return samples
        out = samples.copy()
        out[:fade] += self._tail[:fade] * fade_in(fade)[::-1]
        self._tail = self._tail[:0]
        return out

    def _spectrum(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], float]:
        """Frequencies (of the rate) and the mean power there, by Welch's method; and the mean of the kept samples."""
        size = min(self._window, self._kept.size)
        mean = float(np.mean(self._kept, dtype=np.float64))
        frames = np.lib.stride_tricks.sliding_window_view(self._kept - mean, size)[:: max(1, size // 4)]
        powers = np.mean(np.abs(np.fft.rfft(frames * np.hanning(size + 2)[1:-1], axis=1)) ** 2, axis=0)
        return np.asarray(np.fft.rfftfreq(size), np.float64), np.asarray(powers, np.float64), mean
