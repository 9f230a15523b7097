"""Walks the frames of an MP3: where the file ends that begins at a place, and whether it has all the frames that its header tells.

The first frame may be no audio: encoders put a header there, "Xing" or "Info", with the number of frames. mpg123 believes it, so it reads
only the first of joined files.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from typing import Self

__all__ = ["Mp3File", "frame_size", "is_frame"]

_KBPS = {
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),  # MPEG 1
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),  # MPEG 2 and 2.5
}
_HZ = (44_100, 48_000, 32_000)
_ID3 = b"ID3"


@dataclass(frozen=True)
class Mp3File:
    """One MP3 of those that were joined: it ends at byte `end` and has `frames` whole frames of the `told` ones (None: not told)."""

    end: int
    frames: int
    told: int | None

    @classmethod
    def walk(cls, data: mmap.mmap, start: int) -> Self:
        """Follow the frames from `start` to the next file's tag or header frame, or to the end of `data`."""
        at, told, frames = _after_tag(data, start), None, 0
        while at < len(data):
            size = frame_size(data, at)
            if size is None:
                if data[at : at + 3] == _ID3 and frames:
                    return cls(at, frames, told)
                at = _next_candidate(data, at)
                continue
            if at + size > len(data):
                break
            found, count = _header_frame(data[at : at + min(size, 200)])
            if found and (frames or told is not None):
                return cls(at, frames, told)
            if found:
                told = count
            else:
                frames += 1
            at += size
        return cls(len(data), frames, told)


def is_frame(data: mmap.mmap | bytes, at: int) -> bool:
    """Whether an MPEG layer 3 frame begins at `at`, and another one where it ends."""
    size = frame_size(data, at)
    return size is not None and frame_size(data, at + size) is not None


def frame_size(data: mmap.mmap | bytes, at: int) -> int | None:
    """The bytes of the MPEG layer 3 frame at `at`, from its header, or None if there is no such header."""
    head = data[at : at + 4]
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:
        return None
    version, rate, hz = head[1] >> 3 & 3, head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or rate in (0, 15) or hz == 3:
        return None
    is_1 = version == 3
    return (144 if is_1 else 72) * 1000 * _KBPS[is_1][rate] // (_HZ[hz] // {3: 1, 2: 2, 0: 4}[version]) + (head[2] >> 1 & 1)


def _header_frame(frame: bytes) -> tuple[bool, int | None]:
    """Whether this is a header frame, and how many frames it tells."""
    mark = max(frame.find(b"Xing", 4, 44), frame.find(b"Info", 4, 44))
    if mark < 0 or len(frame) < mark + 12:
        return False, None
    flags, count = struct.unpack(">II", frame[mark + 4 : mark + 12])
    return True, count if flags & 1 else None


def _after_tag(data: mmap.mmap, at: int) -> int:
    """The end of the ID3 tag at `at`, or `at` if there is none; seven bits of each byte count."""
    if data[at : at + 3] != _ID3 or len(data) < at + 10:
        return at
    size = 0
    for byte in data[at + 6 : at + 10]:
        size = size << 7 | byte & 0x7F
    return at + 10 + size


def _next_candidate(data: mmap.mmap, at: int) -> int:
    found = [place for what in (b"\xff", _ID3) if (place := data.find(what, at + 1)) >= 0]
    return min(found, default=len(data))
