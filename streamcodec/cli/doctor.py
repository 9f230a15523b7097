"""`streamcodec doctor`: what would not work on this machine, and what to install. Each check is one line, and none changes anything."""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

import typer

from streamcodec.cli.options import DEFAULT_MODEL, DEFAULT_PORT, port_number
from streamcodec.errors import StreamCodecError

__all__ = ["Finding", "doctor", "examine"]


def doctor(
    model: Annotated[str, typer.Option(metavar="NAME", help="The model that will be used.")] = DEFAULT_MODEL,
    port: Annotated[int, typer.Option(parser=port_number, metavar="PORT", help="The port that the server will use.")] = DEFAULT_PORT,
) -> int:
    """Say what would not work here, and what to install."""
    broken = False
    for finding in examine(model, port):
        mark = "ok  " if finding.works else ("FAIL" if finding.needed else "warn")
        print(f"{mark} {finding.name:<11} {finding.told}")
        if not finding.works:
            print(f"     {'':<11} -> {finding.remedy}")
            broken |= finding.needed
    return 1 if broken else 0


@dataclass(frozen=True)
class Finding:
    """One check: `works`, what was found, and what to do where it does not; `needed` says that nothing works without it."""

    name: str
    works: bool
    told: str
    remedy: str = ""
    needed: bool = True


def examine(model: str, port: int) -> Iterator[Finding]:
    """Run every check, yielding each as it is done."""
    yield Finding(
        "python", sys.version_info >= (3, 11), f"{platform.python_version()} on {platform.platform()}", "install Python 3.11 or newer"
    )
    for package in ("numpy", "websockets", "msgpack", "soxr", "soundfile"):
        yield _package(package, f"pip install {package}")
    yield _package("uvloop", "pip install uvloop (the event loop works without it, slower)", needed=False)
    onnx = _package("onnxruntime", "pip install 'streamcodec[play]', for machines without torch", needed=False)
    without = (
        "without it models run on ONNX Runtime" if onnx.works else "or 'streamcodec[play]'; without either only PCM is published and played"
    )
    yield _package("torch", f"pip install 'streamcodec[codec]'; {without}", needed=not onnx.works)
    yield onnx
    yield _package("safetensors", "pip install 'streamcodec[play]'; without it this machine can publish PCM and play PCM only")
    yield _package("matplotlib", "pip install 'streamcodec[plots]'; without it the demo draws no picture", needed=False)
    yield _guarded("model", lambda: _model(model), "give another --model, or see streamcodec models")
    sound = _guarded("sound", _sound, "files and pipes work without it: mic --input FILE, play --output FILE.wav", needed=False)
    yield sound
    if sound.works:
        yield from _devices()
    yield _guarded(
        "port", lambda: _port(port), f"stop what uses it, or serve on another: streamcodec serve --port {port + 1}", needed=False
    )


def _devices() -> Iterator[Finding]:
    yield _guarded("microphone", lambda: _device("input"), "plug one in, or publish a file: streamcodec mic --input FILE", needed=False)
    yield _guarded("speaker", lambda: _device("output"), "plug one in, or record: streamcodec play --output FILE.wav", needed=False)


def _package(name: str, remedy: str, needed: bool = True) -> Finding:
    import importlib.metadata

    try:
        return Finding(name, True, importlib.metadata.version(name), needed=needed)
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, False, "not installed", remedy, needed)


def _guarded(name: str, check: Callable[[], str], remedy: str, needed: bool = True) -> Finding:
    try:
        return Finding(name, True, check(), needed=needed)
    except (StreamCodecError, OSError) as exc:
        return Finding(name, False, str(exc), remedy, needed)


def _model(name: str) -> str:
    import numpy as np

    from streamcodec.codec import load

    codec = load(name, threads=1)
    encoder = codec.stream_encoder()
    packet = np.zeros(6 * codec.hop_length, np.float32)
    times = []
    for _ in range(20):
        begun = time.perf_counter()
        encoder.feed(packet)
        times.append(time.perf_counter() - begun)
    step_ms = 1000 * sorted(times)[len(times) // 2]
    return f"{name} ({codec.fingerprint}) on {codec.engine.name}: {step_ms:.1f} ms per 80 ms packet, {80 / step_ms:.0f} times real time"


def _sound() -> str:
    from streamcodec.audio import list_devices

    return f"PortAudio with {len(list_devices())} device(s)"


def _device(kind: Literal["input", "output"]) -> str:
    from streamcodec.audio import find_device

    return str(find_device(None, kind))


def _port(port: int) -> str:
    import socket

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
    return f"{port} is free"
