"""`encode`, `decode`, `convert` and `models` with models that code chunks or whole clips, stereo or mono."""

from __future__ import annotations

from pathlib import Path

import msgpack
import numpy as np
import pytest
import soundfile as sf
from cli_rig import fails
from made_up_models import FEW_CHANNELS, STEREO, save_made_up_model

import streamcodec
from streamcodec.audio import read_audio, write_audio
from streamcodec.bitstream.codes_file import read_codes
from streamcodec.cli import main

FEW = {**FEW_CHANNELS, "upsampling_ratios": [8, 5], "use_causal_conv": False}
KINDS = {
    "stereo": {**STEREO, "codebook_size": 64, "target_bandwidths": [14.4, 57.6]},
    "clips": {**FEW, "sampling_rate": 32_000, "codebook_size": 2048, "target_bandwidths": [17.6]},
}


@pytest.fixture(scope="module", params=KINDS)
def other(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> streamcodec.Codec:
    """A codec of each kind; its name is the folder of its model."""
    return streamcodec.load(save_made_up_model(tmp_path_factory.mktemp(request.param) / "model", **KINDS[request.param]), engine="torch")


def sound(channels: int, length: int) -> np.ndarray:
    t = np.arange(length) / 44_100
    return np.stack([0.3 * np.sin(2 * np.pi * 440 * (c + 1) * t) for c in range(channels)]).astype(np.float32)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [44_100, None])
def test_any_file_is_encoded_and_decoded_as_the_codec_does_it(other, channels, rate, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rate = rate or other.sample_rate
    write_audio("x.wav", sound(channels, 20_011), rate)
    assert main(["encode", "x.wav", "--model", other.name, "--engine", "torch"]) == 0
    said = capsys.readouterr().out
    file = read_codes(Path("x.codes"))
    length = (2 * 20_011 * other.sample_rate + rate) // (2 * rate)
    sizes = [other.config.frames_for(n) for n in other.config.chunk_sizes(length)]
    assert (file.samples, file.codes.shape[1], file.fingerprint) == (length, sum(sizes), other.fingerprint)
    assert f"in {sum(sizes)} frames" in said
    assert (None if file.scales is None else len(file.scales)) == (len(sizes) if other.config.normalize else None)
    assert main(["decode", "x.codes", "--model", other.name, "--engine", "torch"]) == 0
    heard, heard_rate = read_audio("x.decoded.wav")
    assert (heard.shape, heard_rate) == ((other.channels, length), other.sample_rate)
    if rate == other.sample_rate:
        samples, _ = read_audio("x.wav")
        expected = np.atleast_2d(other.decode(other.encode(samples)))[:, :length]
        np.testing.assert_allclose(heard, np.clip(expected, -1, 1), atol=1e-4)


def test_a_lower_bandwidth_is_decoded_with_the_scales(other, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_audio("x.wav", sound(2, 9_000), other.sample_rate)
    lowest, highest = min(other.config.target_bandwidths), max(other.config.target_bandwidths)
    assert main(["encode", "x.wav", "--model", other.name, "--engine", "torch", "--bandwidth", str(highest)]) == 0
    assert main(["decode", "x.codes", "x.flac", "--model", other.name, "--engine", "torch", "--bandwidth", str(lowest)]) == 0
    samples, _ = read_audio("x.wav")
    expected = other.decode(other.encode(samples, bandwidth=highest), n_q=other.config.n_q_for(lowest))
    np.testing.assert_allclose(read_audio("x.flac")[0], np.clip(np.atleast_2d(expected)[:, :9_000], -1, 1), atol=1e-4)


def test_a_folder_of_files_of_every_kind_is_done_once(other, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    for name, channels in (("mono", 1), ("stereo", 2), ("six", 6)):
        sf.write(f"in/{name}.wav", sound(channels, 3_000).T, 16_000)
    for done in ("3 files done, 0 were done before, 0 failed", "0 files done, 3 were done before, 0 failed"):
        assert main(["encode", "in", "--into", "out", "--model", other.name, "--engine", "torch"]) == 0
        assert done in capsys.readouterr().out
    assert main(["decode", "out", "--model", other.name, "--engine", "torch"]) == 0
    assert [read_audio(path)[0].shape[0] for path in sorted(Path("out").glob("*.wav"))] == [other.channels] * 3


def test_codes_without_their_scales_are_told_as_damaged(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    codec = streamcodec.load(save_made_up_model(tmp_path / "model", **KINDS["stereo"]), engine="torch")
    write_audio("x.wav", sound(2, 9_000), codec.sample_rate)
    assert main(["encode", "x.wav", "--model", codec.name, "--engine", "torch"]) == 0
    capsys.readouterr()
    data = Path("x.codes").read_bytes()
    unpacker = msgpack.Unpacker(raw=False)
    unpacker.feed(data)
    header = unpacker.unpack()
    for scales, message in ((header["scales"][:4], "1 scales, expected 3"), (None, "no scales, expected 3")):
        changed = {**header, "scales": scales}
        if scales is None:
            del changed["scales"]
        Path("bad.codes").write_bytes(msgpack.packb(changed) + data[unpacker.tell() :])
        status, line = fails(capsys, "decode", "bad.codes", "--model", codec.name, "--engine", "torch")
        assert status == 2 and f"bad.codes: {message}: it is damaged" in line
        assert not Path("bad.decoded.wav").exists()


@pytest.mark.parametrize("layout", ["hf", "streamcodec"])
def test_converting_keeps_what_the_model_is(other, layout, tmp_path, capsys):
    target = tmp_path / ("folder" if layout == "hf" else "x.safetensors")
    assert main(["convert", other.name, str(target), "--layout", layout]) == 0
    assert capsys.readouterr().out.count(other.fingerprint) == 2
    assert streamcodec.load(target).config == other.config


def test_a_model_is_described_by_what_it_can_do(other, capsys):
    assert main(["models", other.name]) == 0
    said = capsys.readouterr().out
    assert f"{other.sample_rate} Hz {'stereo' if other.channels == 2 else 'mono'}, " in said
