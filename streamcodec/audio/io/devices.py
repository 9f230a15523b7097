"""Finds sound devices by index or name and opens them at their own rate. PortAudio's error numbers become hints in words.

A device's callback is Python on a thread of its own. By default, another thread that runs Python lets it wait for 5 ms, as long as a block.
So opening a device sets this process's switch interval to 0.5 ms, unless it is shorter already.

The package sounddevice is imported on first use, so that everything else works on a machine without PortAudio.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from streamcodec.errors import DeviceError, InputError, MissingDependencyError

__all__ = ["DeviceInfo", "Kind", "find_device", "list_devices", "open_input", "open_output"]

Kind = Literal["input", "output"]

# A callback in Python may come 10 ms late, because its thread waits for a processor and for the interpreter's lock.
_MIN_OUTPUT_LATENCY_S = 0.020
_SWITCH_S = 0.0005

_HINTS = {
    -9985: "it is in use by another program, or unplugged: close that program or choose another device",
    -9996: "there is no such device: list the devices and choose one by its index",
    -9997: "it does not support this sampling rate: choose another device, or the system's default one, which converts rates",
    -9998: "it does not have that many channels: ask for fewer",
    -9999: "its driver refuses: check that the device is connected and that this program may use it",
}


@dataclass(frozen=True)
class DeviceInfo:
    """One sound device, with PortAudio's index and description.

    `default_rate` is in Hz, and `low_output_latency_s` is the latency (s) that the system proposes for interactive output.
    """

    index: int
    name: str
    host_api: str
    max_input_channels: int
    max_output_channels: int
    default_rate: float
    is_default_input: bool
    is_default_output: bool
    low_output_latency_s: float = 0.0

    def __str__(self) -> str:
        return f"{self.index}: {self.name}, {self.host_api} ({self.max_input_channels} in, {self.max_output_channels} out)"

    def channels(self, kind: Kind) -> int:
        """The largest number of channels as an input or output; 0 if the device does not have that direction."""
        return self.max_input_channels if kind == "input" else self.max_output_channels

    def is_default(self, kind: Kind) -> bool:
        """Whether this is the system's default device for input or output."""
        return self.is_default_input if kind == "input" else self.is_default_output


def list_devices() -> list[DeviceInfo]:
    """All sound devices of the machine, in the order of their index.

    Raises `MissingDependencyError` if the PortAudio library is not installed, `DeviceError` if it fails.
    """
    sd = _sounddevice()
    try:
        apis = [str(api["name"]) for api in sd.query_hostapis()]
        default_input, default_output = sd.default.device[0], sd.default.device[1]
        return [
            DeviceInfo(
                index=index,
                name=str(found["name"]),
                host_api=apis[found["hostapi"]],
                max_input_channels=int(found["max_input_channels"]),
                max_output_channels=int(found["max_output_channels"]),
                default_rate=float(found["default_samplerate"]),
                is_default_input=index == default_input,
                is_default_output=index == default_output,
                low_output_latency_s=float(found["default_low_output_latency"]),
            )
            for index, found in enumerate(sd.query_devices())
        ]
    except sd.PortAudioError as error:
        raise DeviceError(f"the sound devices cannot be listed: {error}") from error


def find_device(spec: str | int | None, kind: Kind) -> DeviceInfo:
    """Find an input or output device by its index, by a part of "name, host API" (case is ignored), or, for None, the default device.

    An exact match wins over partial matches. Raises `DeviceError` if no device or several devices match; the message lists the candidates.
    """
    devices = list_devices()
    candidates = [d for d in devices if d.channels(kind) > 0]
    if spec is None:
        matches, wanted = [d for d in candidates if d.is_default(kind)], f"default {kind} device"
    elif isinstance(spec, int) or spec.strip().isdecimal():
        matches, wanted = [d for d in candidates if d.index == int(spec)], f"{kind} device with index {int(spec)}"
    else:
        part = spec.strip().lower()
        matches = [d for d in candidates if part in f"{d.name}, {d.host_api}".lower()]
        matches = [d for d in matches if part in (d.name.lower(), f"{d.name}, {d.host_api}".lower())] or matches
        wanted = f"{kind} device with {spec!r} in its name"
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise DeviceError(f"more than one {wanted}, expected one of: {'; '.join(map(str, matches))}")
    raise DeviceError(f"there is no {wanted}; this machine has {'; '.join(map(str, candidates)) or f'no {kind} devices'}")


def open_input(device: DeviceInfo, channels: int, block_ms: float, callback: Callable[..., None]) -> Any:
    """Open a microphone at its default rate with low latency; return a `sounddevice.InputStream` that is not started yet.

    sounddevice calls `callback(indata, frames, time, status)` with float32 [T, C], which is valid only during the call. With `block_ms` 0,
    PortAudio chooses the block size. Raises `DeviceError` with a hint if the device cannot be opened.
    """
    return _open("InputStream", "input", device, channels, block_ms, callback)


def open_output(device: DeviceInfo, channels: int, block_ms: float, callback: Callable[..., None]) -> Any:
    """Open a speaker at its default rate with a low latency, at least 20 ms; return a `sounddevice.OutputStream` that is not started yet.

    sounddevice calls `callback(outdata, frames, time, status)`, which must fill `outdata`, float32 [T, C]. With `block_ms` 0, PortAudio
    chooses the block size. Raises `DeviceError` with a hint if the device cannot be opened.
    """
    return _open("OutputStream", "output", device, channels, block_ms, callback)


def _open(stream: str, kind: Kind, device: DeviceInfo, channels: int, block_ms: float, callback: Callable[..., None]) -> Any:
    if channels < 1 or not block_ms >= 0:
        raise InputError(f"channels is {channels} and block_ms {block_ms}, expected at least 1 channel and 0 ms")
    if channels > device.channels(kind):
        raise DeviceError(f"{device.name} has {device.channels(kind)} {kind} channels, expected at least {channels}")
    sd = _sounddevice()
    sys.setswitchinterval(min(sys.getswitchinterval(), _SWITCH_S))
    try:
        return getattr(sd, stream)(
            device=device.index,
            samplerate=device.default_rate,
            channels=channels,
            dtype="float32",
            blocksize=round(device.default_rate * block_ms / 1000),
            latency="low" if kind == "input" else max(_MIN_OUTPUT_LATENCY_S, device.low_output_latency_s),
            callback=callback,
        )
    except sd.PortAudioError as error:
        hint = _HINTS.get(error.args[1], "") if len(error.args) > 1 else ""
        requested = f"{device.default_rate:g} Hz, {channels} channel(s)"
        raise DeviceError(f"{kind} device {device.name} cannot be opened ({requested}): {hint or error}") from error


def _sounddevice() -> Any:
    """Import sounddevice; raises `MissingDependencyError` with install instructions if it or PortAudio is missing."""
    try:
        import sounddevice
    except OSError as error:
        raise MissingDependencyError(
            "the PortAudio library is not installed: apt install libportaudio2 (Debian, Ubuntu), dnf install portaudio (Fedora); "
            "the wheels of sounddevice for macOS and Windows contain it (else: brew install portaudio)"
        ) from error
    except ImportError as error:
        raise MissingDependencyError("sounddevice is not installed: pip install sounddevice") from error
    return sounddevice
