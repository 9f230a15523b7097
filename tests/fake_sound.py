"""A sound system without sound: streams whose callbacks a test calls by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt


class PortAudioError(Exception):
    pass


class Stream:
    """An input or output stream; `record` and `play` are the device's side of it."""

    def __init__(self, owner: FakeSound, **options: Any) -> None:
        self.options = options
        self.samplerate = options["samplerate"]
        self.latency = 0.01 if options["device"] == 0 else 0.0
        self.active = False
        self.closed = False
        self._owner = owner

    def start(self) -> None:
        if self._owner.fail_on_start:
            raise PortAudioError("Unanticipated host error", -9999)
        self.active = True

    def stop(self) -> None:
        self.active = False

    def abort(self) -> None:
        self.active = False

    def close(self) -> None:
        self.closed = True

    def record(self, block: npt.NDArray[np.float32], age_s: float | None = None) -> None:
        """Hand over a block [T, C] whose first sample is `age_s` old, or of unknown age."""
        time = SimpleNamespace(currentTime=100.0, inputBufferAdcTime=0.0 if age_s is None else 100.0 - age_s)
        self.options["callback"](block, len(block), time, None)

    def play(self, frames: int, *, ran_dry: bool = False) -> npt.NDArray[np.float32]:
        """Ask for a block [T, C]; with `ran_dry`, say that the device had nothing to play before it."""
        out = np.full((frames, self.options["channels"]), np.nan, np.float32)
        self.options["callback"](out, frames, None, SimpleNamespace(output_underflow=True) if ran_dry else None)
        return out


class FakeSound:
    """Stands in for the module `sounddevice`: one microphone (index 0) and one speaker (index 1), or `devices` = [] for none."""

    PortAudioError = PortAudioError

    def __init__(self, rate: float = 48_000.0, channels: int = 2) -> None:
        common = {"hostapi": 0, "default_samplerate": rate, "default_low_output_latency": 0.01}
        self.devices = [
            {**common, "name": "Mouth", "max_input_channels": channels, "max_output_channels": 0},
            {**common, "name": "Ear", "max_input_channels": 0, "max_output_channels": channels},
        ]
        self.streams: list[Stream] = []
        self.fail_on_start = False

    @property
    def default(self) -> Any:
        return SimpleNamespace(device=[0, 1] if self.devices else [-1, -1])

    def query_devices(self) -> list[dict[str, Any]]:
        return self.devices

    def query_hostapis(self) -> tuple[dict[str, str]]:
        return ({"name": "Fake"},)

    def InputStream(self, **options: Any) -> Stream:  # noqa: N802 - sounddevice's name
        self.streams.append(Stream(self, **options))
        return self.streams[-1]

    OutputStream = InputStream
