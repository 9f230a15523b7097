"""Comfort noise: it fills a pause whose packets were not sent, and resembles the last quiet samples that were.

    the last quiet samples -> their mean power spectrum and level -> noise of any length with random phases

The phases are random over the whole length, so the noise has no audible repetition. Repeated excerpts of the samples would have one.
This file uses neither a clock nor a codec.
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
_MAX_PERIOD_S = 10.0  # longer noise repeats itself, without a seam


class ComfortNoise:
    """Noise with the spectrum and level of the quiet samples that were learned last, at `rate` Hz; equal seeds give equal noise."""

    def __init__(self, rate: float, seed: int = 0) -> None:
        self._max_learned = round(_KEEP_S * rate)
        self._window = round(_WINDOW_S * rate)
        self._fade = round(_FADE_S * rate)
        self._max_period = round(_MAX_PERIOD_S * rate)
        self._random = np.random.default_rng(seed)
        self._learned = np.empty(0, np.float32)
        self._tail = np.empty(0, np.float32)

    def learn(self, samples: Samples) -> None:
        """Take quiet samples [T]; the noise resembles the last half second of them."""
        self._learned = np.concatenate([self._learned, samples])[-self._max_learned :]

    def make(self, samples: int) -> Samples:
        """Noise [samples]; zeros if nothing was learned."""
        if not self._learned.size or samples <= 0:
            return np.zeros(max(0, samples), np.float32)
        period = min(samples, self._max_period)
        period += -period % 512  # a length with a fast Fourier transform
        frequencies, powers, mean = self._spectrum()
        power = np.interp(np.fft.rfftfreq(period), frequencies, powers)
        bins = self._random.standard_normal((2, power.size))
        noise = np.fft.irfft((bins[0] + 1j * bins[1]) * np.sqrt(power), period)
        # The unscaled noise has the power 4 sum(power) / period^2: a factor 2 for the real and imaginary part of each bin, and a factor 2
        # for its positive and negative frequency.
        noise *= period * math.sqrt(float(np.var(self._learned, dtype=np.float64)) / max(1e-30, 4 * float(power[1:].sum())))
        return np.asarray(np.resize(noise + mean, samples), np.float32)

    def go_on(self, samples: int) -> Samples:
        """Noise [samples] that continues the last samples that were learned, without a step."""
        noise = self.make(samples + self._fade)
        fade = min(self._fade, samples, self._learned.size - 1)
        if fade > 0:
            # The learned samples, reflected at their last value, continue with the same slope. The noise fades in over them.
            last = self._learned[-1]
            noise[:fade] = noise[:fade] * fade_in(fade) + (2 * last - self._learned[-2 : -2 - fade : -1]) * fade_in(fade)[::-1]
        noise, self._tail = noise[:samples], noise[samples:]
        return noise

    def fade_into(self, samples: Samples) -> Samples:
        """The samples that follow the last noise of `go_on`, with the noise fading out under their beginning; it fades only once."""
        fade = min(self._tail.size, samples.size)
        if not fade:
            return samples
        out = samples.copy()
        out[:fade] += self._tail[:fade] * fade_in(fade)[::-1]
        self._tail = self._tail[:0]
        return out

    def _spectrum(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], float]:
        """The frequencies (as shares of the rate), the mean power at each by Welch's method, and the mean of the learned samples."""
        size = min(self._window, self._learned.size)
        mean = float(np.mean(self._learned, dtype=np.float64))
        frames = np.lib.stride_tricks.sliding_window_view(self._learned - mean, size)[:: max(1, size // 4)]
        powers = np.mean(np.abs(np.fft.rfft(frames * np.hanning(size + 2)[1:-1], axis=1)) ** 2, axis=0)
        return np.asarray(np.fft.rfftfreq(size), np.float64), np.asarray(powers, np.float64), mean
