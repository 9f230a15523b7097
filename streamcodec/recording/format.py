"""The pieces of a recording as bytes: the header, a record, a mark. docs/recording.md specifies them.

    file   := magic, version, length of the header, header, CRC-32 | record, record, ...
    record := varint: 2 * length of the body + plain | CRC-16 | body

A record has 3 bytes beside its body in most cases, since a packet of 6 kbps has only 60.
"""

from __future__ import annotations

import binascii
import zlib
from dataclasses import asdict, dataclass
from typing import Annotated, ClassVar, Self

import msgpack

from streamcodec.errors import CodesError, LocalProtocolError, RemoteProtocolError
from streamcodec.protocol import MAX_MESSAGE_BYTES, Gap, ModelInfo, Packet, StreamEnd, StreamStart
from streamcodec.protocol.fields import Check, Checked, from_map, text, whole
from streamcodec.protocol.unpacking import unpack

__all__ = [
    "BEFORE_WORD",
    "MARK",
    "MARK_WORD_BYTES",
    "MAX_BODY_BYTES",
    "MESSAGE",
    "OTHER_PACKET",
    "SUFFIX",
    "Mark",
    "Record",
    "RecordedEvent",
    "RecordingHeader",
    "from_zigzag",
    "is_mark",
    "is_recording",
    "pack_record",
    "read_record",
    "read_varint",
    "varint",
    "zigzag",
]

SUFFIX = ".rec"
RecordedEvent = StreamStart | Packet | Gap | StreamEnd
"""What a recording holds: what a listener of codes gets."""

MAGIC = b"\x89screc\r\n"
VERSION = 1
_FIXED = len(MAGIC) + 3
MARK_WORD_BYTES = 6
BEFORE_WORD = 4
"""The bytes of a mark's record before its word: its length, its CRC and its kind."""
MAX_BODY_BYTES = MAX_MESSAGE_BYTES + 16

# What a body that is no plain packet begins with. A reader passes over a kind that it does not know.
OTHER_PACKET, MESSAGE, MARK = 0, 1, 2

_MAX_VARINT_BYTES = 8


MarkWord = Annotated[bytes, Check(f"{MARK_WORD_BYTES} bytes", lambda value: isinstance(value, bytes) and len(value) == MARK_WORD_BYTES)]


def is_recording(data: bytes) -> bool:
    """Whether a file that begins with `data` is a recording, of whatever version."""
    return data.startswith(MAGIC)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingHeader(Checked):
    """What a recording says of itself: the stream's name, the model, when it began (ms since 1970), and the program that made it.

    `mark_word` is random, so that nobody who publishes can write it into a packet.
    """

    type: ClassVar[str] = "header"
    stream: Annotated[str, text(1, 200)]
    model: ModelInfo
    mark_word: MarkWord
    begun_ms: Annotated[int, whole(0, 2**53 - 1)] = 0
    program: Annotated[str, text(0, 1000)] = ""

    def serialize(self) -> bytes:
        """The bytes that a file begins with."""
        packed: bytes = msgpack.packb(asdict(self))
        data = MAGIC + bytes([VERSION]) + len(packed).to_bytes(2, "big") + packed
        return data + zlib.crc32(data).to_bytes(4, "big")

    @classmethod
    def parse(cls, data: bytes) -> tuple[Self, int] | None:
        """The header at the beginning of `data`, and its size; None where more bytes are needed.

        Raises `CodesError` for what is no recording, for a newer version, and for a damaged header.
        """
        if not MAGIC.startswith(data[: len(MAGIC)]):
            raise CodesError("not a recording (streamcodec record writes them)")
        if len(data) < _FIXED:
            return None
        if (version := data[len(MAGIC)]) != VERSION:
            raise CodesError(f"a recording of version {version}, expected {VERSION}: a newer streamcodec has made it")
        end = _FIXED + int.from_bytes(data[len(MAGIC) + 1 : _FIXED], "big")
        if len(data) < end + 4:
            return None
        if zlib.crc32(data[:end]).to_bytes(4, "big") != data[end : end + 4]:
            raise CodesError("a recording with a damaged header: its CRC is wrong")
        try:
            value = unpack(bytes(data[_FIXED:end]))
            if not isinstance(value, dict):
                raise LocalProtocolError(f"the header is a {type(value).__name__}, expected a map")
            return from_map(cls, value), end + 4
        except (LocalProtocolError, RemoteProtocolError) as exc:
            raise CodesError(f"a recording with a header that cannot be used: {exc}") from exc


