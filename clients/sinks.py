"""Where a listener's audio goes: a device, a file or a pipe."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np

from streamcodec.audio import AudioWriter, PlayoutBuffer, Samples, StreamResampler, find_device, float_to_pcm, open_output
from streamcodec.errors import DeviceError, MissingDependencyError

__all__ = ["DeviceSink", "FileSink", "PipeSink", "Sink", "open_sink"]


class Sink(Protocol):
    """Takes samples [T] at 24 kHz or whatever rate the stream has."""

    label: str

    @property
    def live(self) -> bool:
        """Whether somebody hears it now, so that what comes too late is worth nothing."""
        ...

    @property
    def underruns(self) -> int:
        """How often a device wanted more than there was."""
        ...

    @property
    def buffered_s(self) -> float:
        """Seconds between what is written now and the ear, as far as this program knows."""
        ...

    def write(self, samples: Samples) -> None:
        """Play or store samples."""
        ...

    async def finish(self) -> None:
        """Wait until all that was written is out, and let go."""
        ...


class DeviceSink:
    """A speaker at its own rate behind a playout buffer that holds back `slack_s` against packets that come late."""

    live = True

    def __init__(self, spec: str | None, rate: int, slack_s: float = 0.04, block_ms: float = 5.0, ceiling_s: float = 0.5) -> None:
        # What is beyond `slack_s + ceiling_s` is dropped: it would only be heard later and later.
        device = find_device(spec, "output")
        self.label = f"speaker {device.name}"
        channels = min(2, device.max_output_channels)
        self._stream = open_output(device, channels, block_ms, self._callback)
        self._rate = float(self._stream.samplerate)
        self._resampler = StreamResampler(rate, self._rate)
        self._slack = round(slack_s * self._rate)
        self._ceiling = round(ceiling_s * self._rate)
        self._buffer: PlayoutBuffer | None = None
        self._scratch = np.zeros(round(self._rate), np.float32)

    @property
    def underruns(self) -> int:
        """How often the device wanted more than there was."""
        return self._buffer.underruns if self._buffer else 0

    @property
    def buffered_s(self) -> float:
        """Playout buffer and device together."""
        buffered = self._buffer.buffered if self._buffer else self._slack
        return buffered / self._rate + float(self._stream.latency)

    def _callback(self, out: Any, frames: int, time: Any, status: Any) -> None:  # noqa: ARG002
        mono = self._scratch[:frames]
        assert self._buffer is not None
        self._buffer.pull(frames, mono)
        out[:] = mono[:, None]

    def write(self, samples: Samples) -> None:
        block = self._resampler.feed(samples)
        if self._buffer is None:
            self._buffer = self._open(len(block))
        self._buffer.push(block)

    def _open(self, block: int) -> PlayoutBuffer:
        """Begin to play: the slack as silence, then what comes. After an underrun or a jump there is slack and a block in hand again."""
        target = max(1, self._slack + block)
        buffer = PlayoutBuffer(target, target + self._ceiling, round(0.005 * self._rate))
        buffer.push(np.zeros(self._slack, np.float32))
        self._buffer = buffer
        try:
            self._stream.start()
        except Exception as exc:  # PortAudio's own error, which only sounddevice can name
            raise DeviceError(f"{self.label} cannot be started: {exc}") from exc
        return buffer

    async def finish(self) -> None:
        if self._buffer is not None:
            self._buffer.push(self._resampler.flush())
            self._buffer.finish()
            # A device that is gone drains nothing.
            give_up = time.monotonic() + self.buffered_s + 1.0
            while not self._buffer.drained and time.monotonic() < give_up:  # noqa: ASYNC110 - a device thread drains it
                await asyncio.sleep(0.02)
            await asyncio.sleep(float(self._stream.latency))
            self._stream.stop()
        self._stream.close()


class FileSink:
    """An audio file, WAV or FLAC by its suffix."""

    live = False
    underruns = 0
    buffered_s = 0.0

    def __init__(self, path: Path, rate: int) -> None:
        self.label = str(path)
        self._writer = AudioWriter(path, rate)

    def write(self, samples: Samples) -> None:
        self._writer.write(samples)

    async def finish(self) -> None:
        self._writer.close()


class PipeSink:
    """Raw 16-bit little-endian PCM, mono, on a pipe."""

    live = False
    underruns = 0
    buffered_s = 0.0
    label = "pipe (s16le)"

    def __init__(self, pipe: BinaryIO | None = None) -> None:
        self._pipe = pipe or sys.stdout.buffer

    def write(self, samples: Samples) -> None:
        self._pipe.write(float_to_pcm(samples, "pcm_s16le"))
        self._pipe.flush()

    async def finish(self) -> None:
        self._pipe.flush()


def open_sink(spec: str | None, rate: int, slack_s: float = 0.04) -> Sink:
    """Open what `spec` names: None the default speaker, "-" a pipe, a path with a suffix a file, else a device by index or name."""
    if spec == "-":
        return PipeSink()
    if spec is not None and (Path(spec).suffix or "/" in spec):
        return FileSink(Path(spec), rate)
    try:
        return DeviceSink(spec, rate, slack_s)
    except (DeviceError, MissingDependencyError) as exc:
        raise DeviceError(f"{exc}. To record instead: --output heard.wav") from exc
