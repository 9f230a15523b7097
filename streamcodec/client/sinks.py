"""Where a listener's audio goes: a device, a file or a pipe."""

from __future__ import annotations

import asyncio
import queue
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np

from streamcodec.audio import AdaptivePlayout, AudioWriter, PlayoutPolicy, PlayoutStats, find_device, float_to_pcm, open_output
from streamcodec.audio.io.writer import check_suffix
from streamcodec.client.pipes import raw_pipe
from streamcodec.errors import DeviceError
from streamcodec.types import Samples

__all__ = ["DeviceSink", "FileSink", "PipeSink", "Sink", "check_sink", "open_sink"]

_MAX_WAITING_S = 1.0
# A device that runs dry again sooner than this had not begun to run, as at its start. One that says so for longer plays all the same.
_RUNS_S = 0.1
# How long a pipe that is being left may still take what waits for it.
_LAST_S = 1.0


class Sink(Protocol):
    """Takes samples, [T] or [C, T] of several channels, at the rate of the stream."""

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
    def device_s(self) -> float:
        """Seconds between the device and the ear, by its own account."""
        ...

    def write(
        self,
        samples: Samples,
        arrived_s: float | None = None,
        captured_s: float | None = None,
        *,
        decoding_s: float = 0.0,
        quiet: bool = False,
    ) -> float:
        """Play or store samples; a packet's come with when it arrived and when its last sample was captured, on one clock or on two.

        `decoding_s` is how long after its arrival they were there. Behind a `quiet` one others may be left out. Returns the seconds until
        the first of them is heard, `device_s` among them, as far as this program knows.
        """
        ...

    async def finish(self) -> None:
        """Wait until all that was written is out, and let go."""
        ...


class DeviceSink:
    """A speaker at its own rate behind an adaptive playout, which holds back `slack_s`, and more where packets are later, up to `max_s`.

    Two `channels` are heard as such where the device has two, else their mix.
    """

    live = True

    def __init__(
        self, spec: str | None, rate: int, slack_s: float = 0.02, max_s: float = 0.25, block_ms: float = 5.0, channels: int = 1
    ) -> None:
        device = find_device(spec, "output")
        self.label = f"speaker {device.name}"
        outputs = min(2, device.max_output_channels)
        self._channels = channels if channels == outputs else 1
        self._stream = open_output(device, outputs, block_ms, self._callback)
        self._rate = float(self._stream.samplerate)
        policy = PlayoutPolicy(floor_s=max(slack_s, 0.001), ceiling_s=max(slack_s + 0.001, max_s))
        self._playout = AdaptivePlayout(rate, self._rate, policy, block_s=block_ms / 1000, channels=self._channels)
        self._playing = False
        self._ran_dry = 0  # how often the device did
        self._in_order = self._withheld = 0  # samples that it has taken since, and those that it was not given
        self._scratch = np.zeros((self._channels, round(self._rate)), np.float32)

    @property
    def stats(self) -> PlayoutStats:
        """How playing goes; the device's own stops are among the underruns."""
        stats = self._playout.stats
        return replace(stats, underruns=stats.underruns + self._ran_dry)

    @property
    def underruns(self) -> int:
        """How often the device wanted more than there was, or ran dry because this program's thread came too late."""
        return self.stats.underruns

    @property
    def device_s(self) -> float:
        """What the device says that it holds."""
        return float(self._stream.latency)

    def _callback(self, out: Any, frames: int, time: Any, status: Any) -> None:  # noqa: ARG002
        if status and status.output_underflow:
            # The device ran dry and starts again. It drops what it gets until it runs, often several blocks.
            if self._in_order >= _RUNS_S * self._rate:
                self._ran_dry += 1
                self._withheld = 0
            self._in_order = 0
            if self._withheld < _RUNS_S * self._rate:
                self._withheld += frames
                self._playout.interrupt()
                out[:] = 0.0
                return
        self._in_order += frames
        block = self._scratch[:, :frames]
        self._playout.pull(frames, block[0] if self._channels == 1 else block)
        out[:] = block.T  # one channel goes to all

    def write(
        self,
        samples: Samples,
        arrived_s: float | None = None,
        captured_s: float | None = None,
        *,
        decoding_s: float = 0.0,
        quiet: bool = False,
    ) -> float:
        if samples.ndim == 2 and self._channels == 1:
            samples = samples.mean(axis=0, dtype=np.float32)
        ahead_s = self._playout.push(samples, arrived_s, captured_s, decoding_s=decoding_s, quiet=quiet)
        if not self._playing:
            self._playing = True
            try:
                self._stream.start()
            except Exception as exc:  # PortAudio's own error, which only sounddevice can name
                raise DeviceError(f"{self.label} cannot be started: {exc}") from exc
        return ahead_s + self.device_s

    async def finish(self) -> None:
        if self._playing:
            self._playout.finish()
            # A device that is gone drains nothing.
            give_up = time.monotonic() + self._playout.stats.buffered_s + self.device_s + 1.0
            while not self._playout.drained and time.monotonic() < give_up:  # noqa: ASYNC110 - a device thread drains it
                await asyncio.sleep(0.02)
            await asyncio.sleep(self.device_s)
            self._stream.stop()
        self._stream.close()


