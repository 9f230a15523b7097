"""Models that code chunks or whole clips equal the packages on clips of every length: the 48 kHz stereo model and the 32 kHz one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from parity import assert_same_chunks
from reference_models import PUBLISHED, SMALL

import streamcodec
from benchmarks.harness.clips import AUDIO_WITHIN, decode_clip, row_of, scales_apart
from benchmarks.harness.music import music
from benchmarks.peers.random_models import transformers_model
from benchmarks.peers.references import Reference, TransformersReference, reference_of
from streamcodec.audio import resample
from streamcodec.codec import Chunk
from streamcodec.codec.chunks import as_chunks, overlap_add
from streamcodec.engine.base import EngineName
from streamcodec.errors import CodesError, InputError, UnsupportedModelError
from streamcodec.types import Samples

LENGTHS = (1, 39, 40, 41, 1_079, 1_080, 1_199, 1_200, 1_201, 2_280, 2_281, 5_000)


def assert_equal_to(reference: Reference, codec: streamcodec.Codec, clip: Samples, bandwidth: float) -> None:
    """What the package makes of clip [C, T], and what it makes of its codes."""
    expected = reference.encode(clip[None], bandwidth)
    encoded = codec.encode(clip, bandwidth=bandwidth)
    assert isinstance(encoded, np.ndarray if codec.config.codes_alone else list)
    assert_same_chunks(codec, as_chunks(encoded), row_of(expected), clip)
    audio, heard = decode_clip(codec, row_of(expected)), reference.decode(expected)[0]
    assert audio.shape == heard.shape
    assert np.abs(audio - heard).max() <= AUDIO_WITHIN


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("engine", ["torch", "openvino", "onnx"])
def test_clips_of_awkward_lengths_equal_transformers_at_every_bandwidth(name: str, engine: EngineName, tmp_path: Path) -> None:
    reference = TransformersReference(transformers_model(**SMALL[name]))
    codec = streamcodec.load(reference.save(tmp_path), engine=engine)
    assert codec.config.granularity == ("clips" if name == "32 kHz" else "chunks")
    for length in LENGTHS if engine == "torch" else LENGTHS[::2]:
        for bandwidth in codec.config.target_bandwidths:
            assert_equal_to(reference, codec, music(codec.config.audio_channels, length, length), bandwidth)


@pytest.mark.parametrize("name", ["encodec_48khz", "encodec_32khz"])
def test_the_published_models_equal_transformers(name: str, tmp_path: Path) -> None:
    reference = reference_of("transformers", name)
    codec = streamcodec.load(reference.save(tmp_path), engine="torch")
    highest = max(codec.config.target_bandwidths)
    assert_equal_to(reference, codec, music(codec.config.audio_channels, 60_001), highest)


def test_the_48_khz_model_of_the_package_encodec_is_known_by_its_tensors_and_codes_the_same(tmp_path: Path) -> None:
    reference = reference_of("encodec", "encodec_48khz")
    codec = streamcodec.load(reference.save(tmp_path), engine="torch")
    assert (codec.sample_rate, codec.config.audio_channels, codec.config.chunk_stride) == (48_000, 2, 47_520)
    assert_equal_to(reference, codec, music(2, 49_000), 6.0)


@pytest.fixture(scope="module")
def stereo(tmp_path_factory: pytest.TempPathFactory) -> streamcodec.Codec:
    folder = tmp_path_factory.mktemp("stereo")
    transformers_model(**SMALL["48 kHz"]).save_pretrained(folder)
    return streamcodec.load(folder, engine="torch")


def test_clips_of_a_batch_are_coded_each_for_itself(stereo: streamcodec.Codec) -> None:
    clips = np.stack([music(2, 3_000, 1), 0.1 * music(2, 3_000, 2), np.zeros((2, 3_000), np.float32)])
    together = stereo.encode(clips)
    for row, clip in enumerate(clips):
        alone = stereo.encode(clip)
        for chunk, expected in zip(together, alone, strict=True):
            np.testing.assert_array_equal(chunk.codes[row], expected.codes)
            assert chunk.scale[row] == pytest.approx(expected.scale)
    heard = stereo.decode(together)
    assert heard.shape[:2] == (3, 2)
    np.testing.assert_allclose(heard[1], stereo.decode(stereo.encode(clips[1])), atol=1e-6)


def test_a_mono_clip_is_heard_on_both_channels_of_a_stereo_model(stereo: streamcodec.Codec) -> None:
    clip = music(1, 2_000)
    both = stereo.encode(np.repeat(clip, 2, axis=0))
    for chunk, expected in zip(stereo.encode(clip[0]), both, strict=True):
        np.testing.assert_array_equal(chunk.codes, expected.codes)


def test_torch_tensors_give_torch_tensors(stereo: streamcodec.Codec) -> None:
    chunks = stereo.encode(torch.from_numpy(music(2, 2_000))[None])
    assert all(isinstance(chunk.codes, torch.Tensor) and isinstance(chunk.scale, torch.Tensor) for chunk in chunks)
    assert isinstance(stereo.decode(chunks), torch.Tensor)


@pytest.fixture(scope="module")
def clips_only(tmp_path_factory: pytest.TempPathFactory) -> streamcodec.Codec:
    folder = tmp_path_factory.mktemp("clips")
    transformers_model(**SMALL["32 kHz"]).save_pretrained(folder)
    return streamcodec.load(folder, engine="torch")


@pytest.mark.parametrize("open_stream", ["stream_encoder", "stream_decoder", "warm_up"])
def test_a_model_that_needs_whole_clips_says_so_where_a_stream_is_asked_for(clips_only: streamcodec.Codec, open_stream: str) -> None:
    with pytest.raises(
        UnsupportedModelError, match="codes whole clips only: this model is not causal: each frame depends on later samples"
    ):
        getattr(clips_only, open_stream)()


@pytest.mark.parametrize("model", ["stereo", "clips_only"])
def test_blocks_become_the_codes_of_the_clip_and_the_clip_again(model: str, request: pytest.FixtureRequest) -> None:
    codec = request.getfixturevalue(model)
    for length in (1, 1_079, 1_081, 1_239, 5_000):
        clip = music(codec.channels, length)
        blocks = [clip[:, at : at + 700] for at in range(0, length, 700)]
        packets, expected = list(codec.encode_blocks(blocks, codec.sample_rate, codec.channels)), codec.encode(clip)
        if not isinstance(expected, list):
            [codes] = packets
            np.testing.assert_array_equal(codes, expected)
        else:
            assert_same_chunks(codec, packets, expected, clip)
            assert scales_apart(packets, expected) <= 1e-6
        heard = np.concatenate(list(codec.decode_blocks(packets)), axis=-1)
        whole = codec.decode(packets if isinstance(expected, list) else packets[0])
        assert heard.shape == whole.shape and length <= heard.shape[-1]
        np.testing.assert_allclose(heard, whole, atol=1e-6)


def test_a_stream_of_chunks_takes_blocks_of_another_rate_and_other_channels(stereo: streamcodec.Codec) -> None:
    mono = music(1, 3_000)[0]
    encoder = stereo.stream_encoder(sample_rate=24_000, channels=1)
    packets = [*encoder.feed(mono[:1_000]), *encoder.feed(mono[1_000:]), *encoder.flush()]
    assert [chunk.codes.shape[1] for chunk in packets] == [stereo.config.frames_for(n) for n in stereo.config.chunk_sizes(6_000)]
    decoder = stereo.stream_decoder()
    heard = np.concatenate([decoder.feed(packets[:2]), *map(decoder.feed, packets[2:]), decoder.flush()], axis=1)
    # One chunk after the other, as a whole clip is decoded.
    np.testing.assert_allclose(heard, stereo.decode(packets), atol=1e-6)


def test_a_stereo_clip_of_another_rate_is_resampled_channel_by_channel(stereo: streamcodec.Codec) -> None:
    clips = np.stack([music(2, 3_000, seed) for seed in (1, 2)])
    together = stereo.encode(clips, sample_rate=32_000)
    for row, clip in enumerate(clips):
        resampled = np.stack([resample(channel, 32_000, 48_000) for channel in clip])
        expected = stereo.encode(resampled)
        assert_same_chunks(stereo, row_of(together, row), expected, resampled)
        assert scales_apart(row_of(together, row), expected) <= 1e-6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"packet_frames": 6}, "packet_frames is 6, expected 30: this model codes chunks of 0.025 s"),
        ({"start": "primed"}, "start is 'primed', expected 'exact'"),
        ({"silence_db": -50.0}, "silence_db is -50.0, expected none"),
    ],
)
def test_what_only_models_of_frames_have_is_refused_by_name(stereo: streamcodec.Codec, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        stereo.stream_encoder(**arguments)
    stereo.stream_encoder(packet_frames=30, start="exact")


def test_packets_that_are_no_chunks_are_refused_by_a_stream(stereo: streamcodec.Codec) -> None:
    decoder = stereo.stream_decoder()
    codes = np.zeros((2, 30), np.int32)
    for packet, message in (
        (codes, "a packet is a ndarray, expected a chunk"),
        (Chunk(codes), "a chunk has no scale"),
        (Chunk(codes, float("nan")), "expected 1 finite scale"),
        (Chunk(codes, -1.0), "expected 1 finite scale"),
        (Chunk(np.zeros((2, 31), np.int32), 1.0), "a chunk has 31 frames, expected at most 30"),
    ):
        with pytest.raises(CodesError, match=message):
            decoder.feed(packet)


def test_clips_that_end_where_one_chunk_reaches_beyond_the_next_are_whole(tmp_path: Path) -> None:
    # The published strides: chunks begin 148.5 frames apart, so a chunk of 47,700 samples is decoded beyond the one of 180 after it.
    transformers_model(**{**PUBLISHED["48 kHz"], "num_filters": 4, "hidden_size": 16, "codebook_dim": 16}).save_pretrained(tmp_path)
    codec = streamcodec.load(tmp_path, engine="torch")
    clip = music(2, 47_700)
    chunks = codec.encode(clip, bandwidth=3)
    assert [chunk.codes.shape[1] for chunk in chunks] == [150, 1]
    assert codec.decode(chunks).shape == (2, 48_000)


def test_codes_that_are_no_chunks_of_the_model_are_refused(stereo: streamcodec.Codec) -> None:
    chunks = stereo.encode(music(2, 2_000))
    with pytest.raises(CodesError, match="expected the list of chunks"):
        stereo.decode(chunks[0].codes)
    with pytest.raises(CodesError, match=r"a chunk has no scale, expected 1 scale\(s\)"):
        stereo.decode([Chunk(chunks[0].codes)])


def test_parts_that_do_not_overlap_are_joined_as_they_are() -> None:
    parts = [np.full((1, 4), value, np.float32) for value in (1.0, 2.0)]
    np.testing.assert_allclose(overlap_add(parts, 4), [[1, 1, 1, 1, 2, 2, 2, 2]])
