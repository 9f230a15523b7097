"""What a machine has and what it lacks is told, with what to do about it."""

from __future__ import annotations

import importlib.metadata
import socket
import sys

import pytest

from streamcodec.cli import main


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


@pytest.mark.usefixtures("no_devices")
@pytest.mark.parametrize(
    ("absent", "marks", "said"),
    [
        ({"torch"}, {"torch": "warn", "onnxruntime": "ok"}, "without it models run on ONNX Runtime"),
        ({"onnxruntime"}, {"torch": "ok", "onnxruntime": "warn"}, "pip install 'streamcodec[play]', for machines without torch"),
        ({"torch", "onnxruntime"}, {"torch": "FAIL", "onnxruntime": "warn"}, "without either only PCM is published and played"),
    ],
    ids=["torch", "onnxruntime", "both"],
)
def test_the_doctor_asks_for_torch_only_where_nothing_else_runs_models(absent, marks, said, model, monkeypatch, capsys):
    version = importlib.metadata.version

    def installed(package: str) -> str:
        if package in absent:
            raise importlib.metadata.PackageNotFoundError(package)
        return version(package)

    monkeypatch.setattr(importlib.metadata, "version", installed)
    assert main(["doctor", "--model", model, "--port", "0"]) == ("FAIL" in marks.values())
    found = findings(capsys.readouterr().out)
    assert {name: found[name][0] for name in marks} == marks
    assert any(said in text for _, text in found.values())
