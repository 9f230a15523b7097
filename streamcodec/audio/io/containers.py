"""What the headers of a sound file promise: its parts, if files were joined, and whether it was cut off or never knew its length.

libsndfile reads the first of joined files, and stops without a word where bytes are missing. This module looks at the containers' own
bookkeeping instead: chunk sizes of WAV, RF64, W64, AIFF, AU and CAF, pages of Ogg, frames of MP3.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from io import FileIO

from streamcodec.audio.io.mp3 import Mp3File, frame_size, is_frame

__all__ = ["HEAD_BYTES", "PLACEHOLDER", "FilePart", "bytes_to_recognise", "recognise", "split"]

HEAD_BYTES = 2_048

_MAGIC = (
    (0, b"RIFF", "WAV"),
    (0, b"RF64", "WAV"),
    (0, b"RIFX", "WAV"),
    (0, b"riff", "W64"),
    (0, b"FORM", "AIFF"),
    (0, b"fLaC", "FLAC"),
    (0, b"OggS", "Ogg"),
    (0, b"ID3", "MP3"),
    (0, b"caff", "CAF"),
    (0, b".snd", "AU"),
    (0, b"\x1aE\xdf\xa3", "Matroska"),
    (4, b"ftyp", "MP4"),
)
_W64_DATA = b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"
_ALL_ONES = {4: 2**32 - 1, 8: 2**64 - 1}
# What arecord, sox, ffmpeg and libsndfile write before they know better is near 2 or 4 GiB.
PLACEHOLDER = 0x7FFF_0000


@dataclass(frozen=True)
class FilePart:
    """One sound file of those that lie in a file one after the other: bytes `start` to `end`.

    `missing` says what was cut off, if something was. `knows_length` is False if the header does not tell the length, as that of a file
    that was written into a pipe. `patches` are bytes by their offset in the file that libsndfile must see instead of those that are there.
    """

    start: int
    end: int
    missing: str = ""
    knows_length: bool = True
    patches: tuple[tuple[int, bytes], ...] = ()


def recognise(head: bytes) -> str | None:
    """The usual name of the container that begins with `head`, or None if none that is known does; see `bytes_to_recognise`."""
    found = next((name for at, magic, name in _MAGIC if head[at : at + len(magic)] == magic), None)
    # An MP3 without a tag begins with a frame. Raw samples may look like one, but hardly like two.
    return "MP3" if found is None and is_frame(head, 0) else found


def bytes_to_recognise(head: bytes) -> int:
    """How many bytes `recognise` needs of what begins with `head`: 12, or the first frame of an MP3 and the start of the second."""
    size = frame_size(head, 0)
    return 12 if size is None else size + 4


def split(file: FileIO) -> list[FilePart]:
    """The sound files that lie in `file`, in order. A container that is not known here is one part."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        parts = [_first(data, 0)]
        while parts[-1].start < parts[-1].end < len(data):
            after = parts[-1].end
            if recognise(data[after : after + HEAD_BYTES]) is None:
                break
            parts.append(_first(data, after))
        return parts


def _first(data: mmap.mmap, start: int) -> FilePart:
    head = data[start : start + HEAD_BYTES]
    match recognise(head):
        case "WAV" if head[8:12] == b"WAVE":
            return _riff(data, start, ">" if head[:4] == b"RIFX" else "<")
        case "AIFF":
            return _chunks(data, start, start + 12, b"SSND", ">I")
        case "CAF":
            return _chunks(data, start, start + 8, b"data", ">Q")
        case "AU" if len(data) >= start + 12:
            return _samples(data, start, start + 8, ">I", start + struct.unpack(">I", head[4:8])[0])
        case "W64":
            at = data.find(_W64_DATA, start)
            return FilePart(start, len(data)) if at < 0 else _samples(data, start, at + 16, "<Q", at + 24, counted=24)
        case "FLAC":
            return FilePart(start, _next_flac(data, start))
        case "Ogg":
            return _ogg(data, start)
        case "MP3":
            return _mp3(data, start)
    # A damaged MP3 may have a single frame where it begins.
    return _mp3(data, start) if frame_size(data, start) is not None else FilePart(start, len(data))


