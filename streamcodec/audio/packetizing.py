"""Blocks of any size go in, packets of exactly one size come out; nothing is lost, nothing is added."""

from __future__ import annotations

import numpy as np

from streamcodec.audio.samples import Samples
from streamcodec.errors import AudioError, InputError

__all__ = ["Packetizer"]


class Packetizer:
    """Cuts a stream of mono blocks into packets of `size` samples, holding back at most `size - 1`.

    Raises `InputError` for a size below 1.
    """

    def __init__(self, size: int) -> None:
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise InputError(f"packet size is {size!r}, expected a number of samples from 1")
        self.size = size
        self._held = np.empty(size, np.float32)
        self._pending = 0

    @property
    def pending(self) -> int:
        """Samples held back until their packet is full."""
        return self._pending

    def feed(self, samples: Samples) -> list[Samples]:
        """Take a block [T] of any length and return every packet [size] that it completes, each in memory of its own.

        Raises `AudioError` for anything but a one-dimensional float32 array.
        """
        if samples.ndim != 1 or samples.dtype != np.float32:
            raise AudioError(f"block is {samples.dtype} of shape {list(samples.shape)}, expected float32 of shape [T]")
        packets: list[Samples] = []
        used = 0
        while used < len(samples):
            taken = min(self.size - self._pending, len(samples) - used)
            self._held[self._pending : self._pending + taken] = samples[used : used + taken]
            self._pending += taken
            used += taken
            if self._pending == self.size:
                packets.append(self._held.copy())
                self._pending = 0
        return packets

    def flush(self) -> Samples:
        """Return the samples held back, [0..size-1], and start afresh."""
        rest = self._held[: self._pending].copy()
        self._pending = 0
        return rest
