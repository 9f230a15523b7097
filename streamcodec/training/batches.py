"""Step n's batch is a function of the seed and n, so a resumed run hears what an uninterrupted one would have heard."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamcodec.errors import InputError
from streamcodec.training.audiofile import Samples
from streamcodec.training.augment import augment
from streamcodec.training.corpus import Corpus
from streamcodec.training.recipe import Recipe

__all__ = ["Batches"]


class Batches:
    """Draws augmented crops of the corpus's training side; sources are drawn by the square root of their hours."""

    def __init__(self, corpus: Corpus, recipe: Recipe, hop: int) -> None:
        self.corpus = corpus
        self.recipe = recipe
        self.length = recipe.crop_frames * hop
        longest = round(self.length * 1.2)
        self._speech = _long(corpus.spans("speech", held_out=False), longest)
        self._music = _long(corpus.spans("music", held_out=False), longest)
        if not len(self._speech):
            raise InputError(f"the corpus has no training speech as long as a crop ({longest / corpus.rate:.1f} s)")

    def __call__(self, step: int) -> Tensor:
        """The batch of `step`: [batch, 1, crop] float32."""
        chance = np.random.default_rng((self.recipe.seed, step))
        rows = []
        for _ in range(self.recipe.batch):
            music = len(self._music) > 0 and chance.random() < self.recipe.music_share
            rows.append(self._row(self._music if music else self._speech, chance))
        return torch.from_numpy(np.stack(rows))[:, None]

    def _row(self, spans: NDArray[np.int64], chance: np.random.Generator) -> Samples:
        def read(length: int) -> Samples:
            return self._crop(spans, length, chance)

        def other(length: int) -> Samples:
            beside = self._music if len(self._music) and chance.random() < 0.7 else self._speech
            return self._crop(beside, length, chance)

        return augment(read, other, self.length, self.corpus.rate, self.recipe.augmentation, chance)

    def _crop(self, spans: NDArray[np.int64], length: int, chance: np.random.Generator) -> Samples:
        weights = np.sqrt(spans[:, 1] - spans[:, 0])
        start, end = spans[chance.choice(len(spans), p=weights / weights.sum())]
        return self.corpus.read(int(chance.integers(start, end - length + 1)), length)


def _long(spans: dict[str, tuple[int, int]], longest: int) -> NDArray[np.int64]:
    return np.array([span for span in spans.values() if span[1] - span[0] >= longest], dtype=np.int64).reshape(-1, 2)
