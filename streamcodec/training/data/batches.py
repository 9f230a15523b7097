"""Step n's batch is a function of the seed and n, so a resumed run hears what an uninterrupted one would have heard.

A row is a stream that goes on from batch to batch, `crops` of them, and then another begins. Rows begin by turns:

    row 0    | 0 . . . | 1 . . . | 2
    row 1    0 . . | 1 . . . | 2 . .
    row 2    0 . | 1 . . . | 2 . . .
    row 3    0 | 1 . . . | 2 . . . |
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamcodec.errors import InputError
from streamcodec.training.data.augment import Augmentation, augment
from streamcodec.training.data.corpus import Corpus
from streamcodec.types import Samples

__all__ = ["Batches", "Crops", "StreamDraw", "Turns"]


@dataclass(frozen=True)
class Crops:
    """What a batch is: `batch` rows of `crop_frames` frames; a row is a stream of `stream_seconds`, and 0 makes each crop its own stream.

    `music_share` of the streams are music; `augmentation` says what happens to them.
    """

    batch: int = 12
    crop_frames: int = 48
    stream_seconds: float = 15.0
    music_share: float = 0.07
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        if self.batch < 1 or self.crop_frames < 1:
            raise InputError(f"batch is {self.batch} and crop_frames {self.crop_frames}, expected at least 1")
        if self.stream_seconds < 0.0:
            raise InputError(f"stream_seconds is {self.stream_seconds}, expected at least 0")


class Turns:
    """Which crop of which stream each row of a batch hears at a step."""

    def __init__(self, batch: int, crops: int) -> None:
        self.batch = batch
        self.crops = crops

    def place(self, row: int, step: int) -> tuple[int, int]:
        """The number of the stream that `row` hears at `step`, and of the crop in it."""
        return divmod(step + row * self.crops // self.batch, self.crops)

    def goes_on(self, step: int) -> Tensor:
        """Which rows of the batch of `step` go on with a stream of the batch before: [batch] bool."""
        return torch.tensor([self.place(row, step)[1] > 0 for row in range(self.batch)])


class StreamDraw:
    """Draws augmented streams of the corpus's training side; sources are drawn by the square root of their hours.

    Raises `InputError` where no source of speech is longer than `shortest` samples.
    """

    def __init__(self, corpus: Corpus, music_share: float, augmentation: Augmentation, shortest: int) -> None:
        self.corpus = corpus
        self.music_share = music_share
        self.augmentation = augmentation
        self._speech = _long(corpus.spans("speech", held_out=False), shortest)
        self._music = _long(corpus.spans("music", held_out=False), shortest)
        if not len(self._speech):
            raise InputError(f"the corpus has no training speech as long as a crop ({shortest / corpus.rate:.1f} s)")

    def __call__(self, length: int, *key: int) -> Samples:
        """The stream of `length` samples that the numbers `key` stand for."""
        chance = np.random.default_rng(key)
        music = len(self._music) > 0 and chance.random() < self.music_share
        spans = self._music if music else self._speech

        def read(count: int) -> Samples:
            return self._crop(spans, count, chance)

        def other(count: int) -> Samples:
            beside = self._music if len(self._music) and chance.random() < 0.7 else self._speech
            return self._crop(beside, count, chance)

        return augment(read, other, length, self.corpus.rate, self.augmentation, chance)

    def _crop(self, spans: NDArray[np.int64], length: int, chance: np.random.Generator) -> Samples:
        weights = np.sqrt(spans[:, 1] - spans[:, 0])
        start, end = spans[chance.choice(len(spans), p=weights / weights.sum())]
        if end - start < length:  # a short source is heard again and again
            return np.resize(self.corpus.read(int(start), int(end - start)), length)
        return self.corpus.read(int(chance.integers(start, end - length + 1)), length)


class Batches:
    """Batches of audio, each row a crop of its stream."""

    def __init__(self, corpus: Corpus, crops: Crops, hop: int, seed: int) -> None:
        self.length = crops.crop_frames * hop
        self.turns = Turns(crops.batch, max(1, round(crops.stream_seconds * corpus.rate / self.length)))
        self.seed = seed
        self._draw = StreamDraw(corpus, crops.music_share, crops.augmentation, round(self.length * 1.2))
        self._streams: dict[int, tuple[int, Samples]] = {}

    def __call__(self, step: int) -> Tensor:
        """The batch of `step`: [batch, 1, crop] float32."""
        return torch.from_numpy(np.stack([self._heard(row, *self.turns.place(row, step)) for row in range(self.turns.batch)]))[:, None]

    def goes_on(self, step: int) -> Tensor:
        """Which rows of the batch of `step` go on with a stream of the batch before: [batch] bool."""
        return self.turns.goes_on(step)

    def _heard(self, row: int, stream: int, crop: int) -> Samples:
        if self._streams.get(row, (-1,))[0] != stream:
            self._streams[row] = stream, self._draw(self.turns.crops * self.length, self.seed, row, stream)
        return self._streams[row][1][crop * self.length : (crop + 1) * self.length]


def _long(spans: dict[str, tuple[int, int]], shortest: int) -> NDArray[np.int64]:
    return np.array([span for span in spans.values() if span[1] - span[0] >= shortest], dtype=np.int64).reshape(-1, 2)
