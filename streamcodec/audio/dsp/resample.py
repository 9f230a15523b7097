"""Resampling with soxr: clips in soxr's high quality, streams in soxr's variable-rate mode, whose delay is constant.

soxr's fixed-rate streams work in FFT blocks. Their delay varies between 4 and 38 ms, which is more than everything else adds to a packet.

What a soxr stream keeps is closed to us, so a stream as a value is the last of its input. A new soxr stream that is fed with it from a
whole period of the two rates' ratio (147 samples in, 80 out, from 44,100 to 24,000 Hz) has the old one's phase, and after 100 ms also what
the old one keeps. soxr rounds a ratio like 147/80, so that each sample adds to an error of its phase. Where a stream goes on with a new
soxr stream from time to time, that error stays as small as the roundings of float32.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import soxr

from streamcodec.errors import AudioError, SnapshotError
from streamcodec.types import Samples, block_shape

__all__ = ["ResamplerState", "StreamResampler", "check_block_to_resample", "check_rate", "resample", "resampled_length"]

_MIN_RATE, _MAX_RATE = 1_000, 768_000
_MEMORY_S, _MEMORY_SAMPLES = 0.1, 512  # after so much input, the longer of the two, soxr has forgotten what was before
_SMALL_BLOCK = 256  # smaller ones are kept together: each array takes more than a hundred bytes of its own
_MAX_PERIOD_S = 1.0  # rates that are whole numbers have no longer one
_RENEW_S = 1.0  # so often


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


@dataclass(frozen=True)
class ResamplerState:
    """A resampler between two blocks: how many samples came in and went out, and the last of those that came in, [T] or [C, T]."""

    consumed: int
    produced: int
    tail: Samples


class StreamResampler:
    """Resamples one stream of `channels` channels block by block.

    The delay is constant: 5 ms (10 to 15 ms from a rate below 24 kHz to a higher one).

    After `flush()` the output is exactly as long as the output of `resample` for the same input: n * rate_out / rate_in, rounded half up.
    Raises `AudioError` for a rate outside 1,000 to 768,000 Hz.
    """

    _soxr: Any

    def __init__(self, rate_in: float, rate_out: float, channels: int = 1) -> None:
        check_rate(rate_in), check_rate(rate_out)
        self.rate_in, self.rate_out = rate_in, rate_out
        self._channels = channels
        ratio = check_rate(rate_in) / check_rate(rate_out)
        self._period, self._period_out = ratio.numerator, ratio.denominator
        self._movable = self._period <= _MAX_PERIOD_S * rate_in
        self._kept = max(math.ceil(_MEMORY_S * rate_in), _MEMORY_SAMPLES) + self._period
        self._renew_every = max(1, int(_RENEW_S * rate_in) // self._period) * self._period
        self._open()

    def feed(self, samples: Samples) -> Samples:
        """Take a block [T] or [C, T] of any length and return the output that is ready; with equal rates, that is the block itself.

        Raises `AudioError` for anything but a float32 array of that shape.
        """
        check_block_to_resample(samples, self._channels)
        if self._soxr is None:
            return samples
        if not self._movable:
            return self._fed(samples)
        # Where a new soxr stream begins does not depend on the blocks.
        parts: list[Samples] = []
        while (left := self._renew_every - self._consumed % self._renew_every) <= samples.shape[-1]:
            parts.append(self._fed(samples[..., :left]))
            self._renew()
            samples = samples[..., left:]
        parts.append(self._fed(samples))
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)

    def snapshot(self) -> ResamplerState | None:
        """The stream as a value; None with equal rates. What follows here is what follows there, bit for bit.

        Raises `AudioError` where the rates' ratio repeats itself only after more than a second.
        """
        if self._soxr is None:
            return None
        if not self._movable:
            raise AudioError(f"resampling {self.rate_in} to {self.rate_out} Hz has no value: the ratio has a period of more than a second")
        self._renew()
        return ResamplerState(self._consumed, self._produced, self._input_tail())

    def restore(self, saved: ResamplerState | None) -> None:
        """Go on from a value of `snapshot`; call it before anything else. Raises `SnapshotError` for one of other rates or channels."""
        if (saved is None) != (self._soxr is None):
            told = "None" if saved is None else "there"
            raise SnapshotError(f"the resampler's state is {told}, which is not so for {self.rate_in} to {self.rate_out} Hz")
        if saved is None:
            return
        shape = block_shape(min(saved.consumed, self._kept), self._channels)
        size = math.ceil(Fraction(saved.consumed * self._period_out, self._period)) + 1
        if saved.tail.shape != shape or not np.isfinite(saved.tail).all():
            raise SnapshotError(f"the resampler's samples have shape {list(saved.tail.shape)}, expected {list(shape)}, all finite")
        self._consumed, self._produced = saved.consumed, saved.produced
        least = self._renewed_at() // self._period * self._period_out
        if not (self._movable and 0 <= saved.consumed < 2**53 and least <= saved.produced <= size):
            raise SnapshotError(f"the resampler has made {saved.produced} samples of {saved.consumed}, expected {least} to {size}")
        self._remember(saved.tail)
        self._renew()

    def flush(self) -> Samples:
        """Return the rest of the output, as if silence followed, and start a new stream."""
        if self._soxr is None or not self._consumed:
            return self._nothing
        remaining = max(0, resampled_length(self._consumed, self.rate_in, self.rate_out) - self._produced)
        rest = self._resampled(self._nothing, last=True)[..., :remaining]
        self._open()
        return np.pad(rest, [(0, 0)] * (rest.ndim - 1) + [(0, remaining - rest.shape[-1])])

    def _fed(self, samples: Samples) -> Samples:
        out = self._resampled(samples)
        self._consumed += samples.shape[-1]
        self._produced += out.shape[-1]
        self._remember(samples[..., -self._kept :])
        return out

    def _remember(self, samples: Samples) -> None:
        if not self._movable:
            return
        if self._tail and self._tail[-1].shape[-1] < _SMALL_BLOCK:
            self._tail[-1] = np.concatenate([self._tail[-1], samples], axis=-1)
        else:
            self._tail.append(samples.copy())  # the caller may use the array again
        self._tail_samples += samples.shape[-1]
        while self._tail_samples - self._tail[0].shape[-1] >= self._kept:
            self._tail_samples -= self._tail.popleft().shape[-1]

    def _input_tail(self) -> Samples:
        return np.concatenate([self._nothing, *self._tail], axis=-1)[..., -self._kept :]

    def _renewed_at(self) -> int:
        """The whole period of the input from which a new soxr stream has heard enough."""
        return max(0, self._consumed - (self._kept - self._period)) // self._period * self._period

    def _renew(self) -> None:
        """Go on with a new soxr stream, which begins a whole period behind the start and has heard the last of the input."""
        tail = self._input_tail()
        begins = self._renewed_at()
        given_out = self._produced - begins // self._period * self._period_out
        self._soxr = self._new_soxr()
        self._repeated, self._ahead = 0, self._nothing
        again = self._resampled(tail[..., tail.shape[-1] - (self._consumed - begins) :])
        # soxr's streams give out equally much by the same input. Where one does not, nothing is lost and nothing comes twice.
        self._repeated, self._ahead = max(0, given_out - again.shape[-1]), again[..., given_out:]

    @property
    def _nothing(self) -> Samples:
        return np.empty(block_shape(0, self._channels), np.float32)

    def _resampled(self, samples: Samples, *, last: bool = False) -> Samples:
        # soxr's layout is [T] or [T, C]
        out = np.ascontiguousarray(self._soxr.resample_chunk(np.ascontiguousarray(samples.T), last=last).T)
        if self._repeated or self._ahead.size:
            out, self._ahead = np.concatenate([self._ahead, out], axis=-1), self._nothing
            skipped = min(self._repeated, out.shape[-1])
            out, self._repeated = out[..., skipped:], self._repeated - skipped
        return out

    def _new_soxr(self) -> Any:
        return soxr.ResampleStream(self.rate_in, self.rate_out, self._channels, dtype="float32", quality="HQ", vr=True)

    def _open(self) -> None:
        self._soxr = None
        if check_rate(self.rate_in) != check_rate(self.rate_out):
            self._soxr = self._new_soxr()
        self._consumed = self._produced = 0
        self._tail: deque[Samples] = deque()
        self._tail_samples = 0
        self._repeated, self._ahead = 0, self._nothing


def resampled_length(samples: int, rate_in: float, rate_out: float) -> int:
    """How many samples a clip of `samples` samples has at another rate: samples * rate_out / rate_in, rounded half up."""
    return math.floor(samples * (check_rate(rate_out) / check_rate(rate_in)) + Fraction(1, 2))
