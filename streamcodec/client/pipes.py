"""Audio that comes through pipes: raw samples or sound files. Threads read, so that a pipe that stalls stops nothing else."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import CancelledError
from typing import Any, BinaryIO, TextIO, TypeVar

import numpy as np

from streamcodec.audio import MAX_CHANNELS, PipedAudio, bytes_to_recognise, recognise
from streamcodec.errors import AudioError, InputError, StreamCodecError
from streamcodec.protocol import now_us
from streamcodec.types import Samples

__all__ = ["ContainerSource", "PipeSource", "open_pipe", "raw_pipe"]

_BLOCK_S = 0.02
_HEAD_BYTES = 2_048

T = TypeVar("T")


class _PipedSource:
    """Blocks that a thread makes of what comes through a pipe, as fast as it comes."""

    dropped_s = 0.0
    sample_rate: int
    channels: int
    label: str

    def __init__(self) -> None:
        self.exhausted = False
        self._queue: asyncio.Queue[Samples | Exception | None] | None = None

    def _samples(self) -> Iterator[Samples]:
        """The blocks [C, T], on the thread."""
        raise NotImplementedError

    async def blocks(self) -> AsyncIterator[tuple[Samples, int]]:
        if self._queue is None:
            self._queue = asyncio.Queue(4)
            # One thread for good, which is never joined: a read from a pipe cannot be interrupted, and two readers would split its bytes.
            threading.Thread(target=self._feed, args=(self._queue, asyncio.get_running_loop()), daemon=True).start()
        while not self.exhausted:
            got = await self._queue.get()
            if isinstance(got, Exception):
                self.exhausted = True
                raise got
            if got is None:
                self.exhausted = True
            else:
                yield got, now_us() - round(got.shape[1] / self.sample_rate * 1e6)

    def _feed(self, into: asyncio.Queue[Samples | Exception | None], loop: asyncio.AbstractEventLoop) -> None:
        def put(item: Samples | Exception | None) -> bool:
            putting = into.put(item)
            try:
                asyncio.run_coroutine_threadsafe(putting, loop).result()
            except (RuntimeError, CancelledError):
                putting.close()
                return False  # the loop is gone
            return True

        end: Exception | None = None
        try:
            for samples in self._samples():
                if not put(samples):
                    return
        except StreamCodecError as exc:
            end = exc
        put(end)

    def close(self) -> None:
        pass


class PipeSource(_PipedSource):
    """Raw 16-bit little-endian PCM on a pipe, interleaved, as fast as it is written.

    `head` are bytes that were read from the pipe already. `blocks` raises `AudioError` if it is a sound file that comes, not raw samples:
    `open_pipe` reads both.
    """

    def __init__(self, sample_rate: int, channels: int, pipe: BinaryIO | None = None, head: bytes = b"") -> None:
        super().__init__()
        if not 1 <= channels <= MAX_CHANNELS:
            raise AudioError(f"channels is {channels}, expected 1 to {MAX_CHANNELS}")
        self.label = f"pipe ({sample_rate} Hz, {channels} channel(s), s16le)"
        self.sample_rate = sample_rate
        self.channels = channels
        self._read = _reader(pipe)
        self._head = head

    def _samples(self) -> Iterator[Samples]:
        width, size = 2 * self.channels, max(1, round(_BLOCK_S * self.sample_rate)) * 2 * self.channels
        held = self._head or _head(self._read)
        if (kind := recognise(held)) is not None:
            raise AudioError(f"{self.label}: a sound file comes ({kind}), expected raw samples: open it by `open_pipe`")
        while True:
            whole = len(held) - len(held) % width
            if whole:
                values = np.frombuffer(held[:whole], "<i2").reshape(-1, self.channels).T
                yield values.astype(np.float32) / np.float32(32768)
            data = self._read(size)
            if not data:
                return
            held = held[whole:] + data


class ContainerSource(_PipedSource):
    """A sound file on a pipe, as fast as it is written."""

    def __init__(self, audio: PipedAudio, label: str) -> None:
        super().__init__()
        self.label = label
        self.sample_rate = audio.rate
        self.channels = audio.channels
        self._audio = audio

    def _samples(self) -> Iterator[Samples]:
        return self._audio.blocks(_BLOCK_S)


async def open_pipe(sample_rate: int, channels: int, pipe: BinaryIO | None = None) -> PipeSource | ContainerSource:
    """Wait for the first bytes on a pipe (default: standard input), and open it as what they are.

    A WAV, FLAC, Ogg, MP3, AIFF, AU or CAF has its own rate and channels. What is none of them is raw samples of `channels` channels at
    `sample_rate` Hz. Raises `AudioError` for a sound file that cannot be decoded.
    """
    read = _reader(pipe)

    def opened() -> PipeSource | ContainerSource:
        head = _head(read)
        kind = recognise(head)
        if kind is None:
            return PipeSource(sample_rate, channels, pipe, head)
        audio = PipedAudio(kind, head, read, "standard input" if pipe is None else "the pipe")
        return ContainerSource(audio, f"pipe ({kind}, {audio.rate} Hz, {audio.channels} channel(s))")

    return await _on_thread(opened)


def raw_pipe(pipe: BinaryIO | None, standard: TextIO | None, name: str) -> Any:
    """`pipe`, by default the `standard` stream of this `name`, without Python's buffer; raises `InputError` if that stream is closed.

    The buffer's lock, held by a read or write that never returns, would make the end of the program a crash.
    """
    if pipe is None:
        if standard is None:
            raise InputError(f"{name} is closed, expected a pipe or a file")
        pipe = standard.buffer
    return getattr(pipe, "raw", pipe)


def _reader(pipe: BinaryIO | None) -> Callable[[int], bytes]:
    """What reads from a pipe as much as there is, b"" at its end."""
    read: Callable[[int], Any] = raw_pipe(pipe, sys.stdin, "standard input").read

    def some(size: int) -> bytes:
        try:
            return read(size) or b""
        except (OSError, ValueError):
            return b""  # closed meanwhile

    return some


def _head(read: Callable[[int], bytes]) -> bytes:
    """The first bytes: what there is, but as many as tell what comes."""
    head = b""
    while len(head) < bytes_to_recognise(head) and (more := read(_HEAD_BYTES)):
        head += more
    return head


async def _on_thread(call: Callable[[], T]) -> T:
    """Run `call` on a thread that nobody has to wait for: it may read from a pipe on which nothing comes."""
    loop = asyncio.get_running_loop()
    result: asyncio.Future[T] = loop.create_future()

    def settle(value: T | None, error: Exception | None) -> None:
        if not result.done():
            if error is None:
                result.set_result(value)  # type: ignore[arg-type]
            else:
                result.set_exception(error)

    def run() -> None:
        value, error = None, None
        try:
            value = call()
        except Exception as exc:
            error = exc
        try:
            loop.call_soon_threadsafe(settle, value, error)
        except RuntimeError:
            return  # the loop is gone

    threading.Thread(target=run, name="streamcodec-pipe", daemon=True).start()
    return await result
