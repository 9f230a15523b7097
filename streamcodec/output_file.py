"""Output files: written beside their target and put in its place only when there is something to replace it by.

A disk that is full, an interrupt or an error therefore never costs the file that was there before. Every module of the package that writes
a file writes it through this one.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from io import BufferedWriter, FileIO
from os import PathLike
from pathlib import Path
from typing import BinaryIO, cast

from streamcodec.errors import InputError

__all__ = ["Input", "OutputFile", "check_output", "check_outputs", "create_file", "replacing", "write_bytes", "write_text"]

Input = str | PathLike[str] | int
"""A file that is read: a path, or the number of an open file."""


def check_output(path: str | PathLike[str], inputs: Iterable[Input] = ()) -> Path:
    """Return `path` if a file can be written there without destroying one of `inputs`. Call it before work that may take long.

    Files are the same if their device and inode are, whatever their names: links lead to the same file. Inputs that do not exist are
    ignored. Raises `InputError` for a folder, for a path in a folder that does not exist, and for a file that is an input.
    """
    path = Path(path)
    try:
        there = path.stat()
    except FileNotFoundError:
        there = None
    except OSError as exc:
        raise InputError(f"{path} cannot be written: {exc.strerror}") from exc
    if there is not None and stat.S_ISDIR(there.st_mode):
        raise InputError(f"{path} is a folder, expected a file")
    if there is None and not path.resolve().parent.is_dir():
        raise InputError(f"{path} cannot be written: there is no folder {path.resolve().parent if path.is_symlink() else path.parent}")
    if there is not None and stat.S_ISREG(there.st_mode):
        for source in inputs:
            with contextlib.suppress(OSError):
                if os.path.samestat(there, os.fstat(source) if isinstance(source, int) else Path(source).stat()):
                    name = "standard input" if isinstance(source, int) else source
                    raise InputError(f"{path} is the same file as the input {name}, expected another file")
    return path


def check_outputs(outputs: Iterable[str | PathLike[str] | None], inputs: Iterable[Input] = ()) -> None:
    """Check several files that one program writes, as `check_output` does; None stands for one that is not asked for.

    Raises `InputError` if two of them are the same file, too.
    """
    inputs, seen = tuple(inputs), dict[Path, Path]()
    for output in outputs:
        if output is None:
            continue
        path = check_output(output, inputs)
        if (other := seen.setdefault(path.resolve(), path)) is not path:
            raise InputError(f"{path} is the same file as the output {other}, expected another file")


def create_file(path: str | PathLike[str], inputs: Iterable[Input] = ()) -> FileIO:
    """Create a file that others may read while it grows, and return it unbuffered: it replaces nothing.

    Raises `InputError` as `check_output` does, and where something stands at `path`, and `OSError` where it cannot be created.
    """
    check_output(path, inputs)
    try:
        return FileIO(os.fspath(path), "x")
    except FileExistsError:
        raise InputError(f"{path} exists already, expected the name of a new file") from None


class OutputFile:
    """A file being written that takes the place of `path` when `put_in_place()` is called, at any time before or after it is complete.

    `file` is unbuffered and open for reading and writing. Until it is in place, it has a hidden name beside `path`, and what stands at
    `path` is left alone. A link keeps leading to its target, which is replaced. What is no regular file (a device, a pipe) is written
    directly. Raises `InputError` as `check_output` does, and `OSError` with the name `path` if it cannot be created.
    """

    def __init__(self, path: str | PathLike[str], inputs: Iterable[Input] = ()) -> None:
        self.path = check_output(path, inputs)
        self._target = self.path.resolve()
        self._temporary: Path | None = None
        with self.named_errors():
            mode = self._target.stat().st_mode if self._target.exists() else None
            self.is_regular = mode is None or stat.S_ISREG(mode)
            if not self.is_regular:
                self.file = FileIO(self._target, "w")
                return
            if mode is not None and not os.access(self._target, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            self._temporary = self._target.with_name(f".{secrets.token_hex(6)}.part")
            self.file = FileIO(self._temporary, "x+")
            if mode is not None:
                with contextlib.suppress(OSError):  # a file system without modes
                    self._temporary.chmod(stat.S_IMODE(mode))

    @property
    def in_place(self) -> bool:
        """Whether the file stands at `path` now."""
        return self._temporary is None

    def put_in_place(self) -> None:
        """Let the file stand at `path`, instead of what is there; does nothing if it does already."""
        if self._temporary is not None:
            with self.named_errors():
                self._temporary.replace(self._target)
            self._temporary = None

    def close(self) -> None:
        """Close the file. One that is in place is on the disk afterwards; any other is deleted."""
        if self.file.closed:
            return
        try:
            with self.named_errors():
                if self.in_place and self.is_regular:
                    os.fsync(self.file.fileno())
        finally:
            with self.named_errors():
                self.file.close()
            if self._temporary is not None:
                self._temporary.unlink(missing_ok=True)

    @contextlib.contextmanager
    def named_errors(self) -> Iterator[None]:
        """Give an `OSError` of the block the name of `path` if it has none, or that of the file beside it."""
        try:
            yield
        except OSError as exc:
            if exc.errno is None or exc.filename not in (None, str(self._temporary)):
                raise
            raise OSError(exc.errno, exc.strerror, str(self.path)) from exc


@contextlib.contextmanager
def replacing(path: str | PathLike[str], inputs: Iterable[Input] = ()) -> Iterator[BinaryIO]:
    """Give a file to write; at the end of the block it is on the disk at `path`. After an exception `path` is as it was before.

    Raises `InputError` as `check_output` does, and `OSError` with the name `path`.
    """
    output = OutputFile(path, inputs)
    try:
        with output.named_errors():
            buffered = BufferedWriter(output.file)
            try:
                yield cast(BinaryIO, buffered)
                buffered.flush()
                if output.is_regular:
                    os.fsync(output.file.fileno())
            finally:
                with contextlib.suppress(OSError, ValueError):  # the error that ended the block is the one to tell
                    buffered.detach()
            output.put_in_place()
    finally:
        output.close()


def write_bytes(path: str | PathLike[str], data: bytes, inputs: Iterable[Input] = ()) -> None:
    """Write a whole file, as `replacing` does."""
    with replacing(path, inputs) as file:
        file.write(data)


def write_text(path: str | PathLike[str], text: str) -> None:
    """Write a whole text file in UTF-8, as `replacing` does."""
    write_bytes(path, text.encode())
