"""The library's main interface: the input that it takes, its results, and the errors for invalid input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from package_codecs import Reference, transformers_reference
from parity import assert_same_codes

import streamcodec
from streamcodec.audio import resample
from streamcodec.errors import AudioError, CodesError, InputError, StreamCodecError
from streamcodec.types import Codes, Samples

# 64 entries are 6 bits and a hop of 24 is 1,000 frames per second: 6 kbps a codebook, four codebooks.
TINY = {
    "num_filters": 4,
    "hidden_size": 16,
    "codebook_dim": 16,
    "codebook_size": 64,
    "upsampling_ratios": [4, 3, 2],
    "target_bandwidths": [6.0, 12.0, 24.0],
}
TINY_HOP = 24


@pytest.fixture(scope="module")
def tiny_pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Reference, streamcodec.Codec]:
    reference = transformers_reference(seed=4, **TINY)
    return reference, streamcodec.load(reference.save(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="module")
def tiny(tiny_pair: tuple[Reference, streamcodec.Codec]) -> streamcodec.Codec:
    """A small model that pads by reflection, as the published one does."""
    return tiny_pair[1]


def noise(*shape: int, seed: int = 0) -> Samples:
    return (np.random.default_rng(seed).standard_normal(shape) * 0.1).astype(np.float32)


def random_codes(frames: int, n_q: int = 4, seed: int = 0) -> Codes:
    return np.random.default_rng(seed).integers(0, 64, (n_q, frames), dtype=np.int32)


def joined(packets: list[Codes]) -> Codes:
    return np.concatenate(packets, axis=1)


def similarity_db(estimate: Samples, target: Samples) -> float:
    return float(10 * np.log10((target**2).sum() / ((target - estimate) ** 2).sum()))


# Clips -------------------------------------------------------------------------------------------------------------------------------


def test_the_embedded_model_is_the_default_and_knows_its_numbers(speech_codec: streamcodec.Codec) -> None:
    assert speech_codec.name == "speech-24k"
    assert (speech_codec.sample_rate, speech_codec.hop_length, speech_codec.frame_rate) == (24_000, 320, 75.0)
    assert len(speech_codec.fingerprint) == 32


def test_speech_survives_the_embedded_model_and_better_at_more_bandwidth(speech_codec: streamcodec.Codec, speech: Samples) -> None:
    clip = speech[:48_000]
    quality = [similarity_db(speech_codec.decode(speech_codec.encode(clip, bandwidth=b)), clip) for b in (1.5, 6, 24)]
    assert quality[0] < quality[1] < quality[2]
    assert quality[2] > 5


@pytest.mark.parametrize(
    ("shape", "codes_shape"),
    [((1_000,), (8, 4)), ((1, 1_000), (8, 4)), ((2, 1_000), (8, 4)), ((1, 1, 1_000), (1, 8, 4)), ((3, 2, 961), (3, 8, 4)), ((1,), (8, 1))],
)
def test_the_layout_of_a_clip_follows_from_its_number_of_axes(
    shape: tuple[int, ...], codes_shape: tuple[int, ...], speech_codec: streamcodec.Codec
) -> None:
    codes = speech_codec.encode(noise(*shape))
    assert codes.shape == codes_shape
    assert codes.dtype == np.int32
    assert speech_codec.decode(codes).shape == (*codes_shape[:-2], codes_shape[-1] * 320)


def test_channels_are_mixed_down_and_rows_of_a_batch_are_clips(tiny: streamcodec.Codec) -> None:
    stereo = noise(2, 500)
    assert (tiny.encode(stereo) == tiny.encode(stereo.mean(axis=0))).all()
    batch = noise(3, 2, 500)
    codes = tiny.encode(batch)
    for row, clip in zip(codes, batch, strict=True):
        assert_same_codes(tiny, row, tiny.encode(clip), clip.mean(axis=0))


@pytest.mark.parametrize(
    ("audio", "culprit"),
    [
        (np.zeros((1, 1, 1, 100), np.float32), r"shape \[1, 1, 1, 100\], expected \[T\], \[C, T\] or \[B, C, T\]"),
        (np.float32(0.5), r"shape \[\]"),
        (np.zeros((24_000, 2), np.float32), r"shape \[24000, 2\].*transpose"),
        (np.zeros(0, np.float32), r"empty \(shape \[0\]\)"),
        (np.zeros((0, 1, 100), np.float32), r"empty \(shape \[0, 1, 100\]\)"),
        (np.array([0.0, np.nan], np.float32), "nan at index 1"),
        (np.array([[0.0], [np.inf]], np.float32), "inf at index"),
        (np.array([0.0, 20_000.0], np.float32), "looks like integers"),
        (np.zeros(10, np.complex64), "dtype complex64"),
        (["a", "b"], "dtype"),
        ([[1.0], [1.0, 2.0]], "not an array of numbers"),
        (object(), "dtype object"),
        (None, "dtype object"),
        (torch.zeros(10, dtype=torch.bfloat16), "bfloat16"),
    ],
)
def test_audio_that_cannot_be_encoded_is_refused_by_name(audio: Any, culprit: str, tiny: streamcodec.Codec) -> None:
    with pytest.raises(InputError, match=f"(?i){culprit}"):
        tiny.encode(audio)


def test_samples_of_any_kind_mean_the_same(tiny: streamcodec.Codec) -> None:
    pcm = (noise(700) * 32_768).astype(np.int16)
    clip = (pcm / 32_768).astype(np.float32)
    expected = tiny.encode(clip)
    for audio in (pcm, pcm.astype(np.int32) * 65_536, clip.astype(np.float64), list(clip), clip[::-1][::-1], clip.astype(">f4")):
        codes = tiny.encode(audio)
        assert isinstance(codes, np.ndarray)
        assert (codes == expected).all()


def test_torch_in_is_torch_out(tiny: streamcodec.Codec) -> None:
    clip = noise(700)
    codes = tiny.encode(torch.from_numpy(clip))
    assert isinstance(codes, torch.Tensor)
    assert (codes.numpy() == tiny.encode(clip)).all()
    decoded, latents = tiny.decode(codes), tiny.embed(codes)
    assert isinstance(decoded, torch.Tensor)
    assert isinstance(latents, torch.Tensor)
    assert isinstance(tiny.decode_latents(latents), torch.Tensor)
    assert isinstance(tiny.encode(torch.from_numpy(clip).double().requires_grad_()), torch.Tensor)
    assert isinstance(tiny.decode(codes.long()), torch.Tensor)


def test_read_only_arrays_such_as_those_of_received_bytes_are_taken(tiny: streamcodec.Codec) -> None:
    clip = np.frombuffer(noise(700).tobytes(), np.float32)
    codes = np.frombuffer(tiny.encode(clip).tobytes(), np.int32).reshape(-1, 30)
    latents = tiny.embed(codes)
    latents.flags.writeable = False
    np.testing.assert_allclose(tiny.decode_latents(latents), tiny.decode(codes), atol=1e-5)
    encoder, decoder = tiny.stream_encoder(packet_frames=1), tiny.stream_decoder()
    assert joined(encoder.feed(clip)).shape[1] == 29
    assert decoder.feed(codes).shape == (30 * TINY_HOP,)


@pytest.mark.parametrize("rate", [8_000, 16_000, 24_000, 44_100, 48_000, 22_050.0, np.int64(96_000)])
@pytest.mark.parametrize("length", [1, 1_999, 20_000])
def test_any_sampling_rate_gives_as_many_frames_as_the_clip_lasts(rate: float, length: int, tiny: streamcodec.Codec) -> None:
    samples = int(np.floor(length * 24_000 / float(rate) + 0.5))
    if samples == 0:
        with pytest.raises(AudioError, match="shorter than one sample"):
            tiny.encode(noise(length), sample_rate=rate)
    else:
        assert tiny.encode(noise(length), sample_rate=rate).shape == (1, -(-samples // TINY_HOP))


@pytest.mark.parametrize("rate", [0, -1, 999, 10**9, float("nan"), "24000", True])
def test_a_sampling_rate_that_no_sound_has_is_refused_by_name(rate: Any, tiny: streamcodec.Codec) -> None:
    with pytest.raises(AudioError, match=f"sampling rate is .*{rate}"):
        tiny.encode(noise(100), sample_rate=rate)
    with pytest.raises(AudioError, match=f"sampling rate is .*{rate}"):
        tiny.stream_encoder(sample_rate=rate)


@pytest.mark.parametrize("bandwidth", [0, 7, 23.9, -6, float("nan"), float("inf"), "6", True])
def test_a_bandwidth_that_the_model_lacks_is_refused_with_those_it_has(bandwidth: Any, tiny: streamcodec.Codec) -> None:
    for use in (
        lambda: tiny.encode(noise(100), bandwidth=bandwidth),
        lambda: tiny.stream_encoder(bandwidth),
        lambda: tiny.stream_decoder(bandwidth),
    ):
        with pytest.raises(CodesError, match=f"bandwidth.*{bandwidth}.* has 6, 12, 24"):
            use()


def test_a_bandwidth_may_be_any_kind_of_number(tiny: streamcodec.Codec) -> None:
    clip = noise(200)
    assert tiny.encode(clip).shape[0] == 1
    assert [tiny.encode(clip, bandwidth=b).shape[0] for b in (12, 12.0, np.float32(12), np.int64(24))] == [2, 2, 2, 4]


@settings(max_examples=8)
@given(length=st.integers(1, 20_000), seed=st.integers(0, 99))
def test_a_clip_longer_than_one_piece_equals_the_reference(tiny_pair: tuple[Reference, streamcodec.Codec], length: int, seed: int) -> None:
    # The pieces are 300 frames, 7,200 samples of this model.
    reference, codec = tiny_pair
    clips = noise(2, length, seed=seed)
    expected = reference.encode(clips, 24)
    codes = codec.encode(clips[:, None], bandwidth=24)
    assert codes.shape == expected.shape
    assert (codes != expected).sum() <= 4 + 0.001 * codes.size
    assert np.abs(codec.decode(expected) - reference.decode(expected)).max() <= 1e-4


@pytest.mark.parametrize("length", [7_199, 7_200, 7_201, 7_224, 14_400, 14_401])
def test_a_clip_that_ends_where_a_piece_does_equals_the_reference(length: int, tiny_pair: tuple[Reference, streamcodec.Codec]) -> None:
    reference, codec = tiny_pair
    clip = noise(1, length, seed=7)
    expected = reference.encode(clip, 24)
    assert codec.encode(clip[0], bandwidth=24).shape == expected[0].shape
    assert (codec.encode(clip[0], bandwidth=24) != expected[0]).sum() <= 4
    assert np.abs(codec.decode(expected[0]) - reference.decode(expected)[0]).max() <= 1e-4


def test_progress_rises_to_one(tiny: streamcodec.Codec) -> None:
    shares: list[float] = []
    codes = tiny.encode(noise(30_000), progress=shares.append)
    assert len(shares) == 5
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    shares.clear()
    tiny.decode(codes, progress=shares.append)
    assert len(shares) == 5
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


# Codes -------------------------------------------------------------------------------------------------------------------------------


def test_decoding_with_fewer_codebooks_is_decoding_the_prefix(tiny: streamcodec.Codec) -> None:
    codes = np.stack([random_codes(50), random_codes(50, seed=1)])
    for n_q in (1, 2, 3, 4):
        assert (tiny.decode(codes, n_q=n_q) == tiny.decode(codes[:, :n_q])).all()
    assert (tiny.decode(codes[0], n_q=2) == tiny.decode(codes[0, :2])).all()


@pytest.mark.parametrize("n_q", [0, 5, -1, 2.5, "2", True])
def test_a_number_of_codebooks_that_the_codes_lack_is_refused(n_q: Any, tiny: streamcodec.Codec) -> None:
    with pytest.raises(CodesError, match=f"n_q is .*{n_q}.*, expected .*1 to 4"):
        tiny.decode(random_codes(5), n_q=n_q)


@pytest.mark.parametrize("frames", [1, 50, 301, 650])
def test_embed_and_decode_latents_together_equal_decode(frames: int, tiny: streamcodec.Codec) -> None:
    codes = random_codes(frames)
    latents = tiny.embed(codes)
    assert latents.shape == (16, frames)
    np.testing.assert_allclose(tiny.decode_latents(latents), tiny.decode(codes), atol=1e-5)
    batch = np.stack([codes, random_codes(frames, seed=1)])
    assert tiny.embed(batch).shape == (2, 16, frames)
    np.testing.assert_allclose(tiny.decode_latents(tiny.embed(batch)), tiny.decode(batch), atol=1e-5)


def test_embed_is_the_sum_of_the_entries_that_the_codes_name(tiny_pair: tuple[Reference, streamcodec.Codec]) -> None:
    reference, codec = tiny_pair
    codes = random_codes(9)
    entries = [layer.codebook.embed.numpy()[index] for layer, index in zip(reference.model.quantizer.layers, codes, strict=True)]  # type: ignore[union-attr]
    np.testing.assert_allclose(codec.embed(codes), np.sum(entries, axis=0).T, atol=1e-5)


WRONG_CODES = [
    (np.full((4, 5), 64), "from 64 to 64, expected 0 to 63"),
    (np.array([[0, -1]]), "from -1 to 0, expected 0 to 63"),
    (np.zeros((4, 5), np.float32), "codes are float32, expected integers"),
    (np.zeros((4, 5), bool), "codes are bool, expected integers"),
    (np.zeros((4, 0), np.int64), r"shape \[4, 0\]"),
    (np.zeros((0, 4), np.int64), r"n_q 0, this model has 4"),
    (np.zeros((5, 3), np.int64), r"n_q 5, this model has 4 codebooks \(shape \[5, 3\]\)"),
    (np.zeros(5, np.int64), r"shape \[5\], expected \[n_q, frames\]"),
    (np.zeros((1, 1, 4, 5), np.int64), r"shape \[1, 1, 4, 5\]"),
    (7, r"shape \[\]"),
    (np.full((2, 2), 2**40), "from 1099511627776"),
    (np.full((2, 2), 2**64 - 1, np.uint64), "18446744073709551615"),
    ("codes", "shape"),
    ([[1], [1, 2]], "not an array of numbers"),
    ([[[1], [1, 2]]], "not an array of numbers"),
]


@pytest.mark.parametrize(("codes", "culprit"), [*WRONG_CODES, (np.zeros((0, 4, 5), np.int64), r"shape \[0, 4, 5\]")])
def test_codes_that_cannot_be_decoded_are_refused_by_name(codes: Any, culprit: str, tiny: streamcodec.Codec) -> None:
    with pytest.raises(InputError, match=culprit):
        tiny.decode(codes)
    with pytest.raises(InputError, match=culprit):
        tiny.embed(codes)


@pytest.mark.parametrize(
    ("latents", "culprit"),
    [
        (np.zeros((15, 4), np.float32), r"shape \[15, 4\], expected \[16, frames\]"),
        (np.zeros((16, 0), np.float32), r"shape \[16, 0\]"),
        (np.zeros((0, 16, 4), np.float32), r"shape \[0, 16, 4\]"),
        (np.zeros(16, np.float32), r"shape \[16\]"),
        (np.zeros((16, 4), np.int64), "int64"),
        (np.full((16, 4), np.nan, np.float32), "finite"),
    ],
)
def test_latents_that_cannot_be_decoded_are_refused_by_name(latents: Any, culprit: str, tiny: streamcodec.Codec) -> None:
    with pytest.raises(InputError, match=culprit):
        tiny.decode_latents(latents)


# Streams -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rate", "channels"), [(8_000, 1), (16_000, 2), (44_100, 2), (48_000, 1)])
def test_a_stream_at_another_rate_is_as_long_as_the_clip_and_sounds_like_it(
    rate: int, channels: int, speech_codec: streamcodec.Codec, speech: Samples
) -> None:
    clip = resample(speech[24_000:48_001], 24_000, rate)
    source = clip if channels == 1 else np.stack([clip * 1.5, clip * 0.5])
    encoder = speech_codec.stream_encoder(24, sample_rate=rate, channels=channels)
    rng = np.random.default_rng(rate)
    packets, at = [], 0
    while at < source.shape[-1]:
        size = int(rng.integers(1, 4_000))
        packets += encoder.feed(source[..., at : at + size])
        at += size
    codes = joined(packets + encoder.flush())
    expected = speech_codec.encode(source, sample_rate=rate, bandwidth=24)
    assert codes.shape == expected.shape
    # Two resamplers' last bits pick other entries, but the entries stand for nearly the same sound.
    assert similarity_db(speech_codec.decode(codes), speech_codec.decode(expected)) > 8


def test_a_stream_packs_whole_packets_and_a_shorter_last_one(tiny: streamcodec.Codec) -> None:
    encoder = tiny.stream_encoder(24, packet_frames=4)
    packets = encoder.feed(noise(10 * TINY_HOP + 1))
    assert [p.shape for p in packets] == [(4, 4), (4, 4)]
    assert [p.shape for p in encoder.flush()] == [(4, 3)]


@pytest.mark.parametrize("block", [100, 24_000])
def test_packets_of_silence_have_the_fewest_codebooks_if_silence_db_is_set(block: int, tiny: streamcodec.Codec) -> None:
    x = np.concatenate([noise(6_000), np.zeros(24_000, np.float32), noise(6_100)])
    plain, quiet = (tiny.stream_encoder(24, packet_frames=25, sample_rate=48_000, silence_db=db) for db in (None, -50))
    wanted = plain.feed(x) + plain.flush()
    packets = [packet for at in range(0, len(x), block) for packet in quiet.feed(x[at : at + block])] + quiet.flush()
    assert [packet.shape[1] for packet in packets] == [packet.shape[1] for packet in wanted]
    sizes = [len(packet) for packet in packets]
    first = sizes.index(2)
    assert sizes == [4] * first + [2] * sizes.count(2) + [4] * (len(sizes) - first - sizes.count(2))
    # 0.125 s of noise and 0.3 s behind it, then silence up to 0.625 s.
    assert 17 <= first <= 18
    assert 6 <= sizes.count(2) <= 8
    for packet, whole in zip(packets, wanted, strict=True):
        np.testing.assert_array_equal(packet, whole[: len(packet)])
    assert tiny.stream_decoder(24).feed(packets).shape[0] == 24 * sum(packet.shape[1] for packet in packets)


def test_a_stream_of_nothing_is_empty(tiny: streamcodec.Codec) -> None:
    for start in ("exact", "primed"):
        encoder, decoder = tiny.stream_encoder(start=start), tiny.stream_decoder(start=start)  # type: ignore[arg-type]
        assert encoder.feed(np.zeros(0, np.float32)) == []
        assert encoder.flush() == []
        assert decoder.feed([]).shape == (0,)
        assert decoder.flush().shape == (0,)


def test_a_flushed_stream_takes_nothing_more(tiny: streamcodec.Codec) -> None:
    encoder, decoder = tiny.stream_encoder(), tiny.stream_decoder()
    encoder.flush()
    decoder.flush()
    for use in (lambda: encoder.feed(noise(10)), encoder.flush, lambda: decoder.feed(random_codes(1)), decoder.flush):
        with pytest.raises(InputError, match="flushed"):
            use()


@pytest.mark.parametrize(
    "block", [np.array([0.1, np.nan], np.float32), np.zeros((2, 100), np.float32), np.zeros(100, np.complex64), 5.0, "x", [[1.0], []]]
)
@pytest.mark.parametrize("rate", [24_000, 48_000])
def test_a_refused_block_leaves_the_stream_as_it_was(block: Any, rate: int, tiny: streamcodec.Codec) -> None:
    clip = noise(2_000)
    undisturbed, disturbed = (tiny.stream_encoder(24, sample_rate=rate, start="exact") for _ in range(2))
    expected, packets = [], []
    for at in range(0, 2_000, 130):
        expected += undisturbed.feed(clip[at : at + 130])
        packets += disturbed.feed(clip[at : at + 130])
        with pytest.raises(InputError):
            disturbed.feed(block)
    assert (joined(packets + disturbed.flush()) == joined(expected + undisturbed.flush())).all()


@pytest.mark.parametrize(
    ("wrong", "culprit"), [*WRONG_CODES, (np.zeros((1, 4, 5), np.int64), r"shape \[1, 4, 5\], expected \[n_q, frames\]")]
)
def test_refused_codes_leave_the_decoder_as_it_was(wrong: Any, culprit: str, tiny: streamcodec.Codec) -> None:
    codes = random_codes(40)
    undisturbed, disturbed = tiny.stream_decoder(24), tiny.stream_decoder(24)
    expected, samples = [], []
    for at in range(0, 40, 10):
        expected.append(undisturbed.feed(codes[:, at : at + 10]))
        samples.append(disturbed.feed(codes[:, at : at + 10]))
        with pytest.raises(InputError, match=culprit):
            disturbed.feed(wrong)
        with pytest.raises(InputError):
            disturbed.feed([codes, wrong])
    assert (np.concatenate(samples) == np.concatenate(expected)).all()


def test_a_caller_may_reuse_its_buffers_after_feeding(tiny: streamcodec.Codec) -> None:
    clip, codes = noise(1_000), random_codes(60)
    encoder, decoder = tiny.stream_encoder(24, start="exact"), tiny.stream_decoder(24, start="exact")
    block, packet = np.empty(50, np.float32), np.empty((4, 3), np.int32)
    packets, samples = [], []
    for at in range(0, 1_000, 50):
        block[:] = clip[at : at + 50]
        packets += encoder.feed(block)
        block[:] = 0
    for at in range(0, 60, 3):
        packet[:] = codes[:, at : at + 3]
        samples.append(decoder.feed(packet))
        packet[:] = 0
    assert (joined(packets + encoder.flush()) == tiny.encode(clip, bandwidth=24)).all()
    np.testing.assert_allclose(np.concatenate([*samples, decoder.flush()]), tiny.decode(codes), atol=1e-5)


def test_a_decoder_takes_packets_one_by_one_or_in_a_list(tiny: streamcodec.Codec) -> None:
    packets = [random_codes(6, seed=i) for i in range(4)]
    one_by_one, listed, as_torch = (tiny.stream_decoder(24) for _ in range(3))
    expected = np.concatenate([one_by_one.feed(packet) for packet in packets])
    np.testing.assert_allclose(listed.feed(packets), expected, atol=1e-5)
    np.testing.assert_allclose(as_torch.feed([torch.from_numpy(p) for p in packets]), expected, atol=1e-5)


def test_codebooks_that_a_packet_lacks_decode_as_zeros(tiny_pair: tuple[Reference, streamcodec.Codec]) -> None:
    reference, codec = tiny_pair
    n_q = [4, 1, 2, 4, 3]
    packets = [random_codes(6, n, seed=i) for i, n in enumerate(n_q)]
    decoder = codec.stream_decoder(24, start="exact")
    samples = np.concatenate([decoder.feed(packet) for packet in packets] + [decoder.flush()])
    # The latents as the reference's own codebooks have them, an absent codebook adding nothing.
    latents = np.zeros((16, 30), np.float32)
    for i, packet in enumerate(packets):
        for layer, index in zip(reference.model.quantizer.layers, packet, strict=False):  # type: ignore[call-overload]
            latents[:, 6 * i : 6 * i + 6] += layer.codebook.embed.numpy()[index].T
    with torch.inference_mode():
        expected = reference.model.decoder(torch.from_numpy(latents)[None])[0, 0].numpy()  # type: ignore[operator]
    np.testing.assert_allclose(samples, expected, atol=1e-4)


def test_a_primed_decoder_continues_a_second_of_silence(tiny_pair: tuple[Reference, streamcodec.Codec]) -> None:
    reference, codec = tiny_pair
    silence = reference.encode(np.zeros((1, 24_000), np.float32), 12)
    codes = random_codes(40, 2)
    decoder = codec.stream_decoder(12)
    assert decoder.feed(codes[:, :1]).shape == (TINY_HOP,), "it holds nothing back"
    decoder = codec.stream_decoder(12, start="primed")
    samples = np.concatenate([decoder.feed(codes[:, :7]), decoder.feed(codes[:, 7:]), decoder.flush()])
    expected = reference.decode(np.concatenate([silence, codes[None]], axis=2))[0, 24_000:]
    assert np.abs(samples - expected).max() <= 1e-4


def test_two_streams_on_one_codec_are_independent(tiny: streamcodec.Codec) -> None:
    clips = [noise(1_500, seed=i) for i in range(2)]
    for start in ("exact", "primed"):
        alone = []
        for clip in clips:
            encoder = tiny.stream_encoder(24, start=start)  # type: ignore[arg-type]
            alone.append(joined(encoder.feed(clip[:700]) + encoder.feed(clip[700:]) + encoder.flush()))
        encoders = [tiny.stream_encoder(24, start=start) for _ in clips]  # type: ignore[arg-type]
        packets: list[list[Codes]] = [[], []]
        for part in (slice(0, 700), slice(700, None)):
            for i, clip in enumerate(clips):
                packets[i] += encoders[i].feed(clip[part])
            tiny.encode(clips[0])
        for i, encoder in enumerate(encoders):
            assert (joined(packets[i] + encoder.flush()) == alone[i]).all()
        together = [tiny.stream_decoder(24, start=start) for _ in clips]  # type: ignore[arg-type]
        samples: list[list[Samples]] = [[], []]
        for part in (slice(0, 20), slice(20, None)):
            for i, decoder in enumerate(together):
                samples[i].append(decoder.feed(alone[i][:, part]))
        for i, codes in enumerate(alone):
            lone = tiny.stream_decoder(24, start=start)  # type: ignore[arg-type]
            expected = np.concatenate([lone.feed(codes[:, :20]), lone.feed(codes[:, 20:])])
            assert (np.concatenate(samples[i]) == expected).all()


@pytest.mark.parametrize(
    ("options", "culprit"),
    [
        ({"packet_frames": 0}, "packet_frames is 0, expected an integer from 1 to 25"),
        ({"packet_frames": 26}, "packet_frames is 26"),
        ({"packet_frames": 6.0}, "packet_frames is 6.0"),
        ({"start": "soon"}, "start is 'soon', expected 'exact' or 'primed'"),
        ({"start": ["exact"]}, r"start is \['exact'\]"),
        ({"channels": 0}, "channels is 0"),
        ({"channels": "2"}, "channels is '2'"),
        ({"silence_db": "-50"}, "threshold_db is '-50'"),
        ({"silence_db": float("nan")}, "threshold_db is nan"),
    ],
)
def test_a_stream_that_cannot_be_opened_says_why(options: dict[str, Any], culprit: str, tiny: streamcodec.Codec) -> None:
    with pytest.raises(InputError, match=culprit):
        tiny.stream_encoder(**options)
    if "start" in options:
        with pytest.raises(InputError, match=culprit):
            tiny.stream_decoder(**options)


def test_a_missing_model_is_an_error_of_this_package(tmp_path: Path) -> None:
    with pytest.raises(StreamCodecError, match="no such file or folder"):
        streamcodec.load(tmp_path / "nothing.safetensors")
