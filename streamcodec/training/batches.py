"""Step n's batch is a function of the seed and n, so a resumed run hears what an uninterrupted one would have heard.

A row is a stream that goes on from batch to batch, `crops` of them, and then another begins. Rows begin by turns:

    row 0    | 0 . . . | 1 . . . | 2
    row 1    0 . . | 1 . . . | 2 . .
    row 2    0 . | 1 . . . | 2 . . .
    row 3    0 | 1 . . . | 2 . . . |
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamcodec.errors import InputError
from streamcodec.training.augment import augment
from streamcodec.training.corpus import Corpus
from streamcodec.training.recipe import Recipe
from streamcodec.types import Samples

__all__ = ["Batches"]


class Batches:
    """Draws augmented streams of the corpus's training side; sources are drawn by the square root of their hours."""

    def __init__(self, corpus: Corpus, recipe: Recipe, hop: int) -> None:
        self.corpus = corpus
        self.recipe = recipe
        self.length = recipe.crop_frames * hop
        self.crops = max(1, round(recipe.stream_seconds * corpus.rate / self.length))
        shortest = round(self.length * 1.2)
        self._speech = _long(corpus.spans("speech", held_out=False), shortest)
        self._music = _long(corpus.spans("music", held_out=False), shortest)
        if not len(self._speech):
            raise InputError(f"the corpus has no training speech as long as a crop ({shortest / corpus.rate:.1f} s)")

        self._streams: dict[int, tuple[int, Samples]] = {}

    def __call__(self, step: int) -> Tensor:
        """The batch of `step`: [batch, 1, crop] float32."""
        return torch.from_numpy(np.stack([self._heard(row, *self._place(row, step)) for row in range(self.recipe.batch)]))[:, None]

    def goes_on(self, step: int) -> Tensor:
        """Which rows of the batch of `step` go on with a stream of the batch before: [batch] bool."""
        return torch.tensor([self._place(row, step)[1] > 0 for row in range(self.recipe.batch)])

    def _place(self, row: int, step: int) -> tuple[int, int]:
        """The number of the stream that `row` hears at `step`, and of the crop in it."""
        return divmod(step + row * self.crops // self.recipe.batch, self.crops)

    def _heard(self, row: int, stream: int, crop: int) -> Samples:
        if self._streams.get(row, (-1,))[0] != stream:
            chance = np.random.default_rng((self.recipe.seed, row, stream))
            music = len(self._music) > 0 and chance.random() < self.recipe.music_share
            self._streams[row] = stream, self._row(self._music if music else self._speech, chance)
        return self._streams[row][1][crop * self.length : (crop + 1) * self.length]

    def _row(self, spans: NDArray[np.int64], chance: np.random.Generator) -> Samples:
        def read(length: int) -> Samples:
            return self._crop(spans, length, chance)

        def other(length: int) -> Samples:
            beside = self._music if len(self._music) and chance.random() < 0.7 else self._speech
            return self._crop(beside, length, chance)

        return augment(read, other, self.crops * self.length, self.corpus.rate, self.recipe.augmentation, chance)

    def _crop(self, spans: NDArray[np.int64], length: int, chance: np.random.Generator) -> Samples:
        weights = np.sqrt(spans[:, 1] - spans[:, 0])
        start, end = spans[chance.choice(len(spans), p=weights / weights.sum())]
        if end - start < length:  # a short source is heard again and again
            return np.resize(self.corpus.read(int(start), int(end - start)), length)
        return self.corpus.read(int(chance.integers(start, end - length + 1)), length)


def _long(spans: dict[str, tuple[int, int]], shortest: int) -> NDArray[np.int64]:
    return np.array([span for span in spans.values() if span[1] - span[0] >= shortest], dtype=np.int64).reshape(-1, 2)
