"""What was sent to one listener and is not yet reported as received.

A socket hides a lag: at 60 bytes a packet its buffer holds half a minute. So a listener that reports is sent no more than it can have in
flight, and the rest waits where its age is known.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from streamcodec.protocol import Gap, Packet, Report, StreamEnd, StreamStart
from streamcodec.protocol.window import Departure, SendWindow
from streamcodec.server.fanout.queue import Item

__all__ = ["InFlight"]

# A listener that never reports has all that was sent in flight: only the newest packets are remembered.
_MAX_UNREPORTED = 64


class InFlight:
    """Counts the seconds of audio that are in flight; at most `window_s` and a round trip of it may be. `clock` gives seconds."""

    def __init__(self, window_s: float, clock: Callable[[], float]) -> None:
        self.report: Report | None = None
        self.seconds = 0.0
        self._window = SendWindow(window_s, clock=clock)
        self._sent: deque[tuple[Item, int, Departure]] = deque()  # with the packet's number
        self._next_seq = 0

    @property
    def full(self) -> bool:
        """Whether no packet may be sent now. A listener that never reports may be sent any number."""
        return self.report is not None and self.seconds > self._window.max_s

    @property
    def oldest(self) -> Item | None:
        """The oldest packet in flight, where the listener reports at all."""
        return self._sent[0][0] if self._sent and self.report is not None else None

    @property
    def round_trip_s(self) -> float:
        """The shortest of the last times from sending a packet to its report; a guess before there is one."""
        return self._window.round_trip_s

    def send(self, item: Item) -> None:
        """A message goes out."""
        message = item.message
        if isinstance(message, Packet):
            self._sent.append((item, message.seq, self._window.depart(self.seconds)))
            self.seconds += item.duration_s
            self._next_seq = message.seq + 1
            while self.report is None and len(self._sent) > _MAX_UNREPORTED:
                self.seconds -= self._sent.popleft()[0].duration_s
        elif isinstance(message, Gap):
            self._next_seq = message.next_seq
        elif isinstance(message, StreamStart):
            self._next_seq = message.first_seq
        elif isinstance(message, StreamEnd):
            self._sent.clear()
            self.seconds, self._next_seq = 0.0, 0

    def receive(self, report: Report) -> bool:
        """Take a report; returns False for one of a stream that is over, which says nothing."""
        if report.received > self._next_seq:
            return False
        self.report = report
        newest: Departure | None = None
        while self._sent and self._sent[0][1] < report.received:
            item, _, newest = self._sent.popleft()
            self.seconds = self.seconds - item.duration_s if self._sent else 0.0
        if newest is not None:
            self._window.answered(newest)
        return True
