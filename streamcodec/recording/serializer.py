"""Events to the bytes of a recording."""

from __future__ import annotations

import zlib

from streamcodec.protocol import Packet, StreamEnd
from streamcodec.protocol.clock import TIMESTAMP_MODULUS
from streamcodec.recording.cursor import Cursor
from streamcodec.recording.format import MESSAGE, OTHER_PACKET, RecordedEvent, RecordingHeader, pack_record, varint, zigzag

__all__ = ["MARK_EVERY_S", "RecordingSerializer"]

MARK_EVERY_S = 10.0
"""So much audio lies between two marks."""


class RecordingSerializer:
    """Turns the events of a stream, in their order, into records. The file begins with the bytes of `header`.

    `samples` of audio are recorded so far, at `sampling_rate`.
    """

    def __init__(self, header: RecordingHeader, mark_every_s: float = MARK_EVERY_S) -> None:
        self.sampling_rate = header.model.sampling_rate
        self._word = header.mark_word
        self.cursor = Cursor(header.model)
        self._mark_every = mark_every_s * self.sampling_rate
        self._marked_at = 0
        self._crc = 0

    @property
    def samples(self) -> int:
        return self.cursor.position

    def add(self, event: RecordedEvent, now_ms: int) -> bytes:
        """The bytes of an event, with a mark before it where it is time; `now_ms` is since 1970.

        Raises `LocalProtocolError` for one that cannot come now, and `PayloadError` for a packet that is not whole.
        """
        cursor = self.cursor
        due = cursor.position - self._marked_at >= self._mark_every and not cursor.in_history
        start, expected = cursor.start, cursor.timestamp
        mark = cursor.mark(self._crc, now_ms) if start is not None and (due or isinstance(event, StreamEnd)) else None
        before = cursor.position
        cursor.take(event)
        head = b""
        if mark is not None:
            head, self._crc, self._marked_at = mark.serialize(self._word), 0, before
        if not isinstance(event, Packet):
            record = pack_record(bytes([MESSAGE]) + event.serialize())
        else:
            half = TIMESTAMP_MODULUS // 2
            delta = varint(zigzag((event.timestamp - expected + half) % TIMESTAMP_MODULUS - half))
            plain = start is not None and event.n_q == start.n_q
            body = delta + event.payload if plain else bytes([OTHER_PACKET, event.n_q]) + delta + event.payload
            record = pack_record(body, plain=plain)
        self._crc = zlib.crc32(record, self._crc)
        return head + record

    def mark(self, now_ms: int) -> bytes:
        """A mark: as the last bytes of a file that ends in the middle of a stream, it proves what comes before. Nothing between streams."""
        if self.cursor.start is None or self.cursor.in_history:
            return b""
        mark = self.cursor.mark(self._crc, now_ms).serialize(self._word)
        self._crc, self._marked_at = 0, self.cursor.position
        return mark
