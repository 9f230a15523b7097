"""A folder of recordings with a quota: how much is there, and which finished files make room for new ones, where that is wanted.

A file that is being written is locked, so that no server removes one that another server still writes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from streamcodec.errors import InputError
from streamcodec.protocol import ModelInfo
from streamcodec.recording import SUFFIX, RecordingFile, is_recording, recording_name, wall_ms

if sys.platform != "win32":
    import fcntl

__all__ = ["RecordingFolder"]

_MAX_TRIES = 100  # to find a name that is free


class RecordingFolder:
    """The recordings in the folder `path`, which is made where there is none. They may take `quota` bytes in all (None: no bound).

    Where that is used up nothing more is written, or, with `rotate`, the oldest finished recordings are removed. Only regular files are
    removed that end in .rec and begin as a recording does. Raises `InputError` for a folder that cannot be made or written to.
    """

    def __init__(self, path: Path, quota: int | None = None, *, rotate: bool = False) -> None:
        if rotate and quota is None:
            raise InputError("recordings are only removed to keep a quota: expected one")
        self.path = path
        self.removed = 0
        self._quota = quota
        self._rotate = rotate
        self._open: dict[Path, RecordingFile] = {}
        try:
            path.mkdir(0o700, parents=True, exist_ok=True)
        except OSError as exc:
            raise InputError(f"{path} cannot be used as a folder for recordings: {exc.strerror or exc}") from exc
        if not os.access(path, os.W_OK | os.X_OK):
            raise InputError(f"{path} cannot be written to")
        self._used = self.measure()

    @property
    def used(self) -> int:
        """Bytes that the recordings take, as far as is known."""
        return self._used

    def create(self, stream: str, model: ModelInfo, program: str) -> RecordingFile:
        """A new file for a stream, beside all that are there. Raises `OSError`."""
        self.make_room(1)
        name = Path(recording_name(stream, wall_ms()))
        for number in range(1, _MAX_TRIES):
            path = self.path / (name if number == 1 else name.with_stem(f"{name.stem}-{number}"))
            if os.path.lexists(path):
                continue
            with contextlib.suppress(InputError):  # somebody else was faster
                file = RecordingFile(path, stream, model, program=program)
                if sys.platform != "win32":
                    with contextlib.suppress(OSError):  # a file system without locks
                        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._open[path] = file
                self._used += file.size
                return file
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(self.path / name))

    def make_room(self, size: int) -> None:
        """See to it that `size` bytes more may be written. Raises `OSError` EDQUOT where they may not."""
        quota = self._quota
        if quota is None or self._used + size <= quota:
            return
        self._used = self.measure()  # somebody may have removed or added files
        if self._rotate:
            for path in self._finished():
                if self._used + size <= quota:
                    return
                with contextlib.suppress(OSError):
                    freed = path.stat().st_size
                    path.unlink()
                    self._used -= freed
                    self.removed += 1
        if self._used + size > quota:
            raise OSError(errno.EDQUOT, f"the recordings take {self._used} of {quota} bytes", str(self.path))

    def wrote(self, size: int) -> None:
        """So many bytes more were written."""
        self._used += size

    def release(self, file: RecordingFile) -> None:
        """A file is finished."""
        self._open.pop(file.path, None)

    def measure(self) -> int:
        """Bytes that the recordings in the folder take."""
        total = 0
        for path in self._recordings():
            with contextlib.suppress(OSError):
                total += path.stat().st_size
        return total

    def _recordings(self) -> Iterator[Path]:
        """The files that are named like recordings, the oldest first: names begin with the time."""
        for path in sorted(self.path.glob(f"*{SUFFIX}")):
            with contextlib.suppress(OSError):
                if stat.S_ISREG(path.lstat().st_mode):
                    yield path

    def _finished(self) -> Iterator[Path]:
        for path in self._recordings():
            with contextlib.suppress(OSError):
                if path not in self._open and _is_finished(path):
                    yield path


def _is_finished(path: Path) -> bool:
    """Whether a file is a recording that nobody writes."""
    with path.open("rb") as file:
        if not is_recording(file.read(16)):
            return False
        if sys.platform == "win32":
            return True
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True
