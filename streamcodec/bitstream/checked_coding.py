"""Codes that a model of whole numbers predicts: the same bits on every machine, and a length and a checksum for each second.

A chunk is cut into blocks of a second. Each has a head of 7 bytes and the bits of the arithmetic coder:

    +-----------------+--------+---------------------+----------------+
    | size of the     | frames | CRC-32 of the codes | bits           |
    | bits, 2 B       | 1 B    | 4 B                 |                |
    +-----------------+--------+---------------------+----------------+

Numbers are big-endian. The checksum is that of the codes in two bytes each, low byte first, frame by frame. A model that predicts otherwise
than the one that wrote the block gives other codes, which the checksum tells: they are never returned.
"""

from __future__ import annotations

import functools
import struct
import zlib
from collections.abc import Callable
from math import isqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamcodec.bitstream.arithmetic_coding import COUNT_BITS, FEWEST_COUNTS, ArithmeticDecoder, ArithmeticEncoder, Counts
from streamcodec.errors import CodesError
from streamcodec.types import Codes

__all__ = ["LEVELS_PER_BIT", "MAX_BLOCK_FRAMES", "CheckedCoding", "PredictLevels", "counts_of_levels"]

LEVELS_PER_BIT = 16
MAX_BLOCK_FRAMES = 255
_HEAD = struct.Struct("!HBI")
_WEIGHT_BITS = 14  # the sum of 1,024 weights has as many bits as the counts

PredictLevels = Callable[[Codes | None, Any], tuple[NDArray[np.int64], Any]]
"""Predicts a frame: the codes [n_q] of the one before and a state, both None at the start of a chunk, to levels [n_q, codebook_size] and a
new state. A level is a whole number: the logarithm of the probability, in sixteenths of a bit, plus a constant of its codebook."""


def counts_of_levels(levels: NDArray[np.int64]) -> Counts:
    """Levels [n_q, codebook_size] as cumulated counts, by whole numbers only. No entry has fewer than 2 counts."""
    below = levels.max(axis=1, keepdims=True) - levels
    weights = _weights()[np.minimum(below, len(_weights()) - 1)]
    free = (1 << COUNT_BITS) - FEWEST_COUNTS * levels.shape[1]
    return np.cumsum(weights * free // weights.sum(axis=1, keepdims=True) + FEWEST_COUNTS, axis=1)


@functools.cache
def _weights() -> NDArray[np.int64]:
    """2 ** (14 - d / 16) for d from 0, rounded down; the last is 0."""
    # The sixteenth root as four square roots of whole numbers, each rounded down: the same on every machine, which a power is not.
    powers = [1 << LEVELS_PER_BIT * _WEIGHT_BITS - d for d in range(LEVELS_PER_BIT * _WEIGHT_BITS + 1)]
    return np.array([*(isqrt(isqrt(isqrt(isqrt(power)))) for power in powers), 0], np.int64)


class CheckedCoding:
    """How a chunk's codes become blocks of `block_frames` frames, by what a model of whole numbers predicts."""

    def __init__(self, predict: PredictLevels, n_q: int, block_frames: int) -> None:
        if not 1 <= block_frames <= MAX_BLOCK_FRAMES:
            raise CodesError(f"a block has {block_frames} frames, expected 1 to {MAX_BLOCK_FRAMES}")
        self._predict, self._n_q, self._block_frames = predict, n_q, block_frames

    def encoder(self) -> _BlockEncoder:
        """The encoder of one chunk."""
        return _BlockEncoder(self._predict, self._block_frames)

    def decode(self, data: memoryview, frames: int, *, whole: bool = True) -> tuple[Codes, int]:
        """The codes [n_q, frames] of a chunk at the start of `data`, and how many bytes they take.

        Raises `CodesError` for a block that was cut off, and for one whose codes are not those that were coded.
        """
        at, done, state, frame = 0, 0, None, None
        parts: list[Codes] = []
        while done < frames:
            name = f"the block of frames {done} to {done + self._block_frames - 1}"
            if len(data) - at < _HEAD.size:
                raise CodesError(f"{name} has {len(data) - at} bytes: it was cut off")
            size, count, checksum = _HEAD.unpack_from(data, at)
            at += _HEAD.size
            left = min(self._block_frames, frames - done)
            if not 1 <= count <= self._block_frames or (whole and count != left) or count < left:
                raise CodesError(f"{name} says that it has {count} frames, expected {left}: it is damaged")
            if size > len(data) - at:
                raise CodesError(f"{name} has {len(data) - at} bytes of {size}: it was cut off")
            decoder = ArithmeticDecoder(data[at : at + size])
            codes = np.empty((count, self._n_q), np.int32)
            try:
                for row in codes:
                    levels, state = self._predict(frame, state)
                    row[:] = [decoder.pull(counts) for counts in counts_of_levels(levels)]
                    frame = row
                decoder.check_end()
            except CodesError as exc:
                raise CodesError(f"{name} is damaged, or was coded by another model: {exc}") from exc
            if decoder.position != size or zlib.crc32(codes.astype("<u2").tobytes()) != checksum:
                raise CodesError(f"{name} is damaged, or was coded by another model: its checksum is not that of its codes")
            parts.append(codes)
            at, done = at + size, done + count
        return np.ascontiguousarray(np.concatenate(parts)[:frames].T), at

    def least_size(self, frames: int) -> int:
        """The fewest bytes that such a chunk can take."""
        return -(-frames // self._block_frames) * (_HEAD.size + COUNT_BITS // 8)


class _BlockEncoder:
    def __init__(self, predict: PredictLevels, block_frames: int) -> None:
        self._predict, self._block_frames = predict, block_frames
        self._state: Any = None
        self._frame: Codes | None = None
        self._begin()

    def _begin(self) -> None:
        self._encoder, self._frames, self._checksum, self._bits = ArithmeticEncoder(), 0, 0, b""

    def push(self, codes: Codes) -> bytes:
        complete = b""
        for frame in np.ascontiguousarray(codes.T):
            if self._frames == self._block_frames:
                complete += self.tail()
                self._begin()
            levels, self._state = self._predict(self._frame, self._state)
            for symbol, counts in zip(frame.tolist(), counts_of_levels(levels), strict=True):
                self._encoder.push(symbol, counts)
            self._bits += self._encoder.take()
            self._checksum = zlib.crc32(frame.astype("<u2").tobytes(), self._checksum)
            self._frame, self._frames = frame, self._frames + 1
        return complete

    def tail(self) -> bytes:
        bits = self._bits + self._encoder.tail()
        return _HEAD.pack(len(bits), self._frames, self._checksum) + bits
