"""Resampling with soxr: clips in soxr's high quality, streams in soxr's variable-rate mode, whose delay is constant.

soxr's fixed-rate streams work in FFT blocks. Their delay varies between 4 and 38 ms, which is more than everything else adds to a packet.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import soxr

from streamcodec.errors import AudioError
from streamcodec.types import Samples, block_shape

__all__ = ["StreamResampler", "check_block_to_resample", "check_rate", "resample", "resampled_length"]

_MIN_RATE, _MAX_RATE = 1_000, 768_000


def check_rate(rate: float) -> Fraction:
    """Return a sampling rate in Hz as a fraction; raises `AudioError` if it is not a number from 1,000 to 768,000."""
    if isinstance(rate, bool) or not isinstance(rate, (int, float, np.integer, np.floating)) or not _MIN_RATE <= rate <= _MAX_RATE:
        raise AudioError(f"sampling rate is {rate!r}, expected {_MIN_RATE} to {_MAX_RATE} Hz")
    return Fraction(float(rate)).limit_denominator(100)


def check_block_to_resample(samples: Samples, channels: int = 1) -> None:
    """Raise `AudioError` for a block that is not float32 [T], or [channels, T] for several channels."""
    if samples.shape[:-1] != (() if channels == 1 else (channels,)) or samples.dtype != np.float32:
        shape = "[T]" if channels == 1 else f"[{channels}, T]"
        raise AudioError(f"block is {samples.dtype} of shape {list(samples.shape)}, expected float32 of shape {shape}")


def resample(audio: Samples, rate_in: float, rate_out: float) -> Samples:
    """Resample a whole clip [..., T]; T becomes T * rate_out / rate_in, rounded half up.

    Equal rates return the same array. Raises `AudioError` for a rate outside 1,000 to 768,000 Hz.
    """
    source, target = check_rate(rate_in), check_rate(rate_out)
    if source == target:
        return audio
    length = resampled_length(audio.shape[-1], rate_in, rate_out)
    # soxr rounds a length of n + 1/2 either way. Zeros after the end, which soxr assumes anyway, make the output long enough to cut.
    tail = np.zeros((*audio.shape[:-1], math.ceil(source / target)), np.float32)
    padded = np.concatenate([audio, tail], axis=-1)
    # soxr's layout is [T, C]
    channels = padded.reshape(-1, padded.shape[-1])
    out = soxr.resample(channels.T, float(source), float(target), quality="HQ").T[:, :length]
    return np.ascontiguousarray(out, dtype=np.float32).reshape(*audio.shape[:-1], length)


class StreamResampler:
    """Resamples one stream of `channels` channels block by block.

    The delay is constant: 5 ms (10 to 15 ms from a rate below 24 kHz to a higher one).

    After `flush()` the output is exactly as long as the output of `resample` for the same input: n * rate_out / rate_in, rounded half up.
    Raises `AudioError` for a rate outside 1,000 to 768,000 Hz.
    """

    def __init__(self, rate_in: float, rate_out: float, channels: int = 1) -> None:
        check_rate(rate_in), check_rate(rate_out)
        self.rate_in, self.rate_out = rate_in, rate_out
        self._channels = channels
        self._open()

    def feed(self, samples: Samples) -> Samples:
        """Take a block [T] or [C, T] of any length and return the output that is ready; with equal rates, that is the block itself.

        Raises `AudioError` for anything but a float32 array of that shape.
        """
        check_block_to_resample(samples, self._channels)
        if self._soxr is None:
            return samples
        out = self._resampled(samples)
        self._consumed += samples.shape[-1]
        self._produced += out.shape[-1]
        return out

    def flush(self) -> Samples:
        """Return the rest of the output, as if silence followed, and start a new stream."""
        if self._soxr is None or not self._consumed:
            return self._nothing
        remaining = max(0, resampled_length(self._consumed, self.rate_in, self.rate_out) - self._produced)
        rest = self._resampled(self._nothing, last=True)[..., :remaining]
        self._open()
        return np.pad(rest, [(0, 0)] * (rest.ndim - 1) + [(0, remaining - rest.shape[-1])])

    @property
    def _nothing(self) -> Samples:
        return np.empty(block_shape(0, self._channels), np.float32)

    def _resampled(self, samples: Samples, *, last: bool = False) -> Samples:
        # soxr's layout is [T] or [T, C]
        return np.ascontiguousarray(self._soxr.resample_chunk(np.ascontiguousarray(samples.T), last=last).T)

    def _open(self) -> None:
        self._soxr: Any = None
        if check_rate(self.rate_in) != check_rate(self.rate_out):
            self._soxr = soxr.ResampleStream(self.rate_in, self.rate_out, self._channels, dtype="float32", quality="HQ", vr=True)
        self._consumed = self._produced = 0


def resampled_length(samples: int, rate_in: float, rate_out: float) -> int:
    """How many samples a clip of `samples` samples has at another rate: samples * rate_out / rate_in, rounded half up."""
    return math.floor(samples * (check_rate(rate_out) / check_rate(rate_in)) + Fraction(1, 2))
