"""An arithmetic coder: symbols to bits by their probabilities, and back. This file only does arithmetic on integers and bits.

The bits are those of EnCodec's coder (facebookresearch/encodec, `encodec/quantization/ac.py`). An interval [low, high] of whole numbers
stands for all that was coded so far. A symbol narrows it to the symbol's share. The leading bits that low and high have in common are
final and go out; new low bits double the interval until it is at least 2**24 wide. A symbol's share is given by a row of cumulated counts,
of which the last is at most 2**24: symbol s has the counts from cdf[s - 1] (0 for the first) to cdf[s] - 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamcodec.errors import CodesError
from streamcodec.types import Codes

__all__ = ["COUNT_BITS", "FEWEST_COUNTS", "ArithmeticCoding", "ArithmeticDecoder", "ArithmeticEncoder", "Counts", "Predict", "counts_of"]

COUNT_BITS = 24
_TOTAL = 1 << COUNT_BITS
FEWEST_COUNTS = 2  # counts of a symbol: its share of an interval of 2**24 or more then holds a whole number

Counts = NDArray[np.int64]
"""Cumulated counts of each codebook's entries, [n_q, codebook_size]; each row ascends to at most 2**24."""

Predict = Callable[[Codes | None, Any], tuple[Counts, Any]]
"""Predicts a frame: the codes [n_q] of the one before and a state, both None at the start of a chunk, to counts and a new state."""


def counts_of(shares: NDArray[np.float32]) -> Counts:
    """Probabilities [n_q, codebook_size] as counts, rounded as the reference does. No entry has fewer than 2 counts."""
    shares = np.floor(shares / np.float32(1e-8)) * np.float32(1e-8)
    free = (1 - FEWEST_COUNTS * shares.shape[-1] / _TOTAL) * _TOTAL
    return np.cumsum(np.floor(np.float32(free) * shares).astype(np.int64) + FEWEST_COUNTS, axis=-1)


class _Interval:
    """The interval that both directions of the coder narrow. It has `bits` bits, of which the leading ones of low and high differ."""

    __slots__ = ("bits", "high", "low")

    def __init__(self) -> None:
        self.low, self.high, self.bits = 0, 0, 0

    def widen(self) -> int:
        """Double the interval until it is 2**24 wide or wider; return how often, which is the number of bits that were appended."""
        doublings = max(0, COUNT_BITS + 1 - (self.high - self.low + 1).bit_length())
        self.low <<= doublings
        self.high = ((self.high + 1) << doublings) - 1
        self.bits += doublings
        return doublings

    def share(self, counts: NDArray[np.int64], symbol: int) -> tuple[int, int]:
        """The first and the last number of a symbol's share."""
        # The reference computes in float64, and its roundings decide what the bits are.
        scale = (self.high - self.low + 1) / _TOTAL
        first, end = 0 if symbol == 0 else int(counts[symbol - 1]), int(counts[symbol])
        return self.low + math.ceil(first * scale), self.low + math.floor((end - 1) * scale)

    def narrow(self, low: int, high: int) -> tuple[int, int]:
        """Take [low, high] as the interval and drop the leading bits that are equal: return them as a number, and how many they are."""
        kept = (low ^ high).bit_length()
        final, count = low >> kept, self.bits - kept
        mask = (1 << kept) - 1
        self.low, self.high, self.bits = low & mask, high & mask, kept
        return final, count


class ArithmeticEncoder:
    """Codes symbols one after the other; the bits of each byte are filled from the lowest."""

    def __init__(self) -> None:
        self._interval = _Interval()
        self._waiting: list[int] = []  # the bits that fill no byte yet
        self._complete = bytearray()

    def push(self, symbol: int, counts: NDArray[np.int64]) -> None:
        """Code a symbol, 0 or more, by a row of cumulated counts."""
        interval = self._interval
        interval.widen()
        self._append(*interval.narrow(*interval.share(counts, symbol)))

    def take(self) -> bytes:
        """The bytes that are complete and were not taken yet."""
        taken = bytes(self._complete)
        self._complete.clear()
        return taken

    def tail(self) -> bytes:
        """The bytes that would end the code here, after those that `take` gave. More symbols may follow instead."""
        bits = [*self._waiting, *_bits(self._interval.low, self._interval.bits)]
        return bytes(self._complete) + np.packbits(np.array(bits, np.uint8), bitorder="little").tobytes()

    def _append(self, value: int, count: int) -> None:
        self._waiting += _bits(value, count)
        while len(self._waiting) >= 8:
            self._complete.append(sum(bit << place for place, bit in enumerate(self._waiting[:8])))
            del self._waiting[:8]


