"""What `encode` and `decode` write is the codec's own, in the length of the file."""

from __future__ import annotations

import functools
import itertools

import numpy as np
import pytest
import soundfile as sf
import torch
from cli_rig import Terminal, fails
from made_up_models import FEW_LAYERS, save_made_up_model
from package_language_model import package_language_model, saved
from parity import assert_same_codes

import streamcodec
from streamcodec.audio import read_audio, write_audio
from streamcodec.bitstream.codes_file import CodesFile, read_codes, write_codes
from streamcodec.cli import batch, main, status
from streamcodec.codec.ecdc import compress
from streamcodec.model.checkpoint import save, weights_fingerprint
from streamcodec.model.hub import FORMER_FINGERPRINTS, load_model


def test_encode_and_decode_are_the_codecs_own(here, speech_file, codec, model, capsys):
    assert main(["encode", "talk.wav", "--model", model, "--engine", "torch"]) == 0
    assert "talk.codes: 2.00 s in 151 frames of 8 codebooks, " in capsys.readouterr().out
    samples, rate = read_audio(speech_file)
    expected = codec.encode(samples, sample_rate=rate)
    file = read_codes(here / "talk.codes")
    np.testing.assert_array_equal(file.codes, expected)
    assert (file.model, file.fingerprint, file.samples) == (model, codec.fingerprint, samples.shape[1])

    assert main(["decode", "talk.codes", "--model", model, "--engine", "torch"]) == 0
    assert capsys.readouterr().out == "talk.decoded.wav: 2.00 s from 8 codebooks\n"
    decoded, rate = read_audio(here / "talk.decoded.wav")
    assert (rate, decoded.shape) == (24_000, samples.shape)
    np.testing.assert_allclose(decoded[0], codec.decode(expected)[: samples.shape[1]], atol=1e-4)


def test_an_ecdc_file_is_written_and_read_by_its_suffix_and_its_first_bytes(here, speech_file, codec, model, capsys):
    assert main(["encode", "talk.wav", "talk.ecdc", "--model", model, "--bandwidth", "3"]) == 0
    assert "talk.ecdc: 2.00 s in 151 frames of 4 codebooks, " in capsys.readouterr().out
    samples, rate = read_audio(speech_file)
    assert (here / "talk.ecdc").read_bytes() == compress(codec, samples, rate, bandwidth=3)
    (here / "talk.ecdc").rename(here / "renamed.codes")
    assert main(["decode", "renamed.codes", "x.wav", "--model", model]) == 0
    assert capsys.readouterr().out == "x.wav: 2.00 s from 4 codebooks\n"
    decoded, _ = read_audio(here / "x.wav")
    np.testing.assert_allclose(decoded[0], codec.decode(codec.encode(samples, rate, bandwidth=3))[: samples.shape[1]], atol=1e-4)


@pytest.mark.usefixtures("speech_file")
def test_a_folder_becomes_ecdc_files_once(here, model, capsys):
    assert main(["encode", ".", "--ecdc", "--model", model]) == 0
    assert main(["encode", ".", "--ecdc", "--model", model]) == 0
    assert "0 files done, 1 were done before, 0 failed" in capsys.readouterr().out
    assert main(["decode", ".", "--model", model]) == 0
    assert sorted(path.name for path in here.iterdir()) == ["talk.decoded.wav", "talk.ecdc", "talk.wav"]


def test_a_stereo_model_that_codes_chunks_goes_through_ecdc_files(here):
    chunked = {"use_causal_conv": False, "sampling_rate": 48_000, "audio_channels": 2, "norm_type": "time_group_norm", "normalize": True}
    few = {**FEW_LAYERS, "chunk_length_s": 0.25, "overlap": 0.1, "target_bandwidths": [3.0, 6.0]}
    save_made_up_model(here / "stereo", **{**chunked, **few})
    write_audio(here / "x.wav", np.stack([np.sin(np.arange(40_001) / rate) for rate in (9, 14)]).astype(np.float32) / 3, 48_000)
    model = str(here / "stereo")
    assert main(["encode", "x.wav", "x.ecdc", "--model", model]) == 0
    assert main(["decode", "x.ecdc", "--model", model]) == 0
    stereo = streamcodec.load(model, engine="torch")
    samples, _ = read_audio(here / "x.wav")
    decoded, rate = read_audio(here / "x.decoded.wav")
    assert (rate, decoded.shape) == (48_000, (2, 40_001))
    np.testing.assert_allclose(decoded, np.clip(stereo.decode(stereo.encode(samples))[:, :40_001], -1, 1), atol=1e-4)


