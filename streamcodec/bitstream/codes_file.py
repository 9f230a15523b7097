"""Codes files: one msgpack map as the header, then the packed codes; 0.75 kB per second at 6 kbps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from streamcodec.bitstream.packing import pack_codes, unpack_codes
from streamcodec.errors import CodesError, InputError
from streamcodec.output_file import Input, check_output, write_bytes
from streamcodec.types import Codes

__all__ = ["CodesFile", "check_target", "read_codes", "write_codes"]

_MAGIC = "streamcodec codes 1"
_AUDIO_SUFFIXES = (".aac", ".aif", ".aiff", ".flac", ".m4a", ".mp3", ".mp4", ".ogg", ".opus", ".wav", ".webm")


@dataclass(frozen=True)
class CodesFile:
    """A clip as codes [n_q, frames], with the name and fingerprint of the model that made them and the clip's length in samples."""

    codes: Codes
    model: str
    fingerprint: str
    samples: int


def check_target(path: Path, inputs: Iterable[Input] = ()) -> Path:
    """Return `path` if a codes file can be written there. Call it before the encoding, which may take long.

    Raises `CodesError` for a folder, for the suffix of an audio file, for a path in a folder that does not exist, and for a file that is
    one of `inputs`.
    """
    if path.suffix.lower() in _AUDIO_SUFFIXES:
        raise CodesError(f"{path} is named like audio, expected another suffix for codes, such as .codes")
    try:
        return check_output(path, inputs)
    except InputError as exc:
        raise CodesError(str(exc)) from exc


def write_codes(path: Path, clip: CodesFile, bits: int, inputs: Iterable[Input] = ()) -> int:
    """Write a clip with `bits` bits per code, whole or not at all; return the file's size in bytes.

    Raises `CodesError` if the file cannot be written, or is one of `inputs`.
    """
    header = {
        "format": _MAGIC,
        # A path may be no UTF-8, which a header has to be.
        "model": clip.model.encode("utf-8", "backslashreplace").decode(),
        "fingerprint": clip.fingerprint,
        "n_q": clip.codes.shape[0],
        "bits": bits,
        "frames": clip.codes.shape[1],
        "samples": clip.samples,
    }
    data: bytes = msgpack.packb(header) + pack_codes(clip.codes, bits)
    try:
        write_bytes(path, data, inputs)
    except InputError as exc:
        raise CodesError(str(exc)) from exc
    except OSError as exc:
        raise CodesError(f"{path} cannot be written: {exc.strerror or exc}") from exc
    return len(data)


def read_codes(path: Path) -> CodesFile:
    """Read a file that `write_codes` wrote. Raises `CodesError` for any other file and for a truncated one."""
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise CodesError(f"{path}: {exc.strerror or exc}") from exc
    unpacker = msgpack.Unpacker(raw=False, max_buffer_size=max(1, len(data)))
    unpacker.feed(data)
    try:
        header: Any = unpacker.unpack()
    except (ValueError, msgpack.UnpackException) as exc:
        raise CodesError(f"{path}: not a codes file (streamcodec encode writes them)") from exc
    if not isinstance(header, dict) or header.get("format") != _MAGIC:
        raise CodesError(f"{path}: not a codes file (streamcodec encode writes them)")
    try:
        n_q, bits, frames, samples = (int(header[name]) for name in ("n_q", "bits", "frames", "samples"))
        codes = unpack_codes(data[unpacker.tell() :], n_q, bits)
        made_by = str(header["model"]), str(header["fingerprint"])
    except (KeyError, TypeError, OverflowError) as exc:
        raise CodesError(f"{path}: a field of its header is missing or invalid: {exc}") from exc
    except ValueError as exc:
        raise CodesError(f"{path}: damaged: {exc}") from exc
    if codes.shape[1] != frames:
        raise CodesError(f"{path}: holds {codes.shape[1]} frames, its header says {frames}: it was cut off or damaged")
    if samples < 1:
        raise CodesError(f"{path}: damaged: its header says {samples} samples")
    return CodesFile(codes.astype(np.int32), *made_by, samples)
