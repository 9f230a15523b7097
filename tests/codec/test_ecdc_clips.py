"""A codec's `.ecdc` bytes are the package's, and what it decodes of the package's is what the package hears."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from encodec_files import package_module, package_reads

import streamcodec
from benchmarks.harness.clips import AUDIO_WITHIN
from benchmarks.peers.random_models import encodec_model
from streamcodec.bitstream.ecdc import parse_ecdc
from streamcodec.codec.ecdc import compress, decompress, ecdc_chunks, open_ecdc, to_ecdc
from streamcodec.errors import CodesError


@pytest.fixture(scope="module", params=["encodec_24khz", "encodec_48khz"])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, streamcodec.Codec]:
    """A full-size model of the package with random weights, and the codec of its checkpoint."""
    model = encodec_model(request.param)
    model.name = request.param
    path = tmp_path_factory.mktemp("package") / "reference.th"
    torch.save(model.state_dict(), path)
    return model, streamcodec.load(path, engine="torch")


def sound(channels: int, length: int) -> npt.NDArray[np.float32]:
    rng = np.random.default_rng(length)
    t = np.arange(length) / 24_000
    return (0.3 * np.sin(2 * np.pi * (200 + 400 * t) * t) + 0.05 * rng.standard_normal((channels, length))).astype(np.float32)


def test_compress_and_decompress_are_the_packages(both: tuple[Any, streamcodec.Codec]) -> None:
    model, codec = both
    package, config = package_module(), codec.config
    clip = sound(config.audio_channels, 50_001)
    model.set_target_bandwidth(6.0)
    theirs = package.compress(model, torch.from_numpy(clip))
    # Encoders may differ by near-ties, which test_parity and test_whole_clips judge; the bytes of the same codes are equal.
    codes = package_reads(model.name, theirs)
    mine = compress(codec, clip, bandwidth=6)
    assert len(mine) == len(theirs)
    chunks = [streamcodec.codec.Chunk(found, scale) for found, scale in codes]
    assert to_ecdc(codec, chunks, 50_001) == theirs
    same = np.mean([np.mean(a.codes == b.codes) for a, b in zip(ecdc_chunks(codec, parse_ecdc(mine)), chunks, strict=True)])
    assert same > 0.9

    with torch.inference_mode():
        heard = model.decode(
            [(torch.from_numpy(found)[None], None if scale is None else torch.tensor([[scale]])) for found, scale in codes]
        )
    audio = decompress(codec, theirs)
    assert np.atleast_2d(audio).shape == clip.shape
    assert np.abs(np.atleast_2d(audio) - heard[0, :, :50_001].numpy()).max() <= AUDIO_WITHIN


def test_the_embedded_voice_has_files_of_its_own_which_the_package_refuses(speech_codec: streamcodec.Codec, speech: Any) -> None:
    clip = speech[10_000:20_003]
    data = compress(speech_codec, clip, bandwidth=3)
    np.testing.assert_array_equal(ecdc_chunks(speech_codec, parse_ecdc(data))[0].codes, speech_codec.encode(clip, bandwidth=3))
    assert parse_ecdc(data).fingerprint == speech_codec.fingerprint
    np.testing.assert_allclose(
        decompress(speech_codec, data), speech_codec.decode(speech_codec.encode(clip, bandwidth=3))[:10_003], atol=1e-6
    )
    with pytest.raises(ValueError, match="unsupported model"):
        package_reads("encodec_24khz", data)


def test_a_clip_at_another_rate_keeps_its_length(codec: streamcodec.Codec) -> None:
    clip = sound(2, 4_411)
    assert decompress(codec, compress(codec, clip, 44_100)).shape == (2_401,)
    with pytest.raises(CodesError, match=r"audio has shape \[3, 1, 500\], expected \[T\] or \[C, T\]"):
        compress(codec, np.zeros((3, 1, 500), np.float32))


def test_files_of_another_model_and_of_its_language_model_are_refused_by_name(
    codec: streamcodec.Codec, speech_codec: streamcodec.Codec
) -> None:
    data = compress(codec, sound(1, 2_000))
    with pytest.raises(CodesError, match=f"made with the model 'streamcodec {codec.fingerprint}'; speech-24k is 'streamcodec "):
        decompress(speech_codec, data)
    for name in (b'"encodec_24khz"', b'"encodec_48khz"', b'"streamcodec x"'):
        text = data[9 : data.index(b"}") + 1].replace(f'"streamcodec {codec.fingerprint}"'.encode(), name)
        with pytest.raises(CodesError, match="made with the model"):
            decompress(codec, b"ECDC\0" + len(text).to_bytes(4, "big") + text + data[data.index(b"}") + 1 :])


def test_a_streams_packets_are_written_as_they_come(codec: streamcodec.Codec, tmp_path: Path, speech: Any) -> None:
    path, clip = tmp_path / "live.ecdc", speech[10_000:30_007]
    encoder, packets = codec.stream_encoder(3, start="exact"), []
    with open_ecdc(codec, path, 3) as writer:
        for at in range(0, len(clip), 5_000):
            for packet in encoder.feed(clip[at : at + 5_000]):
                writer.write(packet)
                packets.append(packet)
                assert len(decompress(codec, path.read_bytes())) == codec.hop_length * sum(packet.shape[1] for packet in packets)
        for packet in encoder.flush():
            writer.write(packet)
            packets.append(packet)
        writer.close(len(clip))
    codes = np.concatenate(packets, axis=1)
    np.testing.assert_array_equal(ecdc_chunks(codec, parse_ecdc(path.read_bytes()))[0].codes, codes)
    np.testing.assert_array_equal(decompress(codec, path.read_bytes()), codec.decode(codes)[: len(clip)])