class _StoringSink:
    """Takes all as it comes: nobody hears it now, and when it came makes no difference."""

    live = False
    underruns = 0
    device_s = 0.0

    def write(
        self,
        samples: Samples,
        arrived_s: float | None = None,  # noqa: ARG002
        captured_s: float | None = None,  # noqa: ARG002
        *,
        decoding_s: float = 0.0,  # noqa: ARG002
        quiet: bool = False,  # noqa: ARG002
    ) -> float:
        self._store(samples)
        return 0.0

    def _store(self, samples: Samples) -> None:
        raise NotImplementedError


class FileSink(_StoringSink):
    """An audio file, WAV or FLAC by its suffix."""

    def __init__(self, path: Path, rate: int, channels: int = 1) -> None:
        self.label = str(path)
        self._writer = AudioWriter(path, rate, channels)

    def _store(self, samples: Samples) -> None:
        self._writer.write(samples)

    async def finish(self) -> None:
        self._writer.close()


class PipeSink(_StoringSink):
    """Raw 16-bit little-endian PCM on a pipe, channels interleaved; a thread writes it.

    `write` never waits, and `room` waits until less than a second of audio is unwritten. Both raise `OSError` if the pipe was closed.
    """

    label = "pipe (s16le)"

    def __init__(self, pipe: BinaryIO | None = None, rate: int = 24_000, channels: int = 1) -> None:
        self._pipe = raw_pipe(pipe, sys.stdout, "standard output")
        self._channels = channels
        self._bound = round(_MAX_WAITING_S * rate) * 2 * channels
        self._queue: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._waiting = 0
        self._written = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._error: OSError | None = None

    def _store(self, samples: Samples) -> None:
        self._check()
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            threading.Thread(target=self._drain, args=(self._loop,), name="streamcodec-pipe", daemon=True).start()
        data = float_to_pcm(samples, "pcm_s16le", self._channels)
        self._waiting += len(data)
        self._queue.put(data)

    async def room(self) -> None:
        """Wait until the pipe has taken enough."""
        await self._until_at_most(self._bound)
        self._check()

    async def finish(self) -> None:
        """Wait until the pipe has taken everything; after an interrupt, for a second at most."""
        task = asyncio.current_task()
        interrupted = task is not None and task.cancelling() > 0
        try:
            async with asyncio.timeout(_LAST_S if interrupted else None):
                await self._until_at_most(0)
        except TimeoutError:
            return
        self._check()

    async def _until_at_most(self, unwritten: int) -> None:
        while self._waiting > unwritten and self._error is None:
            self._written.clear()
            await self._written.wait()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _drain(self, loop: asyncio.AbstractEventLoop) -> None:
        while True:
            data = self._queue.get()
            left = memoryview(data)
            error = None
            try:
                while left:
                    left = left[self._pipe.write(left) or 0 :]
            except (OSError, ValueError) as exc:
                error = exc if isinstance(exc, OSError) else BrokenPipeError("the pipe was closed")
            try:
                loop.call_soon_threadsafe(self._took, len(data), error)
            except RuntimeError:
                return  # the loop is gone
            if error is not None:
                return

    def _took(self, size: int, error: OSError | None) -> None:
        self._waiting -= size
        self._error = error
        self._written.set()


def check_sink(spec: str | None) -> None:
    """Raise what `open_sink` would, as far as it shows before rate and channels are known.

    That is `DeviceError` for a device that is not there, `AudioError` for a file of another kind, and `InputError` for a closed pipe.
    """
    if spec == "-":
        raw_pipe(None, sys.stdout, "standard output")
    elif spec is not None and _names_a_file(spec):
        check_suffix(spec)
    else:
        find_device(spec, "output")


def _names_a_file(spec: str | None) -> bool:
    return spec is not None and bool(Path(spec).suffix or "/" in spec)


def open_sink(spec: str | None = None, rate: int = 24_000, slack_s: float = 0.02, max_s: float = 0.25, channels: int = 1) -> Sink:
    """Open what `spec` names: None the default speaker, "-" standard output, a path with a suffix a file, else a device by index or name.

    `rate` and `channels` are those of the samples that will be written. `slack_s` and `max_s` are a `DeviceSink`'s. Raises `AudioError` for
    a file that cannot be written, and `DeviceError` for a device that is not there.
    """
    if spec == "-":
        return PipeSink(rate=rate, channels=channels)
    if spec is not None and _names_a_file(spec):
        return FileSink(Path(spec), rate, channels)
    return DeviceSink(spec, rate, slack_s, max_s, channels=channels)
