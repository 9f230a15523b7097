"""Streams with the codes that a frozen encoder makes of them: coded once, when first heard, and kept on disk.

A decoder that learns alone hears the same codes whenever it hears a stream again; what costs time then is the decoder alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamcodec.errors import InputError
from streamcodec.output_file import replacing
from streamcodec.training.data.batches import Crops, StreamDraw, Turns
from streamcodec.training.data.corpus import Corpus
from streamcodec.types import Samples

__all__ = ["CodedBatch", "CodedBatches"]

Encode = Callable[[Samples, int], NDArray[np.integer]]
"""Samples [T] and a number of codebooks -> codes [n_q, frames]."""


class CodedBatch(NamedTuple):
    """Audio [B, T]; codes [B, most, F], those of codebooks that a row does without being `unused`; which rows go on [B]."""

    samples: Tensor
    codes: Tensor
    goes_on: Tensor


class CodedBatches:
    """Batches of `count` streams, over and over, each with its own number of codebooks, drawn from `n_q`.

    `encode` makes a stream's codes when it is heard first; `folder` keeps them. `unused` is the code of a codebook that is not used.
    """

    def __init__(
        self,
        corpus: Corpus,
        crops: Crops,
        hop: int,
        seed: int,
        *,
        folder: Path,
        count: int,
        n_q: Sequence[int],
        encode: Encode,
        unused: int,
    ) -> None:
        if count < crops.batch:
            raise InputError(f"streams is {count}, expected at least {crops.batch}: one for each row of a batch")
        self.frames, self.hop, self.seed, self.count = crops.crop_frames, hop, seed, count
        self.turns = Turns(crops.batch, max(1, round(crops.stream_seconds * corpus.rate / (crops.crop_frames * hop))))
        self._n_q, self._encode, self._unused = tuple(n_q), encode, unused
        self._draw = StreamDraw(corpus, crops.music_share, crops.augmentation, round(crops.crop_frames * hop * 1.2))
        self._folder = folder
        self._rows: dict[int, tuple[int, Samples, NDArray[np.int64]]] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def __call__(self, step: int) -> CodedBatch:
        """The batch of `step`."""
        samples, codes = [], []
        for row in range(self.turns.batch):
            stream, crop = self.turns.place(row, step)
            heard, coded = self._stream(row, stream)
            first = crop * self.frames
            samples.append(heard[first * self.hop : (first + self.frames) * self.hop])
            codes.append(coded[:, first : first + self.frames])
        return CodedBatch(torch.from_numpy(np.stack(samples)), torch.from_numpy(np.stack(codes)), self.turns.goes_on(step))

    def _stream(self, row: int, stream: int) -> tuple[Samples, NDArray[np.int64]]:
        held = self._rows.get(row)
        if held is None or held[0] != stream:
            number = (stream * self.turns.batch + row) % self.count
            samples, coded = self._read(number)
            codes = np.full((max(self._n_q), coded.shape[1]), self._unused, np.int64)
            codes[: len(coded)] = coded
            held = self._rows[row] = stream, samples, codes
        return held[1], held[2]

    def _read(self, number: int) -> tuple[Samples, NDArray[np.int64]]:
        path = self._folder / f"stream-{number:05d}.npz"
        if not path.is_file():
            samples = np.round(self._draw(self.turns.crops * self.frames * self.hop, self.seed, number) * 32767.0).astype(np.int16)
            books = int(np.random.default_rng((self.seed, number, 1)).choice(self._n_q))
            codes = self._encode(_as_float(samples), books).astype(np.int16)
            with replacing(path) as file:
                np.savez(file, samples=samples, codes=codes)
        with np.load(path) as kept:
            return _as_float(kept["samples"]), kept["codes"].astype(np.int64)


def _as_float(samples: NDArray[np.int16]) -> Samples:
    return samples.astype(np.float32) / 32767.0
