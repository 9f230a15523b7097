"""What models that code whole chunks need around their steps: audio is cut, scaled to one loudness, and joined again by overlap-add.

Follows facebookresearch/encodec (`encodec/model.py`, `encodec/utils.py`). This file runs no model.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from streamcodec.config import CodecConfig
from streamcodec.types import Samples

__all__ = ["ChunkCutter", "OverlapAdd", "normalised"]

_QUIETEST = 1e-8  # is added to each scale: silence is not divided by zero


class ChunkCutter:
    """Cuts audio [..., T], fed in pieces of any length, into the chunks of a model. Only chunks at the end are shorter than the others.

    A model without chunks gets everything as one chunk, at the end.
    """

    def __init__(self, config: CodecConfig) -> None:
        self._length, self._stride = config.chunk_length, config.chunk_stride
        self._pieces: list[Samples] = []
        self._size = 0
        self._finished = False

    def feed(self, samples: Samples) -> None:
        """Append samples; the caller must not change the array afterwards."""
        if samples.size:
            self._pieces.append(samples)
            self._size += samples.shape[-1]

    def finish(self) -> None:
        """Mark the end: what is held becomes chunks, too."""
        self._finished = True

    def next_chunk(self) -> Samples | None:
        """The next chunk [..., T'], or None if it is not complete."""
        if not self._size or not (self._finished or (self._length is not None and self._size >= self._length)):
            return None
        held = self._pieces[0] if len(self._pieces) == 1 else np.concatenate(self._pieces, axis=-1)
        chunk, rest = held[..., : self._length], held[..., self._size if self._stride is None else self._stride :]
        self._pieces, self._size = [rest], rest.shape[-1]
        return chunk

    def __iter__(self) -> Iterator[Samples]:
        while (chunk := self.next_chunk()) is not None:
            yield chunk


def normalised(chunks: Samples) -> tuple[Samples, Samples]:
    """Chunks [B, C, T] divided by their loudness, and that loudness [B]."""
    scales = np.sqrt(np.square(chunks.mean(axis=1, dtype=np.float32)).mean(axis=-1, dtype=np.float32)) + np.float32(_QUIETEST)
    return chunks / scales[:, None, None], scales


class OverlapAdd:
    """Joins parts [..., T] that begin `stride` samples apart; where they overlap, each fades linearly into the next one.

    The first part is the longest: how the others fade depends on its length, as in the reference.
    """

    def __init__(self, stride: int) -> None:
        self._stride = stride
        self._fade: Samples | None = None
        self._sum = np.zeros(0, np.float32)
        self._weights = np.zeros(0, np.float32)

    def add(self, part: Samples) -> Samples:
        """Add the next part; return the samples that are final, as the part after it begins behind them."""
        length = part.shape[-1]
        if self._fade is None:
            ramp = np.linspace(0, 1, length + 2, dtype=np.float32)[1:-1]
            self._fade = np.float32(0.5) - np.abs(ramp - np.float32(0.5))
        assert length <= self._fade.size, "the first part is the longest"
        if length > self._weights.size:
            more = length - self._weights.size
            held = self._sum if self._weights.size else np.zeros((*part.shape[:-1], 0), np.float32)
            self._sum = np.concatenate([held, np.zeros((*part.shape[:-1], more), np.float32)], axis=-1)
            self._weights = np.pad(self._weights, (0, more))
        self._sum[..., :length] += self._fade[:length] * part
        self._weights[:length] += self._fade[:length]
        return self._take(self._stride)

    def flush(self) -> Samples:
        """The rest of the last parts."""
        return self._take(self._weights.size)

    def _take(self, count: int) -> Samples:
        ready: Samples = self._sum[..., :count] / self._weights[:count]
        self._sum, self._weights = self._sum[..., count:].copy(), self._weights[count:].copy()
        return ready