@pytest.mark.usefixtures("speech_file")
def test_a_language_model_makes_ecdc_files_smaller_and_is_asked_for(here, model, capsys):
    lm = str(saved(package_language_model(dim=16, layers=1), here))
    short = ["--model", model, "--bandwidth", "1.5"]
    assert main(["encode", "talk.wav", "x.ecdc", *short, "--language-model", lm]) == 0
    assert main(["encode", "talk.wav", "plain.ecdc", *short]) == 0
    assert main(["decode", "x.ecdc", "x.wav", "--model", model, "--language-model", lm]) == 0
    assert main(["decode", "plain.ecdc", "plain.wav", "--model", model]) == 0
    assert (here / "x.wav").read_bytes() == (here / "plain.wav").read_bytes()
    capsys.readouterr()
    assert "x.ecdc: its codes are coded by EnCodec's language model" in fails(capsys, "decode", "x.ecdc", "y.wav", "--model", model)[1]
    line = fails(capsys, "encode", "talk.wav", "--language-model", lm, "--model", model)[1]
    assert line.endswith("--language-model is for outputs that end in .ecdc")


def test_a_damaged_ecdc_file_is_refused_by_name(here, model, capsys):
    write_audio(here / "x.wav", np.zeros(9_000, np.float32), 24_000)
    assert main(["encode", "x.wav", "x.ecdc", "--model", model]) == 0
    data = (here / "x.ecdc").read_bytes()
    (here / "x.ecdc").write_bytes(data[:-1])
    status, line = fails(capsys, "decode", "x.ecdc", "--model", model)
    assert status == 2 and "x.ecdc: its header says 9000 samples of 8 codebooks in 1 chunk(s), which are more than the " in line
    (here / "x.ecdc").write_bytes(data[:20])
    assert "x.ecdc: its header has 11 bytes of JSON of " in fails(capsys, "decode", "x.ecdc", "--model", model)[1]
    assert not (here / "x.decoded.wav").exists()


def test_decoding_leaves_the_recording_that_was_encoded_alone(here, speech_file, model):
    before = speech_file.read_bytes()
    assert main(["encode", "talk.wav", "--model", model]) == 0
    assert main(["decode", "talk.codes", "--model", model]) == 0
    assert speech_file.read_bytes() == before
    assert sorted(path.name for path in here.iterdir()) == ["talk.codes", "talk.decoded.wav", "talk.wav"]


def test_a_file_may_be_decoded_at_less_than_its_bandwidth(here, codec, model, capsys):
    write_audio(here / "talk.wav", np.sin(np.arange(24_000, dtype=np.float32) / 20) / 2, 24_000)
    assert main(["encode", "talk.wav", "x.codes", "--bandwidth", "24", "--model", model, "--engine", "torch"]) == 0
    assert main(["decode", "x.codes", "x.flac", "--bandwidth", "1.5", "--model", model, "--engine", "torch"]) == 0
    assert "from 2 codebooks" in capsys.readouterr().out
    decoded, _ = read_audio(here / "x.flac")
    np.testing.assert_allclose(decoded[0], codec.decode(read_codes(here / "x.codes").codes, n_q=2), atol=1e-4)


