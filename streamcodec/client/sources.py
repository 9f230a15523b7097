"""Where a publisher's audio comes from: a device, a file, a pipe or samples in memory, as blocks with the time of their capture."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Protocol

from streamcodec.audio import CaptureBuffer, CaptureClock, find_device, open_audio_blocks, open_input
from streamcodec.client.pipes import PipeSource
from streamcodec.errors import DeviceError
from streamcodec.protocol import now_us
from streamcodec.types import Samples

__all__ = ["ClipSource", "DeviceSource", "FileSource", "PipeSource", "RealTime", "Source", "Tee", "open_source"]

_BLOCK_S = 0.02
_MAX_WAITING_S = 0.5
_SILENT_S = 5.0


class Source(Protocol):
    """Audio to publish: blocks [C, T] at `sample_rate` Hz and when each one's first sample was captured (us of `now_us`)."""

    label: str
    sample_rate: int
    channels: int

    @property
    def exhausted(self) -> bool:
        """Whether there will never be another block."""
        ...

    @property
    def dropped_s(self) -> float:
        """Seconds that were dropped in front of blocks that were given, because they waited too long to be read."""
        ...

    def blocks(self) -> AsyncIterator[tuple[Samples, int]]:
        """The blocks, each as soon as it exists, until there are no more; a second call goes on where the first one stopped."""
        ...

    def close(self) -> None:
        """Close the device or file."""
        ...


class DeviceSource:
    """A microphone at its own rate; `spec` is an index, a part of a name, or None for the system's default.

    What is not read in time is dropped, the oldest first: a block is never more than half a second late.
    """

    exhausted = False

    def __init__(self, spec: str | None = None, block_ms: float = 5.0) -> None:
        device = find_device(spec, "input")
        self.label = f"microphone {device.name}"
        self.sample_rate = round(device.default_rate)
        self.channels = min(2, device.max_input_channels)
        self._buffer = CaptureBuffer(round(_MAX_WAITING_S * self.sample_rate), self.channels)
        self._ready = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._stream = open_input(device, self.channels, block_ms, self._callback)
        self._clock = CaptureClock(self.sample_rate, float(self._stream.latency))

    @property
    def dropped_s(self) -> float:
        """Seconds that were dropped because nobody read them in time."""
        return self._buffer.dropped / self.sample_rate

    def _callback(self, data: Any, frames: int, time: Any, status: Any) -> None:
        age_s = time.currentTime - time.inputBufferAdcTime
        captured_s = self._clock.captured(now_us() / 1e6, age_s, frames, lost=bool(status and status.input_overflow))
        self._buffer.write(data, round(captured_s * 1e6))
        self._loop.call_soon_threadsafe(self._ready.set)

    async def blocks(self) -> AsyncIterator[tuple[Samples, int]]:
        # What was recorded while nobody read is too old.
        self._buffer.skip()
        if not self._stream.active:
            try:
                self._stream.start()
            except Exception as exc:  # PortAudio's own error, which only sounddevice can name
                raise DeviceError(f"{self.label} cannot be started: {exc}") from exc
        while True:
            try:
                async with asyncio.timeout(_SILENT_S):
                    await self._ready.wait()
            except TimeoutError:
                raise DeviceError(f"{self.label} has given nothing for {_SILENT_S:g} s: was it unplugged?") from None
            self._ready.clear()
            taken = self._buffer.read()
            if taken is not None:
                yield taken

    def close(self) -> None:
        self._stream.abort()
        self._stream.close()


class FileSource:
    """An audio file, in real time or as fast as it is read."""

    dropped_s = 0.0

    def __init__(self, path: Path, *, fast: bool = False) -> None:
        self._file = open_audio_blocks(path, 1.0 if fast else _BLOCK_S)
        self._blocks = iter(self._file)
        self.label = str(path)
        self.sample_rate = self._file.rate
        self.channels = self._file.channels
        self.exhausted = False
        self._fast = fast

    async def blocks(self) -> AsyncIterator[tuple[Samples, int]]:
        schedule = RealTime()
        for block in self._blocks:
            captured = now_us() if self._fast else await schedule.until_over(block.shape[1] / self.sample_rate)
            yield block, captured
        self.exhausted = True

    def close(self) -> None:
        self._file.close()


class ClipSource:
    """Samples [T] from memory, in real time."""

    channels = 1
    dropped_s = 0.0

    def __init__(self, samples: Samples, sample_rate: int, label: str) -> None:
        self.label = label
        self.sample_rate = sample_rate
        self._samples = samples
        self._at = 0

    @property
    def exhausted(self) -> bool:
        return self._at >= len(self._samples)

    async def blocks(self) -> AsyncIterator[tuple[Samples, int]]:
        schedule, size = RealTime(), max(1, round(_BLOCK_S * self.sample_rate))
        while not self.exhausted:
            block = self._samples[self._at : self._at + size]
            captured = await schedule.until_over(len(block) / self.sample_rate)
            self._at += size
            yield block[None], captured

    def close(self) -> None:
        pass


class Tee:
    """A source whose blocks are also given to `keep`, mixed down [T]; it ends after `seconds` if they are given."""

    def __init__(self, source: Source, keep: Callable[[Samples], None], seconds: float | None = None) -> None:
        self._source = source
        self._keep = keep
        self._seconds = seconds
        self.label, self.sample_rate, self.channels = source.label, source.sample_rate, source.channels

    @property
    def exhausted(self) -> bool:
        """Whether the source itself is."""
        return self._source.exhausted

    @property
    def dropped_s(self) -> float:
        """The source's own."""
        return self._source.dropped_s

    async def blocks(self) -> AsyncIterator[tuple[Samples, int]]:
        passed_s = 0.0
        async for block, captured in self._source.blocks():
            self._keep(block.mean(axis=0))
            yield block, captured
            passed_s += block.shape[1] / self.sample_rate
            if self._seconds is not None and passed_s >= self._seconds:
                return

    def close(self) -> None:
        self._source.close()


def open_source(spec: str | None = None, *, fast: bool = False, rate: int = 48_000, channels: int = 1) -> Source:
    """Open what `spec` names: None the default microphone, "-" standard input, an audio file, else a device by index or name.

    `fast` gives a file's blocks as fast as they are read. A pipe carries raw samples of `channels` channels at `rate` Hz; `open_pipe` reads
    sound files from it, too. Raises `AudioError` for a file
    that cannot be read, and `DeviceError` for a device that is not there.
    """
    if spec == "-":
        return PipeSource(rate, channels)
    if spec is not None and (Path(spec).exists() or Path(spec).suffix or "/" in spec):
        return FileSource(Path(spec), fast=fast)
    return DeviceSource(spec)


class RealTime:
    """When a device would have captured each block of audio that exists already."""

    def __init__(self) -> None:
        self._begun: int | None = None
        self._position_s = 0.0

    async def until_over(self, duration_s: float) -> int:
        """Wait until a block of `duration_s` would be complete; return when its first sample was captured."""
        if self._begun is None:
            self._begun = now_us()
        captured = self._begun + round(self._position_s * 1e6)
        self._position_s += duration_s
        await asyncio.sleep(max(0.0, (self._begun + self._position_s * 1e6 - now_us()) / 1e6))
        return captured
