"""The rows of streams that are coded in chunks: a packet is one chunk, and a step takes a whole one, without a state.

They have the interface of the rows of `rows.py`. `encoder_row` and `decoder_row` make the row that a model needs.
"""

from __future__ import annotations

from collections import deque
from typing import Any, NoReturn

import numpy as np

from streamcodec.config import Start
from streamcodec.engine.base import Engine
from streamcodec.engine.chunking import ChunkCutter, OverlapAdd, normalised
from streamcodec.errors import CodesError, UnsupportedModelError
from streamcodec.scheduler.rows import DecoderRow, DecoderRowState, EncoderRow, EncoderRowState, Row, Step
from streamcodec.types import Chunk, Codes, Samples, States

__all__ = ["ChunkDecoderRow", "ChunkEncoderRow", "decoder_row", "encoder_row"]


def encoder_row(engine: Engine, *, n_q: int, packet_frames: int, start: Start, saved: EncoderRowState | None = None) -> Row:
    """The row of an encoder, which goes on from `saved`; a model in chunks has packets of its own length and no start."""
    if engine.config.granularity == "chunks":
        return ChunkEncoderRow(engine, n_q=n_q)
    row = EncoderRow(engine, n_q=n_q, packet_frames=packet_frames, start=start)
    if saved is not None:
        row.restore(saved)
    return row


def decoder_row(engine: Engine, *, n_q: int, start: Start, saved: DecoderRowState | None = None) -> Row:
    """The row of a decoder, which goes on from `saved`."""
    if engine.config.granularity == "chunks":
        return ChunkDecoderRow(engine)
    row = DecoderRow(engine, n_q=n_q, start=start)
    if saved is not None:
        row.restore(saved)
    return row


class _StaysHere:
    """A row that is no value: a model in chunks keeps up to a chunk of samples, and no state."""

    def snapshot(self) -> NoReturn:
        """There is none."""
        raise UnsupportedModelError("the model codes chunks, expected one that codes frame by frame: its streams cannot be moved")

    def restore(self, saved: Any) -> NoReturn:  # noqa: ARG002
        """There is nothing to go on from."""
        self.snapshot()


class ChunkEncoderRow(_StaysHere):
    """Encodes a stream of samples, [T] of a mono model and [C, T] of the others, to chunks."""

    def __init__(self, engine: Engine, *, n_q: int) -> None:
        self.n_q = n_q
        self._normalize = engine.config.normalize
        self._cutter = ChunkCutter(engine.config)
        self._scale: float | None = None

    def feed(self, samples: Samples) -> None:
        """Append samples of any length; the caller must not change the array afterwards."""
        self._cutter.feed(samples)

    def finish(self) -> None:
        """Mark the end of the samples: the rest becomes steps."""
        self._cutter.finish()

    def next_step(self) -> Step[Samples] | None:
        """The step that is due now, or None."""
        chunk = self._cutter.next_chunk()
        if chunk is None:
            return None
        if self._normalize:
            scaled, scales = normalised(np.atleast_2d(chunk)[None])
            chunk, self._scale = scaled[0].reshape(chunk.shape), float(scales[0])
        return Step(np.ascontiguousarray(chunk), None, final=True)

    def complete(self, codes: Codes, state: States) -> list[Chunk]:  # noqa: ARG002
        """Take the result of the last step, codes [n_q or more, F]; return its chunk."""
        return [Chunk(codes[: self.n_q], self._scale)]

    def remainder(self) -> list[Chunk]:
        """Nothing: each step gives a packet."""
        return []


class ChunkDecoderRow(_StaysHere):
    """Decodes a stream of chunks to samples, [T] of a mono model and [C, T] of the others; what overlaps with the next one is held back."""

    def __init__(self, engine: Engine) -> None:
        config = engine.config
        assert config.chunk_stride is not None
        self._joining = OverlapAdd(config.chunk_stride)
        self._most_frames: int | None = None
        self._waiting: deque[Chunk] = deque()
        self._scale: float | None = None
        self._decoded = False

    def feed(self, chunk: Chunk) -> None:
        """Append a chunk of codes [n_q, F]; n_q may change from chunk to chunk. Raises `CodesError` for more frames than the first had."""
        frames = chunk.codes.shape[1]
        if self._most_frames is not None and frames > self._most_frames:
            raise CodesError(f"a chunk has {frames} frames, the first had {self._most_frames}: only the last ones may be shorter")
        self._most_frames = self._most_frames or frames
        self._waiting.append(chunk)

    def finish(self) -> None:
        """Mark the end of the chunks."""

    def next_step(self) -> Step[Codes] | None:
        """The step that is due now, or None."""
        if not self._waiting:
            return None
        chunk = self._waiting.popleft()
        self._scale, self._decoded = chunk.scale, True
        return Step(np.ascontiguousarray(chunk.codes), None, final=True)

    def complete(self, samples: Samples, state: States) -> list[Samples]:  # noqa: ARG002
        """Take the result of the last step, samples [T] or [C, T]; return the samples that are final."""
        return [self._joining.add(samples if self._scale is None else samples * np.float32(self._scale))]

    def remainder(self) -> list[Samples]:
        """What the last chunk held back; call it after the last step of a finished row."""
        return [self._joining.flush()] if self._decoded else []
