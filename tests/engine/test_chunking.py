"""Audio that is cut into chunks has the reference's chunks whatever its pieces, and overlap-add joins what was cut."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st

from streamcodec.config import CodecConfig
from streamcodec.engine.chunking import ChunkCutter, OverlapAdd, normalised

HOP = 40


def config_of(length: int, overlap: float) -> CodecConfig:
    """Chunks of `length` samples at 1,000 Hz."""
    return CodecConfig(
        sampling_rate=1_000,
        upsampling_ratios=(8, 5),
        use_causal_conv=False,
        chunk_length_s=length / 1_000,
        overlap=overlap,
        target_bandwidths=(10.0,),
    )


CONFIGS = st.builds(config_of, st.integers(1, 300), st.sampled_from([0.0, 0.01, 0.1, 0.5, 0.9]))


def cut(config: CodecConfig, audio: npt.NDArray[np.float32], at: list[int]) -> list[npt.NDArray[np.float32]]:
    cutter, chunks = ChunkCutter(config), []
    for piece in np.split(audio, sorted(at), axis=-1):
        cutter.feed(piece)
        chunks += list(cutter)
    cutter.finish()
    return [*chunks, *cutter]


@given(config=CONFIGS, channels=st.integers(1, 2), length=st.integers(1, 2_000), data=st.data())
def test_chunks_are_the_reference_s_whatever_the_pieces(config: CodecConfig, channels: int, length: int, data: st.DataObject) -> None:
    audio = np.random.default_rng(length).standard_normal((channels, length)).astype(np.float32)
    chunks = cut(config, audio, data.draw(st.lists(st.integers(0, length), max_size=6)))
    assert config.chunk_length is not None and config.chunk_stride is not None
    # As `transformers` and `encodec` cut a clip.
    expected = [audio[:, at : at + config.chunk_length] for at in range(0, length, config.chunk_stride)]
    assert [chunk.shape[1] for chunk in chunks] == config.chunk_sizes(length)
    for chunk, reference in zip(chunks, expected, strict=True):
        np.testing.assert_array_equal(chunk, reference)


@given(config=CONFIGS, channels=st.integers(1, 2), length=st.integers(1, 2_000))
def test_what_was_cut_is_joined_again_though_each_part_is_padded_to_whole_frames(config: CodecConfig, channels: int, length: int) -> None:
    audio = np.random.default_rng(length).standard_normal((channels, length)).astype(np.float32)
    assert config.chunk_length is not None and config.chunk_stride is not None
    joining = OverlapAdd(config.chunk_stride)
    # A decoder gives whole frames. A part may then reach beyond the one after it, which is the last one.
    padded = np.pad(audio, [(0, 0), (0, 2 * config.chunk_length + HOP)])
    parts, at = [], 0
    for size in config.chunk_sizes(length):
        parts.append(joining.add(padded[:, at : at + config.frames_for(size) * HOP]))
        assert parts[-1].shape[1] <= config.chunk_stride
        at += config.chunk_stride
    joined = np.concatenate([*parts, joining.flush()], axis=1)
    assert length <= joined.shape[1] < length + HOP + config.chunk_length
    np.testing.assert_allclose(joined[:, :length], audio, atol=1e-5)


def test_parts_fade_linearly_into_each_other() -> None:
    joining = OverlapAdd(8)
    heard = np.concatenate([joining.add(np.zeros(12, np.float32)), joining.add(np.ones(12, np.float32)), joining.flush()])
    assert (heard[:8] == 0).all() and (heard[12:] == 1).all()
    np.testing.assert_allclose(heard[8:12], [1 / 5, 2 / 5, 3 / 5, 4 / 5], atol=1e-6)


def test_a_model_without_chunks_gets_one_at_the_end() -> None:
    config = CodecConfig(use_causal_conv=False)
    [chunk] = cut(config, np.arange(100, dtype=np.float32), [10, 50])
    np.testing.assert_array_equal(chunk, np.arange(100))


def test_chunks_are_scaled_by_the_loudness_of_their_mono_mix_and_silence_stays_silent() -> None:
    chunks = np.stack([np.full((2, 10), 0.5), np.zeros((2, 10)), np.stack([np.ones(10), -np.ones(10)])]).astype(np.float32)
    scaled, scales = normalised(chunks)
    np.testing.assert_allclose(scales, [0.5, 1e-8, 1e-8], rtol=1e-6)
    np.testing.assert_allclose(scaled[0], 1.0, rtol=1e-6)
    assert (scaled[1] == 0).all()
