"""The bytes of a recording to events, in pieces of any size: what is damaged is passed over, and named by a gap.

A record names neither its number nor its epoch: they follow from the records before it. So behind a damaged record the next mark says where
the recording is. Records that lie directly before that mark can be counted from there, backwards.
"""

from __future__ import annotations

import zlib
from dataclasses import replace

from streamcodec.errors import StreamCodecError
from streamcodec.protocol import Gap, Packet, StreamEnd, StreamStart, parse
from streamcodec.protocol.clock import TIMESTAMP_MODULUS
from streamcodec.recording.cursor import Cursor
from streamcodec.recording.format import (
    BEFORE_WORD,
    MESSAGE,
    OTHER_PACKET,
    Mark,
    Record,
    RecordedEvent,
    RecordingHeader,
    from_zigzag,
    is_mark,
    read_record,
    read_varint,
)

__all__ = ["RecordingParser"]

DAMAGED = "damaged"
_SEARCHED = 1 << 16  # bytes before a mark in which whole records are looked for
_FEWEST_IN_CHAIN = 3  # so many records in a row are none by chance


class RecordingParser:
    """Reads a recording. `header` is None until it was read; one that is given lets the parser begin anywhere, at the first mark it finds.

    `samples` of audio were read so far, and `damaged` stretches of the file were not. `unread` bytes are left that are no whole record.
    """

    def __init__(self, header: RecordingHeader | None = None) -> None:
        self.header = header
        self.damaged = 0
        self._data = bytearray()
        self._at = 0
        self._seeks = self._lost = header is not None
        self._crc: int | None = 0
        self._cursor: Cursor | None = None if header is None else Cursor(header.model)

    @property
    def samples(self) -> int:
        return 0 if self._cursor is None else self._cursor.position

    @property
    def unread(self) -> int:
        return len(self._data)

    def feed(self, data: bytes) -> list[RecordedEvent]:
        """The events that `data`, the next bytes, complete. Raises `CodesError` for what is no recording that this version reads."""
        self._data += data
        events: list[RecordedEvent] = []
        if self.header is None:
            found = RecordingHeader.parse(bytes(self._data[: 1 << 17]))
            if found is None:
                return []
            self.header, self._at = found
            self._cursor = Cursor(self.header.model)
        while self._lost or self._next(events):
            if self._lost and not self._find_mark(events):
                break
        del self._data[: self._at]
        self._at = 0
        return events

    def finish(self) -> list[RecordedEvent]:
        """The events behind a record whose length is damaged: nothing comes that could complete it."""
        events: list[RecordedEvent] = []
        if self.header is None or self._lost or not self._data:
            return events
        # Either the file was cut here, and no mark follows, or the record is damaged.
        at, self._lost = self._at, True
        if not self._find_mark(events):
            self._at, self._lost = at, False
            return events
        self.damaged += 1
        return events + self.feed(b"") + self.finish()

    def _next(self, events: list[RecordedEvent]) -> bool:
        """Read a record; returns False where none is whole."""
        try:
            record = read_record(self._data, self._at)
            if record is None:
                return False
            self._take(record, events)
        except (ValueError, StreamCodecError):
            self.damaged += 1
            self._lost = True
            return True
        if self._crc is not None:
            self._crc = zlib.crc32(memoryview(self._data)[self._at : record.end], self._crc)
        if self._is_mark(record):
            self._crc = 0
        self._at = record.end
        return True

    def _take(self, record: Record, events: list[RecordedEvent]) -> None:
        assert self._cursor is not None
        if self._is_mark(record):
            mark = Mark.parse(record.body)
            if not self._cursor.agrees(mark) or self._crc not in (None, mark.crc):
                raise ValueError("a mark that does not agree with what is before it")
            return
        event = self._event(record)
        if event is not None:
            self._cursor.take(event)
            events.append(event)

    def _is_mark(self, record: Record) -> bool:
        assert self.header is not None
        return is_mark(record, self.header.mark_word)

    def _event(self, record: Record) -> RecordedEvent | None:
        """What a record says; None for a kind, or a message, that this version does not know."""
        cursor, body = self._cursor, record.body
        assert cursor is not None
        if not record.plain and body[0] == MESSAGE:
            message = parse(body[1:])
            return message if isinstance(message, (StreamStart, Gap, StreamEnd)) else None
        if not record.plain and body[0] != OTHER_PACKET:
            return None
        if cursor.start is None or len(body) < 4:
            raise ValueError("a packet without a stream, or without a payload")
        n_q, at = (cursor.start.n_q, 0) if record.plain else (body[1], 2)
        found = read_varint(body, at)
        if found is None:
            raise ValueError("a packet without a timestamp")
        delta, at = found
        timestamp = (cursor.timestamp + from_zigzag(delta)) % TIMESTAMP_MODULUS
        return Packet(cursor.next_seq, cursor.start.epoch, timestamp, n_q, body[at:])

    # Behind damage -------------------------------------------------------------------------------------------------------------------

    def _find_mark(self, events: list[RecordedEvent]) -> bool:
        """Go on at the next mark, or at whole records before it; returns False where there is none yet."""
        assert self.header is not None and self._cursor is not None
        word, found = self.header.mark_word, self._at
        while (found := self._data.find(word, found)) >= 0:
            begin, found = found - BEFORE_WORD, found + 1
            if begin < self._at:
                continue
            try:
                record = read_record(self._data, begin)
                if record is None:
                    return False
                if not self._is_mark(record):
                    continue
                mark = Mark.parse(record.body)
                at, state = (begin, mark) if self._seeks else self._count_back(begin, mark)
                events += self._cursor.jump(state, "joined" if self._seeks else DAMAGED)
            except (ValueError, StreamCodecError):
                continue
            self._lost = self._seeks = False
            # Its sum holds what is damaged, too.
            self._crc = 0 if at == begin else None
            self._at = record.end if at == begin else at
            return True
        # A mark may lie across the end.
        self._at = max(self._at, len(self._data) - _SEARCHED - 64)
        return False

    def _count_back(self, begin: int, mark: Mark) -> tuple[int, Mark]:
        """Where whole records begin that reach up to the mark at `begin`, and what a mark would say there."""
        for at in range(max(self._at + 1, begin - _SEARCHED), begin):
            chain = self._chain(at, begin)
            if len(chain) >= _FEWEST_IN_CHAIN:
                state = self._before(chain, mark)
                return (begin, mark) if state is None else (at, state)
        return begin, mark

    def _chain(self, at: int, end: int) -> list[Record]:
        """The records from `at` up to exactly `end`; none where they are not whole."""
        chain: list[Record] = []
        while at < end:
            try:
                record = read_record(self._data, at)
            except ValueError:
                return []
            if record is None or record.end > end:
                return []
            chain.append(record)
            at = record.end
        return chain

    def _before(self, chain: list[Record], mark: Mark) -> Mark | None:
        """What a mark would say before `chain`, which ends at `mark`; None where that cannot be told."""
        assert self.header is not None
        model = self.header.model
        trial = Cursor(model)
        # Numbers, timestamps and positions are sums: count them from 0, and subtract.
        trial.jump(replace(mark, next_seq=0, timestamp=0, position=0), DAMAGED)
        real, self._cursor = self._cursor, trial
        try:
            for record in chain:
                event = self._event(record)
                if isinstance(event, (StreamStart, StreamEnd)):
                    return None
                if isinstance(event, Gap):
                    event = Gap(first_seq=trial.next_seq, count=event.count, reason=event.reason)
                if event is not None:
                    trial.take(event)
        finally:
            self._cursor = real
        numbers, position = mark.next_seq - trial.next_seq, mark.position - trial.position
        if numbers < 0 or position < 0:
            return None
        return replace(mark, next_seq=numbers, position=position, timestamp=(mark.timestamp - trial.timestamp) % TIMESTAMP_MODULUS)
