"""What waits to be written of one stream, bounded in time. The loop puts, the recorder's thread takes; neither waits for the other."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from streamcodec.protocol import Gap, Packet, StreamEnd, StreamStart
from streamcodec.recording import RecordedEvent

__all__ = ["MAX_EVENTS", "MISSED", "Backlog"]

MISSED = "recorder"
"""The reason of a gap in a recording alone: the disk was too slow for these packets."""
# Gaps and starts have no seconds, and a publisher may send any number of them.
MAX_EVENTS = 4096


class Backlog:
    """Events in their order. With more than `most_s` of audio waiting, what comes is left out until half of that is written.

    `dropped` packets were left out; a gap takes their place. Once it is `closed` nothing is kept.
    """

    def __init__(self, most_s: float) -> None:
        self.dropped = 0
        self.closed = False
        self.dropping = False
        self._most_s = most_s
        self._items: deque[tuple[RecordedEvent, float]] = deque()
        # Each is counted up by one side alone, so that neither needs a lock.
        self._put_s = self._taken_s = 0.0
        self._missed: Gap | None = None
        self._start: StreamStart | None = None

    @property
    def waiting_s(self) -> float:
        """Seconds of audio that wait."""
        return self._put_s - self._taken_s

    def put(self, event: RecordedEvent, duration_s: float = 0.0) -> None:
        """Keep an event, or leave it out; `duration_s` is the audio that a packet holds."""
        if self.closed:
            return
        share = 0.5 if self.dropping else 1.0
        full = self.waiting_s > share * self._most_s or len(self._items) > share * MAX_EVENTS
        if full and not isinstance(event, StreamEnd):
            self.dropping = True
            self._leave_out(event)
            return
        self.dropping = False
        self._name_missed()
        self._append(event, duration_s)

    def take(self) -> list[RecordedEvent]:
        """All that waits."""
        taken: list[RecordedEvent] = []
        while self._items:
            event, duration_s = self._items.popleft()
            self._taken_s += duration_s
            taken.append(event)
        return taken

    def close(self) -> None:
        """Keep nothing from now on."""
        self.closed = True
        self._items.clear()

    def _leave_out(self, event: RecordedEvent) -> None:
        if isinstance(event, StreamStart):
            self._start = event
            return
        gap = Gap(first_seq=event.seq, count=1, reason=MISSED) if isinstance(event, Packet) else event
        assert isinstance(gap, Gap)
        self.dropped += isinstance(event, Packet)
        self._missed = gap if self._missed is None else self._missed.joined(gap, MISSED)

    def _name_missed(self) -> None:
        start, missed, self._start, self._missed = self._start, self._missed, None, None
        if missed is not None:
            self._append(missed, 0.0)
        if start is not None:
            if missed is not None and missed.next_seq > start.first_seq:
                start = replace(start, first_seq=missed.next_seq, live_seq=missed.next_seq, start="resumed")
            self._append(start, 0.0)

    def _append(self, event: RecordedEvent, duration_s: float) -> None:
        self._put_s += duration_s
        self._items.append((event, duration_s))