@pytest.mark.parametrize(
    ("subtype", "channels", "rate"),
    [("PCM_U8", 1, 24_000), ("PCM_24", 1, 24_000), ("FLOAT", 1, 24_000), ("DOUBLE", 1, 16_000), ("PCM_16", 2, 44_100), ("ULAW", 1, 8_000)],
)
def test_any_kind_of_wav_is_encoded_and_keeps_its_length(here, speech, codec, model, subtype, channels, rate):
    x = np.tile(speech[10_000 : 10_000 + rate // 2, None], (1, channels)) * 0.9
    sf.write(here / "x.wav", x, rate, subtype)
    assert main(["encode", "x.wav", "--model", model, "--engine", "torch"]) == 0
    samples, _ = read_audio(here / "x.wav")
    encoder = codec.stream_encoder(start="exact", sample_rate=rate, channels=channels)
    expected = np.concatenate([*encoder.feed(samples), *encoder.flush()], axis=1)
    codes = read_codes(here / "x.codes").codes
    assert_same_codes(codec, codes, expected, samples.mean(axis=0), rate=rate)
    assert main(["decode", "x.codes", "--model", model, "--engine", "torch"]) == 0
    assert read_audio(here / "x.decoded.wav")[0].shape == (1, 12_000)


@pytest.mark.parametrize(("length", "rate"), [(1, 24_000), (1, 48_000), (3, 48_000), (641, 48_000), (319, 24_000), (321, 24_000)])
def test_the_shortest_files_keep_their_length(here, model, length, rate):
    write_audio(here / "x.wav", np.full(length, 0.1, np.float32), rate)
    assert main(["encode", "x.wav", "--model", model, "--engine", "torch"]) == 0
    assert main(["decode", "x.codes", "--model", model, "--engine", "torch"]) == 0
    assert read_audio(here / "x.decoded.wav")[0].shape == (1, (length * 24_000 + rate // 2) // rate)


@pytest.mark.usefixtures("speech_file")
def test_codes_of_another_model_are_refused_by_name(here, model, codec, speech_codec, capsys):
    assert main(["encode", "talk.wav", "--model", model]) == 0
    capsys.readouterr()
    status, line = fails(capsys, "decode", "talk.codes")
    assert status == 2
    assert f"made with {model} ({codec.fingerprint}); speech-24k is {speech_codec.fingerprint}: give its model with --model" in line
    assert not (here / "talk.decoded.wav").exists()


def test_codes_that_an_earlier_version_wrote_are_read(here, model):
    """Earlier versions named a model by all of its weights, and the embedded one may have other weights since."""
    [(_, [embedded])] = FORMER_FINGERPRINTS.items()
    for name, fingerprint in ((model, weights_fingerprint(load_model(model))), ("speech-24k", embedded)):
        write_codes(here / "old.codes", CodesFile(np.zeros((2, 3), np.int32), name, fingerprint, 960), 10)
        assert main(["decode", "old.codes", "--model", name, "--engine", "torch"]) == 0
        assert read_audio(here / "old.decoded.wav")[0].shape == (1, 960)


@pytest.mark.usefixtures("speech_file")
def test_codes_are_read_by_a_model_whose_decoder_alone_is_another(here, model):
    tuned = load_model(model)
    with torch.no_grad():
        next(tuned.decoder.parameters()).mul_(1.01)
    save(tuned, here / "tuned.safetensors")
    assert main(["encode", "talk.wav", "--model", model]) == 0
    assert main(["decode", "talk.codes", "--model", str(here / "tuned.safetensors"), "--engine", "torch"]) == 0
    assert read_audio(here / "talk.decoded.wav")[0].any()


def test_a_long_file_shows_its_progress_on_a_terminal(here, model, monkeypatch, capsys):
    screen, seconds = Terminal(), itertools.count(0.0, 1.5)
    monkeypatch.setattr(batch, "progress", functools.partial(status.progress, stream=screen, clock=lambda: next(seconds)))
    write_audio(here / "x.wav", np.zeros(72_000, np.float32), 24_000)
    assert main(["encode", "x.wav", "--model", model]) == 0
    assert "encoding" in screen.getvalue() and "100%" in screen.getvalue() and "3/3 s" in screen.getvalue()
    assert capsys.readouterr().err == ""
