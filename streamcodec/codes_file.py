"""Codes on disk: one msgpack map that says what they are, then the packed codes; 0.75 kB per second at 6 kbps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from streamcodec.codec import Codec
from streamcodec.engine.contract import Codes
from streamcodec.errors import CodesError
from streamcodec.protocol import pack_codes, unpack_codes

__all__ = ["CodesFile", "read_codes", "write_codes"]

_MAGIC = "streamcodec codes 1"


@dataclass(frozen=True)
class CodesFile:
    """A clip as codes [n_q, frames], the fingerprint and name of the model that made them, and the samples that they stand for."""

    codes: Codes
    model: str
    fingerprint: str
    samples: int


def write_codes(path: Path, codes: Codes, codec: Codec, samples: int) -> None:
    """Write codes [n_q, frames] of a clip of `samples` samples at the codec's rate."""
    bits = codec.config.bits_per_code
    header = {
        "format": _MAGIC,
        "model": codec.name,
        "fingerprint": codec.fingerprint,
        "n_q": codes.shape[0],
        "bits": bits,
        "frames": codes.shape[1],
        "samples": samples,
    }
    path.write_bytes(msgpack.packb(header) + pack_codes(codes, bits))


def read_codes(path: Path) -> CodesFile:
    """Read what `write_codes` wrote. Raises `CodesError` for anything else and for a file that was cut off."""
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
        n_q, bits, frames = int(header["n_q"]), int(header["bits"]), int(header["frames"])
        codes = unpack_codes(data[unpacker.tell() :], n_q, bits)
        if codes.shape[1] != frames:
            raise CodesError(f"{path}: holds {codes.shape[1]} frames, its header says {frames}: it was cut off or damaged")
        return CodesFile(codes.astype(np.int32), str(header["model"]), str(header["fingerprint"]), int(header["samples"]))
    except (KeyError, TypeError) as exc:
        raise CodesError(f"{path}: its header lacks or garbles {exc}") from exc
    except ValueError as exc:
        raise CodesError(f"{path}: damaged: {exc}") from exc
