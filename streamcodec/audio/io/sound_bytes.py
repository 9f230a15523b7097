"""The bytes of a sound file as libsndfile reads and writes them, with the operating system's errors, which libsndfile loses."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from io import FileIO
from typing import TypeVar

import soundfile as sf

__all__ = ["ForwardSoundFile", "SoundBytes", "SoundWindow", "reason_of"]

T = TypeVar("T")


class SoundBytes:
    """Gives `file` to libsndfile. Its callbacks must not raise: an `OSError` is kept, and `errors()` raises it afterwards."""

    def __init__(self, file: FileIO) -> None:
        self._file = file
        self._error: OSError | None = None

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """Raise the `OSError` behind libsndfile's error in the block, or behind samples that it silently dropped."""
        try:
            yield
        except (sf.SoundFileError, AssertionError):  # soundfile asserts that everything was written
            if self._error is None:
                raise
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def read(self, count: int = -1) -> bytes:
        return self._guarded(lambda: self._file.read(count) or b"", b"")

    def write(self, data: bytes) -> int:
        left = memoryview(data)
        try:
            while left:
                left = left[self._file.write(left) or 0 :]
        except OSError as error:
            self._error = error
        return len(data) - len(left)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._guarded(lambda: self._file.seek(offset, whence), -1)

    def tell(self) -> int:
        return self._guarded(self._file.tell, -1)

    def _guarded(self, call: Callable[[], T], failed: T) -> T:
        try:
            return call()
        except OSError as error:
            self._error = error
            return failed


class SoundWindow(SoundBytes):
    """The bytes from `start` to `end` of a file as a file of their own, to be read; several windows may share `file`.

    libsndfile sees the bytes of `patches` (by offset in `file`) instead of those that are there.
    """

    def __init__(self, file: FileIO, start: int, end: int, patches: Sequence[tuple[int, bytes]] = ()) -> None:
        super().__init__(file)
        self._start = start
        self._end = end
        self._at = start
        self._patches = patches

    def read(self, count: int = -1) -> bytes:
        at = self._at
        wanted = max(0, self._end - at if count < 0 else min(count, self._end - at))
        data = bytearray(self._guarded(lambda: self._pread(at, wanted), b""))
        self._at += len(data)
        for offset, patch in self._patches:
            for place, byte in enumerate(patch, offset - at):
                if 0 <= place < len(data):
                    data[place] = byte
        return bytes(data)

    @property
    def at_end(self) -> bool:
        """Whether libsndfile has read the last byte."""
        return self._at >= self._end

    def _pread(self, at: int, count: int) -> bytes:
        self._file.seek(at)
        data = b""
        while len(data) < count and (more := self._file.read(count - len(data))):
            data += more
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        origin = {os.SEEK_SET: self._start, os.SEEK_CUR: self._at, os.SEEK_END: self._end}[whence]
        self._at = max(self._start, origin + offset)
        return self._at - self._start

    def tell(self) -> int:
        return self._at - self._start


class ForwardSoundFile(sf.SoundFile):  # type: ignore[misc]
    """Reads forwards only: soundfile would seek after each read, which fails at the end of a FLAC that does not know its length."""

    def seekable(self) -> bool:
        return False


def reason_of(error: Exception) -> str:
    """What libsndfile says, without the name of the Python object that it reads from."""
    return str(getattr(error, "error_string", error)).strip().rstrip(".")
