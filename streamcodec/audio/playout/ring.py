"""The ring of samples between the thread that pushes and the thread that pulls, and the pushing thread's side of it."""

from __future__ import annotations

import numpy as np

from streamcodec.audio.dsp.fades import fade_in
from streamcodec.audio.dsp.resample import check_block_to_resample
from streamcodec.errors import InputError
from streamcodec.types import Samples, block_shape

__all__ = ["RingWriter", "SampleRing"]


class SampleRing:
    """Holds the newest `capacity` samples by their position since the start: [T], or [C, T] of several `channels`."""

    def __init__(self, capacity: int, channels: int = 1) -> None:
        self._capacity = capacity
        self._samples = np.zeros(block_shape(capacity, channels), np.float32)

    def __len__(self) -> int:
        return self._capacity

    def store(self, position: int, samples: Samples) -> None:
        """Write `samples` at `position`."""
        start = position % self._capacity
        first = min(samples.shape[-1], self._capacity - start)
        self._samples[..., start : start + first] = samples[..., :first]
        self._samples[..., : samples.shape[-1] - first] = samples[..., first:]

    def load(self, position: int, out: Samples) -> None:
        """Fill `out` with the samples from `position` on."""
        start = position % self._capacity
        first = min(out.shape[-1], self._capacity - start)
        out[..., :first] = self._samples[..., start : start + first]
        out[..., first:] = self._samples[..., : out.shape[-1] - first]


class RingWriter:
    """What the pushing thread writes: only that thread calls the methods, and the other thread reads `tail` and `finished`.

    `tail` is the number of samples written so far and the noise that follows them. It is one tuple, so that the other thread always reads a
    matching pair, and it is set after the samples are in place. `overflowed` samples were dropped because the ring was full.
    """

    def __init__(self, ring: SampleRing, fade: int, channels: int = 1) -> None:
        self.tail: tuple[int, Samples | None] = (0, None)
        self.overflowed = 0
        self.finished = False
        self._ring = ring
        self._channels = channels
        self._up = fade_in(fade)
        self._down: Samples = self._up[::-1].copy()
        self._cut = False

    @property
    def written(self) -> int:
        """The number of samples written so far."""
        return self.tail[0]

    def push(self, samples: Samples, noise: Samples | None, buffered: int) -> None:
        """Append samples, while `buffered` wait to be played; where they do not fit, drop all of them, between fades."""
        check_block_to_resample(samples, self._channels)
        if self.finished:
            raise InputError("the playout buffer was finished, expected no more samples: a new stream takes a new buffer")
        fitting = samples.shape[-1] <= len(self._ring) - buffered
        if not fitting or self._cut:
            samples = self._around_cut(samples, fitting, buffered)
        self._ring.store(self.written, samples)
        self.tail = self.written + samples.shape[-1], noise

    def _around_cut(self, samples: Samples, fitting: bool, buffered: int) -> Samples:
        """Handle blocks that do not fit: fade out the samples before them and fade in the next ones that fit. Returns what to store."""
        fade = min(len(self._down), buffered if not fitting else samples.shape[-1])
        if fitting:
            self._cut = False
            return np.concatenate([samples[..., :fade] * self._up[:fade], samples[..., fade:]], axis=-1)
        self.overflowed += samples.shape[-1]
        if not self._cut:
            self._cut = True
            tail = np.empty(block_shape(fade, self._channels), np.float32)
            self._ring.load(self.written - fade, tail)
            self._ring.store(self.written - fade, tail * self._down[len(self._down) - fade :])
        return samples[..., :0]
