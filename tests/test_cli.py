"""Every command: what it prints, what it writes, and the status it exits with; whatever a user does wrong is one line."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile as sf
from conftest import transformers_reference

import streamcodec
from streamcodec import cli
from streamcodec.audio import read_audio, write_audio
from streamcodec.bitstream.codes_file import read_codes
from streamcodec.cli import main

# Nothing waits so long but what hangs.
TIMEOUT_S = 300

COMMANDS = ["serve", "mic", "play", "demo", "encode", "decode", "convert", "models", "devices", "doctor"]


@pytest.fixture(scope="module")
def model() -> Iterator[str]:
    """A folder with a model of the published architecture and few channels: a step takes a millisecond."""
    with tempfile.TemporaryDirectory() as folder:
        transformers_reference(seed=3, num_filters=4, hidden_size=16, codebook_dim=16).save(Path(folder))
        yield folder


@pytest.fixture(scope="module")
def codec(model: str) -> streamcodec.Codec:
    return streamcodec.load(model, engine="torch")


@pytest.fixture
def speech_file(tmp_path, speech) -> Path:
    """Two seconds of real speech, and 77 samples."""
    path: Path = tmp_path / "talk.wav"
    write_audio(path, speech[10_000:58_077], 24_000)
    return path


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fails(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, str]:
    """Run what must fail: its status, and the one line it says."""
    try:
        status = main([str(word) for word in argv])
    except SystemExit as exc:  # argparse's way
        assert isinstance(exc.code, int)
        status = exc.code
    said = capsys.readouterr()
    assert status != 0
    assert "Traceback" not in said.err
    *usage, line = said.err.rstrip("\n").split("\n")
    assert not usage or usage[0].startswith("usage: ")
    assert line.startswith("streamcodec")
    return status, line


# Help --------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    told = capsys.readouterr().out
    assert told.startswith(f"usage: streamcodec {command} ")
    # Every option says what it is.
    assert not re.search(r"^  --?[a-z-]+( [A-Z]+)?$\n  -", told, re.M)


def test_the_overview_names_every_command_and_none_is_an_error(capsys):
    assert main([]) == 2
    told = capsys.readouterr().out
    for command in COMMANDS:
        assert re.search(rf"^    {command} ", told, re.M)


def test_the_version_is_told(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"streamcodec {streamcodec.__version__}\n"


def test_the_command_is_installed_and_needs_no_torch_to_explain_itself():
    script = "import sys; from streamcodec.cli import main\ntry: main(['--help'])\nfinally: print('torch' in sys.modules, file=sys.stderr)"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "False\n")


# Mistakes ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("bogus",), "invalid choice: 'bogus'"),
        (("serve", "--port", "99999"), "'99999' is no port, expected 0 to 65535"),
        (("doctor", "--port", "web"), "'web' is no port"),
        (("serve", "--threads", "0"), "'0' is no whole number above 0"),
        (("serve", "--max-listeners", "-1"), "expected one argument|'-1' is no whole number above 0"),
        (("serve", "--capacity", "lots"), "'lots' is neither auto, off nor a whole number above 0"),
        (("mic", "--rate", "fast"), "'fast' is no whole number above 0"),
        (("play", "--slack-ms", "-5"), "'-5' is no number from 0 to 5000|expected one argument"),
        (("play", "--slack-ms", "nan"), "'nan' is no number from 0 to 5000"),
        (("mic", "--bandwidth", "high"), "invalid float value: 'high'"),
        (("encode",), "the following arguments are required: input"),
        (("demo", "--clip", "--input", "x.wav"), "not allowed with argument"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_wrong_command_line_exits_with_2(argv, message, capsys):
    status, line = fails(capsys, *argv)
    assert status == 2
    assert re.search(message, line), line


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("encode", "none.wav"), "there is no file none.wav"),
        (("encode", "."), r"\. is a folder, expected a sound file"),
        (("encode", "text.wav"), "text.wav is not audio that can be read, expected WAV, FLAC, OGG, MP3 or the like"),
        (("encode", "empty.wav"), "empty.wav is an empty file, expected audio"),
        (("encode", "silent.wav"), "silent.wav holds no samples"),
        (("encode", "instant.wav"), "instant.wav: is shorter than one sample at 24000 Hz"),
        (("encode", "talk.wav", "other.wav"), "other.wav is named like audio, expected another suffix for codes, such as .codes"),
        (("encode", "talk.wav", "none/talk.codes"), "there is no folder none"),
        (("encode", "talk.wav", "--bandwidth", "5"), "bandwidth is 5.0, this model has 1.5, 3, 6, 12, 24 kbps"),
        (("encode", "talk.wav", "--device", "abacus"), "device 'abacus' cannot be used: "),
        (("decode", "none.codes"), "none.codes: No such file or directory"),
        (("decode", "talk.wav"), r"talk.wav: not a codes file \(streamcodec encode writes them\)"),
        (("decode", "text.wav"), r"text.wav: not a codes file"),
        (("mic", "--input", "none.wav"), "there is no file none.wav"),
        (("mic", "--input", "talk.wav", "--server", "nonsense"), "'nonsense' is no WebSocket address, expected for instance ws://"),
        (("mic", "--input", "talk.wav", "--server", "http://127.0.0.1:1"), "is no WebSocket address"),
        (("mic", "--input", "talk.wav", "--stream", "a b"), "stream is 'a b', expected 1 to 64 of"),
        (("play", "--output", "heard.mp3"), r"heard.mp3 has the suffix '.mp3', expected .wav or .flac"),
        (("play", "--output", "none/heard.wav"), "there is no folder none"),
        (("play", "--output", "heard.wav", "--server", "nonsense"), "'nonsense' is no WebSocket address"),
        (("demo", "--silent", "--input", "none.wav"), "there is no file none.wav"),
        (("demo", "--output", "text.wav"), "text.wav cannot be the folder for the results"),
        (("convert", "none.th", "x.safetensors"), "none.th: no such file or folder, and neither an embedded model"),
        (("models", "none"), "none: no such file or folder, and neither an embedded model"),
        (("models", "text.wav"), "text.wav: not a readable "),
        (("serve", "--publish-token-file", "none"), "none: No such file or directory"),
        (("serve", "--publish-token-file", "empty.wav"), "empty.wav: holds no token, expected one a line"),
        (("serve", "--listen-token-file", "talk.wav"), "talk.wav: is no text file, expected one token a line"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
@pytest.mark.usefixtures("speech_file")
def test_a_mistake_is_one_line_and_exits_with_2(argv, message, here, model, capsys):
    (here / "text.wav").write_text("this is no audio\n")
    (here / "empty.wav").touch()
    write_audio(here / "silent.wav", np.zeros(0, np.float32), 24_000)
    write_audio(here / "instant.wav", np.zeros(1, np.float32), 192_000)
    if argv[0] not in ("convert", "models", "mic"):
        argv = (*argv, "--model", model)
    status, line = fails(capsys, *argv)
    assert status == 2
    assert re.search(message, line), line
    assert len(line) < 400


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ("mic", "--input", "talk.wav", "--no-retry", "--server", "ws://127.0.0.1:1"),
            "cannot connect to ws://127.0.0.1:1: .*streamcodec serve",
        ),
        (("play", "--output", "x.wav", "--pcm", "--no-retry", "--server", "ws://127.0.0.1:1"), "cannot connect to ws://127.0.0.1:1: "),
        (("serve", "--host", "host.invalid"), "cannot listen on host.invalid:8765: "),
        (("play", "--pcm"), "this machine has no output devices. To record instead: --output heard.wav"),
        (("mic",), "this machine has no input devices. To publish a file instead: --input FILE"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
@pytest.mark.usefixtures("here", "speech_file", "no_devices")
def test_a_failure_of_the_world_outside_is_one_line_and_exits_with_1(argv, message, model, capsys):
    if argv[0] == "serve":
        argv = (*argv, "--model", model, "--engine", "torch")
    status, line = fails(capsys, *argv)
    assert status == 1
    assert re.search(message, line), line


def test_a_port_in_use_is_one_line_and_exits_with_1(model, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, line = fails(capsys, "serve", "--port", port, "--model", model, "--engine", "torch")
    assert status == 1
    assert line.startswith(f"streamcodec: cannot listen on 127.0.0.1:{port}: ")
    assert "in use" in line


def test_an_interrupt_exits_with_130(monkeypatch):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("streamcodec.audio.list_devices", interrupted)
    assert main(["devices"]) == 130


def test_a_bug_keeps_its_traceback(monkeypatch):
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("streamcodec.audio.list_devices", broken)
    with pytest.raises(ZeroDivisionError):
        main(["devices"])


def test_whoever_reads_our_output_may_stop():
    script = "from streamcodec.cli import main; import sys; sys.exit(main(['models']))"
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as nobody:
        result = subprocess.run([sys.executable, "-c", script], stdout=nobody, stderr=subprocess.PIPE, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


# Files -------------------------------------------------------------------------------------------------------------------------------


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
    assert codes.shape == expected.shape
    assert (codes == expected).mean() >= 0.999
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


@pytest.mark.parametrize("layout", ["hf", "streamcodec", "meta"])
def test_converting_between_layouts_keeps_the_fingerprint(tmp_path, model, codec, layout, capsys):
    first, second = tmp_path / "first", tmp_path / "second.safetensors"
    target = {"hf": first, "streamcodec": first.with_suffix(".safetensors"), "meta": first.with_suffix(".th")}[layout]
    assert main(["convert", model, str(target), "--layout", layout]) == 0
    told = capsys.readouterr().out
    assert told == f"{target}: layout {layout}, fingerprint {codec.fingerprint} (from {codec.fingerprint})\n"
    assert main(["convert", str(target), str(second)]) == 0
    assert capsys.readouterr().out.count(codec.fingerprint) == 2


def test_half_the_size_is_another_model_and_says_so(tmp_path, model, codec, capsys):
    assert main(["convert", model, str(tmp_path / "half.safetensors"), "--half"]) == 0
    told = capsys.readouterr().out
    assert told.count(codec.fingerprint) == 1 and f"(from {codec.fingerprint})" in told


def test_a_wider_search_is_written_with_the_model_and_leaves_its_fingerprint(tmp_path, model, codec, capsys):
    target = tmp_path / "wide"
    assert main(["convert", model, str(target), "--layout", "hf", "--search-beam", "3"]) == 0
    assert capsys.readouterr().out.count(codec.fingerprint) == 2
    wide = streamcodec.load(target)
    assert (wide.config.search_beam, codec.config.search_beam) == (3, 1)
    samples = np.random.default_rng(0).standard_normal(32_000).astype(np.float32) * 0.1
    narrow_codes, wide_codes = codec.encode(samples), wide.encode(samples)
    assert narrow_codes.shape == wide_codes.shape and not np.array_equal(narrow_codes, wide_codes)
    np.testing.assert_array_equal(codec.decode(wide_codes), wide.decode(wide_codes))
    assert main(["models", str(target)]) == 0
    assert re.search(r"MMAC per second to encode and decode, \d+ to search the codebooks at .* kbps \(beam 3\)", capsys.readouterr().out)


def test_a_search_along_no_path_is_refused(tmp_path, model, capsys):
    assert main(["convert", model, str(tmp_path / "none"), "--search-beam", "0"]) == 2
    assert "search_beam is 0, expected an integer from 1 to 64" in capsys.readouterr().err


# What there is -----------------------------------------------------------------------------------------------------------------------


def test_the_embedded_models_are_listed(speech_codec, capsys):
    assert main(["models"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("speech-24k\n")
    assert re.search(rf"fingerprint +{speech_codec.fingerprint}\n", told)
    assert "24000 Hz mono, 75 frames per second" in told
    assert "1.5, 3, 6, 12, 24 kbps" in told


def test_a_model_in_a_folder_is_described(model, codec, capsys):
    assert main(["models", model]) == 0
    told = capsys.readouterr().out
    assert told.startswith(f"{model}\n") and codec.fingerprint in told and "reflect padding" in told


class PortAudioError(Exception):
    pass


def sound_system(devices: list[dict[str, object]]) -> SimpleNamespace:
    default = SimpleNamespace(device=[0, 1] if devices else [-1, -1])
    return SimpleNamespace(
        PortAudioError=PortAudioError, default=default, query_devices=lambda: devices, query_hostapis=lambda: ({"name": "ALSA"},)
    )


@pytest.fixture
def no_devices(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", sound_system([]))


@pytest.fixture
def devices(monkeypatch) -> None:
    found = [
        {"name": name, "hostapi": 0, "max_input_channels": inputs, "max_output_channels": outputs, "default_samplerate": 44_100.0}
        for name, inputs, outputs in [("Mouth", 1, 0), ("Ear", 0, 2)]
    ]
    monkeypatch.setitem(sys.modules, "sounddevice", sound_system(found))


@pytest.mark.usefixtures("devices")
def test_devices_are_listed_with_the_defaults_marked(capsys):
    assert main(["devices"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "0: Mouth, ALSA (1 in, 0 out), 44100 Hz  <- default input",
        "1: Ear, ALSA (0 in, 2 out), 44100 Hz  <- default output",
    ]


@pytest.mark.usefixtures("no_devices")
def test_a_machine_without_devices_says_what_to_do_instead(capsys):
    assert main(["devices"]) == 0
    assert "no sound devices: publish and record files instead (streamcodec mic --input FILE" in capsys.readouterr().out


def findings(told: str) -> dict[str, tuple[str, str]]:
    """By name: the mark and the text, remedy included."""
    found: dict[str, tuple[str, str]] = {}
    name = ""
    for line in told.splitlines():
        if line.startswith(" "):
            found[name] = (found[name][0], found[name][1] + " " + line.strip())
        else:
            mark, name, text = line.split(maxsplit=2)
            found[name] = (mark, text)
    return found


@pytest.mark.usefixtures("devices")
def test_the_doctor_finds_a_well_machine_well(model, capsys):
    assert main(["doctor", "--model", model, "--port", "0"]) == 0
    found = findings(capsys.readouterr().out)
    for name in ("python", "numpy", "websockets", "torch", "sound", "microphone", "speaker", "port"):
        assert found[name][0] == "ok", found[name]
    assert found["microphone"][1] == "0: Mouth, ALSA (1 in, 0 out)"
    assert "ms per 80 ms packet" in found["model"][1]


@pytest.mark.usefixtures("no_devices")
def test_the_doctor_warns_of_what_is_missing_and_says_what_to_do(model, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["doctor", "--model", model, "--port", str(port)]) == 0
    found = findings(capsys.readouterr().out)
    assert found["microphone"][0] == found["speaker"][0] == found["port"][0] == "warn"
    assert "publish a file: streamcodec mic --input FILE" in found["microphone"][1]
    assert "record: streamcodec play --output FILE.wav" in found["speaker"][1]
    assert "in use" in found["port"][1]


class _NoPortAudio:
    """An import finder that fails as sounddevice does where the library is absent."""

    def find_spec(self, name: str, *_: object) -> None:
        if name == "sounddevice":
            raise OSError("PortAudio library not found")


def test_the_doctor_says_how_to_install_portaudio(monkeypatch, model, capsys):
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setattr(sys, "meta_path", [_NoPortAudio(), *sys.meta_path])
    assert main(["doctor", "--model", model, "--port", "0"]) == 0
    found = findings(capsys.readouterr().out)
    assert found["sound"][0] == "warn"
    assert "apt install libportaudio2" in found["sound"][1] and "files and pipes work without it" in found["sound"][1]
    assert "microphone" not in found


@pytest.mark.usefixtures("no_devices")
def test_the_doctor_fails_where_the_model_does(capsys):
    assert main(["doctor", "--model", "none", "--port", "0"]) == 1
    mark, text = findings(capsys.readouterr().out)["model"]
    assert mark == "FAIL"
    assert "none: no such file or folder" in text and "give another --model" in text


# Serving -----------------------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def serving(model: str, *more: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`streamcodec serve` as a process of its own, and its URL."""
    script = "import sys; from streamcodec.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", script, "serve", "--port", "0", "--model", model, "--engine", "torch", "--capacity", "off", *more]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        banner = process.stdout.readline()
        match = re.match(r"streamcodec \S+ at (ws://127\.0\.0\.1:\d+): model ", banner)
        assert match, banner or process.communicate()
        yield process, match[1]
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT], ids=lambda s: s.name)
@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_the_server_tells_its_address_answers_and_stops_in_order(stop, model, speech_file, capsys):
    with serving(model) as (process, url):
        http = url.replace("ws:", "http:")
        with urllib.request.urlopen(f"{http}/healthz", timeout=TIMEOUT_S) as answer:
            assert (answer.status, answer.read()) == (200, b"ok\n")
        with urllib.request.urlopen(f"{http}/metrics", timeout=TIMEOUT_S) as answer:
            assert b"streamcodec" in answer.read()
        assert main(["mic", "--server", url, "--input", str(speech_file), "--fast", "--quiet", "--no-retry"]) == 0
        assert "published 26 packets as 'live'" in capsys.readouterr().err
        process.send_signal(stop)
        out, err = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, out) == (0, "stopped\n")
    assert "publishes live: pcm_s16le, 6 kbps, 6 frames a packet" in err
    assert "Traceback" not in err


