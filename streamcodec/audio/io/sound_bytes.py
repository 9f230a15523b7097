"""The bytes of a sound file as libsndfile reads and writes them, with the operating system's errors, which libsndfile loses."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from io import FileIO
from typing import Any

import soundfile as sf

__all__ = ["SoundBytes"]


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
        try:
            return self._file.read(count) or b""
        except OSError as error:
            self._error = error
            return b""

    def readinto(self, buffer: Any) -> int:
        try:
            return self._file.readinto(buffer) or 0
        except OSError as error:
            self._error = error
            return 0

    def write(self, data: bytes) -> int:
        left = memoryview(data)
        try:
            while left:
                left = left[self._file.write(left) or 0 :]
        except OSError as error:
            self._error = error
        return len(data) - len(left)

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            return self._file.seek(offset, whence)
        except OSError as error:
            self._error = error
            return -1

    def tell(self) -> int:
        try:
            return self._file.tell()
        except OSError as error:
            self._error = error
            return -1
