"""What was sent to one listener and is not yet reported as received.

A socket hides a lag: at 60 bytes a packet its buffer holds half a minute. So a listener that reports is sent no more than it can have in
flight, and the rest waits where its age is known.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

from streamcodec.protocol import Gap, Packet, Report, StreamEnd, StreamStart
from streamcodec.protocol.window import LITTLE_S, Departure, SendWindow
from streamcodec.server.fanout.bitrate import CALM_S
from streamcodec.server.fanout.queue import Item

__all__ = ["InFlight"]

# A listener that never reports has all that was sent in flight: only the newest packets are remembered.
_MAX_UNREPORTED = 64

# A packet's number and its audio (s), where that begins among all that was put, when it was put, when it left (s), and whether it left
# alone. A plain tuple: there is one for each packet and listener.
_Sent = tuple[int, float, float, float, float, bool]


class InFlight:
    """Counts the seconds of audio that are in flight; at most `window_s` and a round trip of it may be. `clock` gives seconds.

    With at most `calm_s` in flight no more packet is held back, and none is so old that anything is to be done about it.
    """

    def __init__(self, window_s: float, clock: Callable[[], float]) -> None:
        self.report: Report | None = None
        self.seconds = 0.0
        self.calm_s = math.inf
        self._window = SendWindow(window_s, clock=clock)
        self._clock = clock
        self._sent: deque[_Sent] = deque()
        self._next_seq = 0

    @property
    def full(self) -> bool:
        """Whether no packet may be sent now. A listener that never reports may be sent any number."""
        return self.report is not None and self.seconds > self._window.max_s

    @property
    def oldest(self) -> tuple[float, float] | None:
        """Of the oldest packet in flight, when it was put and where its audio begins, where the listener reports at all."""
        return (self._sent[0][3], self._sent[0][2]) if self._sent and self.report is not None else None

    @property
    def round_trip_s(self) -> float:
        """The shortest of the last times from sending a packet to its report; a guess before there is one."""
        return self._window.round_trip_s

    def send(self, item: Item) -> None:
        """A message goes out."""
        message = item.message
        if isinstance(message, Packet):
            self.depart(message.seq, item.duration_s, item.begins_s, item.put_at, self._clock())
        elif isinstance(message, Gap):
            self._next_seq = message.next_seq
        elif isinstance(message, StreamStart):
            self._next_seq = message.first_seq
        elif isinstance(message, StreamEnd):
            self._sent.clear()
            self.seconds, self._next_seq = 0.0, 0

    def depart(self, seq: int, duration_s: float, begins_s: float, put_at: float, now: float) -> None:
        """Packet `seq` goes out, whose audio of `duration_s` begins at `begins_s` among all that was put, and which was put at `put_at`."""
        self._sent.append((seq, duration_s, begins_s, put_at, now, self.seconds < LITTLE_S))
        self.seconds += duration_s
        self._next_seq = seq + 1
        while self.report is None and len(self._sent) > _MAX_UNREPORTED:
            self.seconds -= self._sent.popleft()[1]

    def receive(self, report: Report) -> bool:
        """Take a report; returns False for one of a stream that is over, which says nothing."""
        if report.received > self._next_seq:
            return False
        self.report = report
        newest: _Sent | None = None
        while self._sent and self._sent[0][0] < report.received:
            newest = self._sent.popleft()
            self.seconds = self.seconds - newest[1] if self._sent else 0.0
        if newest is not None:
            self._window.answered(Departure(newest[4], newest[5]))
        self.calm_s = min(self._window.max_s, self._window.round_trip_s + CALM_S)
        return True