@pytest.mark.usefixtures("here")
def test_tokens_are_asked_for_and_taken_from_the_environment(model, speech_file, tmp_path, monkeypatch, capsys):
    (tmp_path / "tokens").write_text("secret\nother\n")
    with serving(model, "--publish-token-file", "tokens") as (_, url):
        status, line = fails(capsys, "mic", "--server", url, "--input", speech_file, "--fast", "--quiet")
        assert status == 1
        assert "refused by the server: the token does not allow to publish (unauthorized; do not retry unchanged)" in line
        monkeypatch.setenv("STREAMCODEC_TOKEN", "other")
        assert main(["mic", "--server", url, "--input", str(speech_file), "--fast", "--quiet"]) == 0


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("argv", [("mic", "--input", "-"), ("play", "--pcm", "--output", "heard.wav")], ids=lambda argv: argv[0])
def test_an_interrupted_client_says_no_more_than_it_must(argv, model, here):
    with serving(model) as (_, url):
        script = "import sys; from streamcodec.cli import main; sys.exit(main())"
        command = [sys.executable, "-c", script, argv[0], "--server", url, *argv[1:], "--quiet"]
        reading, writing = os.pipe()
        process = subprocess.Popen(command, stdin=reading, stderr=subprocess.PIPE, text=True, cwd=here)
        assert process.stderr is not None
        assert process.stderr.readline().startswith(("publishing pipe", "listening to 'live'"))
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=TIMEOUT_S)
        os.close(reading)
        os.close(writing)
    assert process.returncode == 130
    assert "Traceback" not in err and "Fatal" not in err and "Exception" not in err
    assert len(err.splitlines()) <= 2


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_an_interrupt_in_the_middle_of_a_callback_lets_it_end():
    reported: list[dict[str, object]] = []

    async def waiting() -> int:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: reported.append(context))
        awaited: asyncio.Future[None] = loop.create_future()

        def interrupted() -> None:
            signal.raise_signal(signal.SIGINT)
            awaited.set_result(None)

        loop.call_soon(interrupted)
        await awaited
        await asyncio.Event().wait()
        return 0

    assert cli._run(waiting()) == 130
    assert reported == []
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_interrupt_ends_a_command_that_is_busy():
    async def busy() -> int:
        for _ in range(2):
            signal.raise_signal(signal.SIGINT)
        return 0

    with pytest.raises(KeyboardInterrupt):
        cli._run(busy())


def test_a_long_file_shows_its_progress(here, model, monkeypatch, capsys):
    from tqdm import tqdm

    screen = io.StringIO()
    monkeypatch.setattr(cli, "_progress", lambda seconds, doing: tqdm(total=seconds, desc=doing, file=screen, mininterval=0))
    write_audio(here / "x.wav", np.zeros(72_000, np.float32), 24_000)
    assert main(["encode", "x.wav", "--model", model]) == 0
    assert "encoding" in screen.getvalue() and "100%" in screen.getvalue()
    assert capsys.readouterr().err == ""