class ArithmeticDecoder:
    """Reads symbols back; it needs the counts that each was coded by. `position` is the number of bytes that were read so far."""

    def __init__(self, data: bytes | memoryview) -> None:
        self._interval = _Interval()
        self._data = data
        self._read = 0  # bits
        self._current = 0

    @property
    def position(self) -> int:
        """The number of bytes that were read, the last of them perhaps in part."""
        return -(-self._read // 8)

    def pull(self, counts: NDArray[np.int64]) -> int:
        """The next symbol. Raises `CodesError` if the data ends before it, or holds bits that no symbol has."""
        interval = self._interval
        for _ in range(interval.widen()):
            if self._read >= 8 * len(self._data):
                raise CodesError(
                    f"the arithmetic code ends after {len(self._data)} bytes, in the middle of a symbol: it was cut off or damaged"
                )
            self._current = self._current << 1 | self._data[self._read >> 3] >> (self._read & 7) & 1
            self._read += 1
        # Near the symbol: the roundings of its share may move it by one.
        near = (self._current - interval.low) * _TOTAL / (interval.high - interval.low + 1)
        symbol = min(int(np.searchsorted(counts, near, side="right")), len(counts) - 1)
        low, high = interval.share(counts, symbol)
        if self._current < low and symbol > 0:
            symbol -= 1
            low, high = interval.share(counts, symbol)
        elif self._current > high and symbol + 1 < len(counts):
            symbol += 1
            low, high = interval.share(counts, symbol)
        if not low <= self._current <= high:
            raise CodesError(f"byte {self.position - 1} of the arithmetic code holds bits that no symbol has: it is damaged")
        interval.narrow(low, high)
        self._current &= (1 << interval.bits) - 1
        return symbol

    def check_end(self) -> None:
        """Raise `CodesError` if the bits that fill the last byte are not zero."""
        if self._read % 8 and self._data[self._read >> 3] >> (self._read & 7):
            raise CodesError(f"the bits after the arithmetic code, in its byte {self._read >> 3}, are not zero: it is damaged")


class ArithmeticCoding:
    """How a chunk's codes become bytes by what a model predicts: frame by frame, and in a frame codebook by codebook."""

    def __init__(self, predict: Predict, n_q: int, codebook_size: int) -> None:
        self._predict, self._n_q = predict, n_q
        self._most = _TOTAL - FEWEST_COUNTS * (codebook_size - 1)  # counts of one symbol

    def encoder(self) -> _PredictedEncoder:
        """The encoder of one chunk."""
        return _PredictedEncoder(self._predict)

    def decode(self, data: memoryview, frames: int, *, whole: bool = True) -> tuple[Codes, int]:
        """The codes [n_q, frames] of a chunk at the start of `data`, and how many bytes they take. Raises `CodesError`."""
        decoder, state = ArithmeticDecoder(data), None
        frame: Codes | None = None
        found: list[Codes] = []
        for _ in range(frames):
            counts, state = self._predict(frame, state)
            frame = np.array([decoder.pull(row) for row in counts], np.int32)
            found.append(frame)
        if whole:
            decoder.check_end()
        return np.ascontiguousarray(np.stack(found, axis=1)), decoder.position

    def least_size(self, frames: int) -> int:
        """The fewest bytes that such a chunk can take, whatever is predicted."""
        return max(COUNT_BITS, int(self._n_q * frames * -math.log2(self._most / _TOTAL))) // 8


class _PredictedEncoder:
    def __init__(self, predict: Predict) -> None:
        self._predict = predict
        self._encoder = ArithmeticEncoder()
        self._state: Any = None
        self._frame: Codes | None = None

    def push(self, codes: Codes) -> bytes:
        for frame in np.ascontiguousarray(codes.T):
            counts, self._state = self._predict(self._frame, self._state)
            for symbol, row in zip(frame.tolist(), counts, strict=True):
                self._encoder.push(symbol, row)
            self._frame = frame
        return self._encoder.take()

    def tail(self) -> bytes:
        return self._encoder.tail()


def _bits(value: int, count: int) -> list[int]:
    """The `count` bits of a number, the highest first."""
    return [value >> place & 1 for place in range(count - 1, -1, -1)]