def _chunks(data: mmap.mmap, start: int, at: int, wanted: bytes, size_format: str) -> FilePart:
    """A container of chunks: a name of four bytes, a size, and so many bytes. Those of AIFF are even."""
    width = struct.calcsize(size_format)
    while at + 4 + width <= len(data):
        if data[at : at + 4] == wanted:
            return _samples(data, start, at + 4, size_format, at + 4 + width)
        size = struct.unpack(size_format, data[at + 4 : at + 4 + width])[0]
        at += 4 + width + size + (size % 2 if width == 4 else 0)
    return FilePart(start, len(data))


def _samples(data: mmap.mmap, start: int, size_at: int, size_format: str, body: int, *, counted: int = 0) -> FilePart:
    """A container whose samples begin at `body`, with their size (and `counted` bytes more) at `size_at`."""
    width = struct.calcsize(size_format)
    if size_at + width > len(data):
        return FilePart(start, len(data))
    told, there = struct.unpack(size_format, data[size_at : size_at + width])[0] - counted, len(data) - body
    unfilled = there > 0 and (told <= 0 or told + counted == _ALL_ONES[width] or (told > there and told >= PLACEHOLDER))
    if unfilled:
        patches = ((size_at, struct.pack(size_format, min(there + counted, _ALL_ONES[width] - 1))),) if size_format != ">I" else ()
        return FilePart(start, len(data), knows_length=False, patches=patches)
    return FilePart(start, len(data), missing=_missing(told, there))


def _riff(data: mmap.mmap, start: int, order: str) -> FilePart:
    """A WAV or RF64. A size of 0 was never filled in if the whole file's size, in front, was not either."""
    sized = order + "I"
    whole = struct.unpack(sized, data[start + 4 : start + 8])[0]
    at, long_at = start + 12, None
    while at + 8 <= len(data):
        name, size = data[at : at + 4], struct.unpack(sized, data[at + 4 : at + 8])[0]
        body = at + 8
        if name == b"ds64" and body + 16 <= len(data):
            long_at, whole = body + 8, struct.unpack("<Q", data[body : body + 8])[0]
        if name == b"data":
            size_at, told, size_format = at + 4, size, sized
            if long_at is not None and size == 2**32 - 1:
                size_at, size_format = long_at, "<Q"
                told = struct.unpack("<Q", data[long_at : long_at + 8])[0]
            there = len(data) - body
            if (told == 0 and there > 0 and start + 8 + whole <= body) or (told > there and told >= PLACEHOLDER):
                patch = struct.pack(size_format, min(there, 2**32 - 1) if size_format == sized else there)
                return FilePart(start, len(data), knows_length=False, patches=((size_at, patch),))
            if told > there:
                return FilePart(start, len(data), missing=_missing(told, there))
            end = start + 8 + whole + whole % 2
            return FilePart(start, end if body + told <= end < len(data) else len(data))
        at = body + size + size % 2
    return FilePart(start, len(data))


def _missing(told: int, there: int) -> str:
    return f"{told - there} of {told} bytes of samples are missing" if told > there else ""


def _next_flac(data: mmap.mmap, start: int) -> int:
    """The start of the next FLAC: its marker with a STREAMINFO of 34 bytes behind it, which no frame holds by chance."""
    found = [at for last in (b"\x00", b"\x80") if (at := data.find(b"fLaC" + last + b"\x00\x00\x22", start + 8)) >= 0]
    return min(found, default=len(data))


def _ogg(data: mmap.mmap, start: int) -> FilePart:
    """Pages up to the end of the streams that begin here. Streams that begin after that are another file's."""
    streams: set[bytes] = set()
    begun, at = False, start
    while at < len(data):
        if data[at : at + 4] != b"OggS" or at + 27 > len(data):
            return (
                FilePart(start, at) if begun and not streams else FilePart(start, len(data), missing=f"no whole page begins at byte {at}")
            )
        kind, serial, segments = data[at + 5], data[at + 14 : at + 18], data[at + 26]
        size = 27 + segments + sum(data[at + 27 : at + 27 + segments])
        if at + size > len(data):
            return FilePart(start, len(data), missing="its last page is incomplete")
        if kind & 2:  # the first page of a stream
            if begun and not streams:
                return FilePart(start, at)
            streams.add(serial)
            begun = True
        if kind & 4:  # the last one
            streams.discard(serial)
        at += size
    return FilePart(start, len(data), missing="its last page does not end the stream" if streams else "")


def _mp3(data: mmap.mmap, start: int) -> FilePart:
    file = Mp3File.walk(data, start)
    short = file.told is not None and file.frames < file.told
    return FilePart(start, file.end, missing=f"it has {file.frames} of {file.told} frames" if short else "")
