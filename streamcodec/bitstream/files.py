"""What files of codes of every kind share: where they may be written, and errors that name the file."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from os import PathLike
from pathlib import Path

from streamcodec.errors import CodesError, InputError
from streamcodec.output_file import Input, check_output, write_bytes

__all__ = ["check_target", "naming", "read_file", "write_file", "writing"]

_AUDIO_SUFFIXES = (".aac", ".aif", ".aiff", ".flac", ".m4a", ".mp3", ".mp4", ".ogg", ".opus", ".wav", ".webm")


def check_target(path: Path, inputs: Iterable[Input] = ()) -> Path:
    """Return `path` if a file of codes can be written there. Call it before the encoding, which may take long.

    Raises `CodesError` for a folder, for the suffix of an audio file, for a path in a folder that does not exist, and for a file that is
    one of `inputs`.
    """
    if path.suffix.lower() in _AUDIO_SUFFIXES:
        raise CodesError(f"{path} is named like audio, expected another suffix for codes, such as .codes")
    try:
        return check_output(path, inputs)
    except InputError as exc:
        raise CodesError(str(exc)) from exc


def write_file(path: Path, data: bytes, inputs: Iterable[Input] = ()) -> int:
    """Write a file, whole or not at all; return its size in bytes. Raises `CodesError` if it cannot be written, or is one of `inputs`."""
    with writing(path):
        write_bytes(path, data, inputs)
    return len(data)


def read_file(path: Path) -> bytes:
    """The bytes of a file. Raises `CodesError` if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as exc:
        raise CodesError(f"{path}: {exc.strerror or exc}") from exc


@contextlib.contextmanager
def writing(path: str | PathLike[str]) -> Iterator[None]:
    """Make a `CodesError` of an `InputError` of the block, and of an `OSError`: the file cannot be written."""
    try:
        yield
    except InputError as exc:
        raise CodesError(str(exc)) from exc
    except OSError as exc:
        raise CodesError(f"{path} cannot be written: {exc.strerror or exc}") from exc


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Put the file's name in front of an `InputError` of the block, which becomes a `CodesError`."""
    try:
        yield
    except InputError as exc:
        raise CodesError(f"{path}: {exc}") from exc
