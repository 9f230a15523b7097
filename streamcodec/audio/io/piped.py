"""Sound files that come through a pipe, decoded while they come: the pipe may stay open for hours."""

from __future__ import annotations

import functools
import os
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import soundfile as sf

from streamcodec.audio.io.containers import PLACEHOLDER
from streamcodec.audio.io.media import MEDIA_KINDS
from streamcodec.audio.io.sound_bytes import ForwardSoundFile, reason_of
from streamcodec.audio.samples import MAX_CHANNELS, check_values
from streamcodec.errors import AudioError
from streamcodec.types import Samples

__all__ = ["PipedAudio"]

# What libsndfile may go back to while it opens a FLAC: tags and pictures come first.
_KEPT_BYTES = 16 << 20
_NO_END = 2**62
# How a file begins, in its first page, frame or chunk. An Ogg may begin with several streams: another file begins behind a last page.
_BEGINS = {
    "Ogg": re.compile(rb"OggS\x00[\x02\x06]"),
    "FLAC": re.compile(rb"fLaC[\x00\x80]\x00\x00\x22"),
    "MP3": re.compile(rb"(?:Xing|Info)\x00\x00\x00"),
    "WAV": re.compile(rb"(?:RIFF|RF64)....WAVE", re.DOTALL),
}
_ENDS = {"Ogg": re.compile(rb"OggS\x00[\x04\x05]")}
_LONGEST_MARK = 11


class PipedAudio:
    """A sound file of `kind` (as `recognise` names it) behind a pipe: `head` are its first bytes, and `read` gives more, b"" at the end.

    `rate` is in Hz. Raises `AudioError` if it cannot be decoded from a pipe; messages name it `source`.
    """

    def __init__(self, kind: str, head: bytes, read: Callable[[int], bytes], source: str) -> None:
        if kind in MEDIA_KINDS:
            raise AudioError(
                f"{source} is a file of {kind}, which is not decoded here: expected raw samples, WAV, FLAC, Ogg or MP3, such as from "
                "ffmpeg -i FILE -f wav -"
            )
        self._source = source
        self._watched = _Watched(kind, head, read)
        self._rest: Callable[[int], bytes] = self._watched.read
        try:
            if kind == "FLAC":
                # libsndfile loses its place in a FLAC that comes through a file descriptor.
                self._sound = ForwardSoundFile(_PipeBytes(head, self._watched.read))
            else:
                descriptor = _pumped(head, self._watched.read)
                self._rest = functools.partial(os.read, descriptor)
                self._sound = ForwardSoundFile(descriptor)
        except (sf.SoundFileError, TypeError) as error:
            raise AudioError(f"{source} is {kind} that cannot be read: {reason_of(error)}") from error
        self.rate: int = self._sound.samplerate
        self.channels: int = self._sound.channels
        if self.channels > MAX_CHANNELS:
            raise AudioError(f"{source} has {self.channels} channels, expected at most {MAX_CHANNELS}")

    def blocks(self, block_s: float) -> Iterator[Samples]:
        """Blocks [C, T] of `block_s` seconds, each when it has come.

        Raises `AudioError` if bytes are damaged or missing, and at the end of the first file if another one follows.
        """
        size, done = max(1, round(block_s * self.rate)), 0
        try:
            while len(block := self._sound.read(size, dtype="float32", always_2d=True)):
                samples = np.ascontiguousarray(block.T)
                check_values(samples, first=done, source=self._source)
                done += samples.shape[1]
                yield samples
        except sf.SoundFileError as error:
            self._check_alone()
            raise AudioError(f"{self._source} was cut off or is damaged: {reason_of(error)}") from error
        told = self._sound.frames
        if done < told and told * self.channels * 8 < PLACEHOLDER:
            raise AudioError(f"{self._source} was cut off: it ends after {done} of {told} samples")
        # libsndfile stops at the end of the first file.
        while not self._watched.saw_another and self._rest(1 << 16):
            pass
        self._check_alone()

    def _check_alone(self) -> None:
        if self._watched.saw_another:
            raise AudioError(f"{self._source} is several files, one after the other: only the first was read. Join them as raw samples")


class _Watched:
    """Reads as `read` does and looks for the beginning of another file of `kind`."""

    def __init__(self, kind: str, head: bytes, read: Callable[[int], bytes]) -> None:
        self.saw_another = False
        self._begins, self._ends = _BEGINS.get(kind), _ENDS.get(kind)
        self._has_ended = self._ends is None
        self._read = read
        self._tail = b""
        self._look(head, begun=1)

    def read(self, size: int) -> bytes:
        data = self._read(size)
        self._look(data)
        return data

    def _look(self, data: bytes, *, begun: int = 0) -> None:
        if self._begins is None or self.saw_another:
            return
        seen = self._tail + data
        if not self._has_ended:
            assert self._ends is not None
            ended = self._ends.search(seen)
            if ended is None:
                self._tail = seen[-_LONGEST_MARK:]
                return
            self._has_ended, seen = True, seen[ended.end() :]
        # A mark that is cut in two by the end of this piece is found with the next one; a whole one must not count twice.
        found = [match.end() for match in self._begins.finditer(seen)]
        self.saw_another = len(found) > (begun if self._ends is None else 0)
        self._tail = seen[max(found[-1] if found else 0, len(seen) - _LONGEST_MARK) :]


def _pumped(head: bytes, read: Callable[[int], bytes]) -> int:
    """A file descriptor that gives `head` and then what `read` gives, filled by a thread of its own."""
    reading, writing = os.pipe()

    def pump() -> None:
        data = head
        with os.fdopen(writing, "wb", buffering=0) as pipe:
            while data:
                try:
                    pipe.write(data)
                except OSError:
                    return  # nobody reads any more
                data = read(1 << 16)

    threading.Thread(target=pump, name="streamcodec-pipe", daemon=True).start()
    return reading


class _PipeBytes:
    """Bytes that come, as libsndfile reads them: it may go back to any of the first ones, and believes that there is no end."""

    def __init__(self, head: bytes, read: Callable[[int], bytes]) -> None:
        self._read = read
        self._kept = bytearray(head)
        self._begins = 0  # the place in the file of the first byte that is kept
        self._at = 0

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        end = self._at + len(view)
        while self._begins + len(self._kept) < end and (more := self._read(max(4_096, end - self._begins - len(self._kept)))):
            self._kept += more
        first = self._at - self._begins
        data = self._kept[first : first + len(view)]
        view[: len(data)] = data
        self._at += len(data)
        if self._at > _KEPT_BYTES:
            del self._kept[: self._at - self._begins]
            self._begins = self._at
        return len(data)

    def read(self, count: int = -1) -> bytes:
        buffer = bytearray(count)
        return bytes(buffer[: self.readinto(buffer)])

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: _NO_END}[whence] + offset
        return self._at

    def tell(self) -> int:
        return self._at
