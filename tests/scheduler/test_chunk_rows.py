"""Rows of chunks: each complete chunk is a step of its own, and what overlaps waits for the chunk after it."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest

from streamcodec.config import CodecConfig
from streamcodec.engine.base import Engine
from streamcodec.errors import CodesError
from streamcodec.scheduler.chunk_rows import ChunkDecoderRow, ChunkEncoderRow
from streamcodec.types import Chunk, Codes, Samples

HOP = 4


class FakeEngine:
    """An engine whose codes are the frames' first samples, and whose samples are those codes again."""

    def __init__(self, channels: int, *, normalize: bool = False) -> None:
        self.config = CodecConfig(
            sampling_rate=1_000,
            audio_channels=channels,
            upsampling_ratios=(HOP,),
            use_causal_conv=False,
            normalize=normalize,
            chunk_length_s=0.04,
            overlap=0.2,
            target_bandwidths=(100.0,),
        )

    def encode(self, samples: Samples, n_q: int) -> Codes:
        first = np.atleast_2d(samples)[0, ::HOP]
        return np.tile(np.rint(first).astype(np.int32), (n_q + 1, 1))

    def decode(self, codes: Codes) -> Samples:
        samples = np.repeat(codes[0].astype(np.float32), HOP)
        return samples if self.config.audio_channels == 1 else np.tile(samples, (self.config.audio_channels, 1))


def encoded(fake: FakeEngine, row: ChunkEncoderRow) -> list[Chunk]:
    chunks = []
    while (step := row.next_step()) is not None:
        assert step.final and step.state is None and step.encodes
        chunks += row.complete(fake.encode(step.data, row.n_q), np.empty(0, np.float32))
    return chunks


@pytest.mark.parametrize("channels", [1, 2])
def test_a_chunk_comes_when_its_last_sample_is_there_and_the_rest_at_the_end(channels: int) -> None:
    fake = FakeEngine(channels)
    row = ChunkEncoderRow(cast(Engine, fake), n_q=2)
    audio = np.arange(100, dtype=np.float32) if channels == 1 else np.tile(np.arange(100, dtype=np.float32), (2, 1))
    counts = []
    for at in range(0, 100, 10):
        row.feed(audio[..., at : at + 10])
        counts.append([chunk.codes[0, 0] for chunk in encoded(fake, row)])
    # Chunks of 40 samples begin 32 apart.
    assert counts == [[], [], [], [0], [], [], [], [32], [], []]
    row.finish()
    chunks = encoded(fake, row)
    assert [chunk.codes.tolist() for chunk in chunks] == [[list(range(64, 100, HOP))] * 2, [[96]] * 2]
    assert all(chunk.scale is None for chunk in chunks)
    assert row.remainder() == []


def test_a_chunk_carries_the_loudness_that_its_samples_were_divided_by() -> None:
    fake = FakeEngine(2, normalize=True)
    row = ChunkEncoderRow(cast(Engine, fake), n_q=1)
    row.feed(np.full((2, 40), 7.0, np.float32))
    row.feed(np.full((2, 32), 3.0, np.float32))
    first, second = encoded(fake, row)
    assert first.scale == pytest.approx(7.0) and (first.codes == 1).all()
    mean_square = (8 * 49 + 32 * 9) / 40
    assert second.scale == pytest.approx(mean_square**0.5)


@pytest.mark.parametrize("channels", [1, 2])
def test_what_overlaps_is_held_back_and_comes_at_the_end(channels: int) -> None:
    fake = FakeEngine(channels)
    row = ChunkDecoderRow(cast(Engine, fake))
    heard, lengths = [], []
    for level in (5, 5, 5):
        row.feed(Chunk(np.full((2, 10), level, np.int32), 2.0))
        step = row.next_step()
        assert step is not None and step.final and not step.encodes
        parts = row.complete(fake.decode(step.data), np.empty(0, np.float32))
        assert row.next_step() is None
        heard += parts
        lengths.append(sum(part.shape[-1] for part in parts))
    row.finish()
    assert lengths == [32, 32, 32]
    heard += row.remainder()
    joined = np.concatenate(heard, axis=-1)
    assert joined.shape == ((104,) if channels == 1 else (2, 104))
    np.testing.assert_allclose(joined, 10.0, rtol=1e-6)


def test_a_chunk_that_is_longer_than_the_first_is_refused() -> None:
    row = ChunkDecoderRow(cast(Engine, FakeEngine(1)))
    row.feed(Chunk(np.zeros((2, 9), np.int32)))
    with pytest.raises(CodesError, match="a chunk has 10 frames, the first had 9"):
        row.feed(Chunk(np.zeros((2, 10), np.int32)))


def test_a_stream_without_a_chunk_has_no_remainder() -> None:
    row = ChunkDecoderRow(cast(Engine, FakeEngine(2)))
    row.finish()
    assert row.next_step() is None and row.remainder() == []
