"""Encodes clips that come in blocks, several in one step of the model: whole clips never lie in memory, however long they are.

Only for models that code frame by frame. Each clip has a state of its own, so its codes are those that it has alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from streamcodec.audio.dsp.resample import StreamResampler
from streamcodec.audio.samples import check_block
from streamcodec.codec.arrays import as_numpy, owned
from streamcodec.engine.base import Engine
from streamcodec.errors import StreamCodecError
from streamcodec.types import Codes, Samples, States

__all__ = ["BlocksOfClip", "Piece", "encode_together"]

_MOST_FRAMES = 300  # in a step of a single clip, 4 s: longer ones gain nothing
_FEWEST_FRAMES = 75  # in a step of many clips


class BlocksOfClip(NamedTuple):
    """A clip: blocks [T] or [C, T] of any size, their rate in Hz and their number of channels."""

    blocks: Iterable[Any]
    rate: float
    channels: int = 1


@dataclass(frozen=True)
class Piece:
    """The next codes [n_q, frames] of the clip with this index, or the error that its blocks raised; `last` says that it has no more."""

    index: int
    codes: Codes | StreamCodecError | OSError
    last: bool


def encode_together(engine: Engine, clips: Sequence[BlocksOfClip], n_q: int) -> Iterator[Piece]:
    """Encode clips with `n_q` codebooks, piece by piece. Those of about one length are encoded fastest.

    If the blocks of a clip raise an error, the other clips go on. Nothing comes of a clip without samples.
    """
    rows = [_ClipRow(index, clip, engine.config.sampling_rate) for index, clip in enumerate(clips)]
    while rows:
        frames = min(_MOST_FRAMES, max(_FEWEST_FRAMES, _MOST_FRAMES // len(rows)))
        size = max(frames, engine.traits.encoder_start_frames) * engine.config.hop_length
        for row in rows:
            row.read(size)
            if row.error is not None:
                yield Piece(row.index, row.error, True)
        rows = [row for row in rows if row.error is None and len(row.held)]
        # One step takes rows that are alike: at their start or not, at their end or not, and of one length.
        for (_, final, length), alike in groupby(sorted(rows, key=lambda row: row.kind(size)), key=lambda row: row.kind(size)):
            together = list(alike)
            samples = owned(np.stack([row.held[:length] for row in together]))
            first = [row.state for row in together if row.state is not None]
            codes, states = engine.encode(samples, np.stack(first) if first else None, [n_q] * len(together), final=final)
            for row, coded, state in zip(together, codes, states, strict=True):
                row.held, row.state = row.held[length:], state
                yield Piece(row.index, coded, final)
        rows = [row for row in rows if len(row.held) or not row.ended]


class _ClipRow:
    """A clip on its way: the samples that were read and are not encoded yet, and the state behind those that are."""

    def __init__(self, index: int, clip: BlocksOfClip, rate: int) -> None:
        self.index = index
        self.held: Samples = np.empty(0, np.float32)
        self.state: States | None = None
        self.ended = False
        self.error: StreamCodecError | OSError | None = None
        self._blocks, self._channels = iter(clip.blocks), clip.channels
        self._resampler = StreamResampler(clip.rate, rate)

    def read(self, size: int) -> None:
        """Hold more than `size` samples, or all that are left: something stays for the last step, which ends the clip."""
        held, count = [self.held], len(self.held)
        try:
            while count <= size and not self.ended:
                block = next(self._blocks, None)
                self.ended = block is None
                new = self._resampler.flush() if block is None else self._resampler.feed(check_block(as_numpy(block)[0], self._channels))
                held.append(new)
                count += len(new)
        except (StreamCodecError, OSError) as error:
            self.error = error
        self.held = np.concatenate(held)

    def kind(self, size: int) -> tuple[bool, bool, int]:
        """Whether the clip has begun, whether its next step of at most `size` samples is its last, and how many samples that takes."""
        return self.state is not None, len(self.held) <= size, min(size, len(self.held))
