"""Writes a WAV file whose header is right after every write, and that becomes an RF64 where a WAV must end, at 4 GiB.

The header keeps room for what RF64 needs, in a chunk that readers skip (EBU Tech 3306):

    RIFF size WAVE | JUNK 28 bytes | fmt  format | data size | samples       up to 4 GiB
    RF64   -1 WAVE | ds64 sizes    | fmt  format | data   -1 | samples       beyond
"""

from __future__ import annotations

import contextlib
import os
import struct
from io import FileIO
from typing import Any

import numpy.typing as npt

__all__ = ["MAX_RIFF_BYTES", "WavBody"]

MAX_RIFF_BYTES = 2**32 - 1
_IN_DS64 = 2**32 - 1
_PCM, _IEEE_FLOAT = 1, 3


class WavBody:
    """Writes interleaved samples to `file`: 16-bit integers, or 32-bit floats. A file that cannot seek gets a header of unknown length."""

    def __init__(self, file: FileIO, rate: int, channels: int, *, is_float: bool) -> None:
        self._file = file
        self._can_seek = file.seekable()
        width = channels * (4 if is_float else 2)
        kind, bits = (_IEEE_FLOAT, 32) if is_float else (_PCM, 16)
        self._width = width
        self._format = struct.pack("<4sIHHIIHH", b"fmt ", 16, kind, channels, rate, rate * width, width, bits)
        self._begins = len(self._header(0))
        self._size = 0
        self._has_header = False

    def write(self, frames: npt.NDArray[Any]) -> None:
        """Append frames [T, C] of the file's type. If the disk gets full, the frames that fit are kept, and `OSError` is raised."""
        if not self._has_header:
            self._put(self._header(0 if self._can_seek else None))
            self._has_header = True
        data = memoryview(frames.astype(frames.dtype.newbyteorder("<"), copy=False).data).cast("B")
        begun = self._size
        try:
            while self._size - begun < len(data):
                self._size += self._file.write(data[self._size - begun :]) or 0
        except OSError:
            # A part of a frame is cut off, so that the header's size is right.
            self._size -= (self._size - begun) % self._width
            if self._can_seek:
                with contextlib.suppress(OSError):
                    self._file.truncate(self._begins + self._size)
                    self._update()
            raise
        if self._can_seek:
            self._update()

    def finish(self) -> None:
        """Write the header of a file without samples; of any other it is right already."""
        if not self._has_header:
            self._put(self._header(0))
            self._has_header = True

    def _update(self) -> None:
        self._file.seek(0)
        self._put(self._header(self._size))
        self._file.seek(0, os.SEEK_END)

    def _put(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            left = left[self._file.write(left) or 0 :]

    def _header(self, size: int | None) -> bytes:
        """The header for `size` bytes of samples, or for an unknown number."""
        rest = 4 + 8 + 28 + len(self._format) + 8  # bytes of the file that count as its size, without the samples
        if size is None:
            begin, room, data = struct.pack("<4sI", b"RIFF", _IN_DS64), _room(), _IN_DS64
        elif rest + size <= MAX_RIFF_BYTES:
            begin, room, data = struct.pack("<4sI", b"RIFF", rest + size), _room(), size
        else:
            sizes = struct.pack("<4sIQQQI", b"ds64", 28, rest + size, size, size // self._width, 0)
            begin, room, data = struct.pack("<4sI", b"RF64", _IN_DS64), sizes, _IN_DS64
        return begin + b"WAVE" + room + self._format + struct.pack("<4sI", b"data", data)


def _room() -> bytes:
    return struct.pack("<4sI28x", b"JUNK", 28)
