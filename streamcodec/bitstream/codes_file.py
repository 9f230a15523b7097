"""Codes files: one msgpack map as the header, then the packed codes; 0.75 kB per second at 6 kbps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from streamcodec.bitstream.files import naming, read_file, write_file
from streamcodec.bitstream.packing import pack_codes, unpack_codes
from streamcodec.errors import CodesError
from streamcodec.output_file import Input
from streamcodec.types import Codes, Samples

__all__ = ["CodesFile", "parse_codes", "read_codes", "write_codes"]

_MAGIC = "streamcodec codes 1"


@dataclass(frozen=True)
class CodesFile:
    """A clip as codes [n_q, frames], with the name and fingerprint of the model that made them and the clip's length in samples.

    `scales` [chunks] are what a model that normalises loudness divided each chunk by.
    """

    codes: Codes
    model: str
    fingerprint: str
    samples: int
    scales: Samples | None = None


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
    if clip.scales is not None:
        header["scales"] = clip.scales.astype("<f4").tobytes()
    data: bytes = msgpack.packb(header) + pack_codes(clip.codes, bits)
    return write_file(path, data, inputs)


def read_codes(path: Path) -> CodesFile:
    """Read a file that `write_codes` wrote. Raises `CodesError` for any other file and for a truncated one."""
    data = read_file(path)
    with naming(path):
        return parse_codes(data)


def parse_codes(data: bytes) -> CodesFile:
    """The clip in the bytes of a file that `write_codes` wrote. Raises `CodesError` as `read_codes` does, without the file's name."""
    unpacker = msgpack.Unpacker(raw=False, max_buffer_size=max(1, len(data)))
    unpacker.feed(data)
    try:
        header: Any = unpacker.unpack()
    except (ValueError, msgpack.UnpackException) as exc:
        raise CodesError("not a codes file (streamcodec encode writes them)") from exc
    if not isinstance(header, dict) or header.get("format") != _MAGIC:
        raise CodesError("not a codes file (streamcodec encode writes them)")
    try:
        n_q, bits, frames, samples = (int(header[name]) for name in ("n_q", "bits", "frames", "samples"))
        codes = unpack_codes(data[unpacker.tell() :], n_q, bits)
        made_by = str(header["model"]), str(header["fingerprint"])
        scales = np.frombuffer(header["scales"], "<f4").astype(np.float32) if "scales" in header else None
    except (KeyError, TypeError, OverflowError) as exc:
        raise CodesError(f"a field of its header is missing or invalid: {exc}") from exc
    except ValueError as exc:
        raise CodesError(f"damaged: {exc}") from exc
    if codes.shape[1] != frames:
        raise CodesError(f"holds {codes.shape[1]} frames, its header says {frames}: it was cut off or damaged")
    if samples < 1:
        raise CodesError(f"damaged: its header says {samples} samples")
    if scales is not None and not (np.isfinite(scales).all() and (scales >= 0).all()):
        raise CodesError("damaged: a scale is no finite number of 0 or more")
    return CodesFile(codes.astype(np.int32), *made_by, samples, scales)