@dataclass(frozen=True, slots=True)
class Record:
    """A record whose CRC is right: its body, whether that is a plain packet, and where the next record begins."""

    body: bytes
    plain: bool
    end: int


def pack_record(body: bytes, *, plain: bool = False) -> bytes:
    """A record around its body."""
    head = varint(2 * len(body) + plain)
    return head + _crc16(head, body) + body


def read_record(data: bytes | bytearray, at: int) -> Record | None:
    """The record that begins at `at`; None where it is not whole yet. Raises `ValueError` where nothing is a record there."""
    found = read_varint(data, at)
    if found is None:
        return None
    value, begin = found
    length = value >> 1
    if not 1 <= length <= MAX_BODY_BYTES:
        raise ValueError(f"a record of {length} bytes")
    begin += 2
    if len(data) < begin + length:
        return None
    body = bytes(data[begin : begin + length])
    if _crc16(bytes(data[at : begin - 2]), body) != data[begin - 2 : begin]:
        raise ValueError("a record with a wrong CRC")
    return Record(body, bool(value & 1), begin + length)


def is_mark(record: Record, word: bytes) -> bool:
    """Whether a record is a mark of the file whose marks have this `word`."""
    return not record.plain and record.body.startswith(bytes([MARK]) + word)


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a reader may begin: all that it has to know of what was before.

    `crc` is the CRC-32 of all records since the mark before. `streams` have begun so far. `next_seq`, `epoch`, `n_q` and `packet_frames`
    are those of the stream, `timestamp` is what the next packet's is expected to be, `position` the samples of audio before it, and
    `time_ms` the time since 1970.
    """

    crc: int
    streams: int
    next_seq: int
    epoch: int
    n_q: int
    packet_frames: int
    timestamp: int
    position: int
    time_ms: int

    def serialize(self, word: bytes) -> bytes:
        """The mark's record."""
        numbers = (self.streams, self.next_seq, self.epoch, self.n_q, self.packet_frames, self.timestamp, self.position, self.time_ms)
        return pack_record(bytes([MARK]) + word + self.crc.to_bytes(4, "big") + b"".join(map(varint, numbers)))

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """The mark in a record's body. Raises `ValueError`."""
        at = 1 + MARK_WORD_BYTES
        numbers = [int.from_bytes(body[at : at + 4], "big")]
        at += 4
        for _ in range(8):
            found = read_varint(body, at)
            if found is None:
                raise ValueError("a mark that is too short")
            number, at = found
            numbers.append(number)
        return cls(*numbers)


def varint(value: int) -> bytes:
    """A whole number from 0 on, 7 bits a byte, the least first; all bytes but the last have their highest bit set."""
    if value < 0x80:
        return bytes([value])
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(data: bytes | bytearray, at: int) -> tuple[int, int] | None:
    """The number at `at`, and where it ends; None where more bytes are needed. Raises `ValueError` for one that is too long."""
    value = 0
    for index in range(_MAX_VARINT_BYTES):
        if at + index >= len(data):
            return None
        byte = data[at + index]
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value, at + index + 1
    raise ValueError("a number that is too long")


def zigzag(value: int) -> int:
    """A number of either sign as one from 0 on: small ones stay small."""
    return 2 * value if value >= 0 else -2 * value - 1


def from_zigzag(value: int) -> int:
    """What `zigzag` was given."""
    return value >> 1 if value % 2 == 0 else -(value + 1 >> 1)


def _crc16(head: bytes, body: bytes) -> bytes:
    """CRC-16/IBM-3740, polynomial 0x1021: any error in 16 bits in a row is found."""
    return binascii.crc_hqx(body, binascii.crc_hqx(head, 0xFFFF)).to_bytes(2, "big")
