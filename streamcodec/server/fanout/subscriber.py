"""A listener's queue: what waits to be sent to one connection, and what was sent and is not yet reported as received.

Sockets hide a lag: 60 bytes a packet, half a minute of them fits into a buffer. So no more is sent than a listener that reports can have
under way, and the rest waits here, where its age is known. Whoever never reports is judged by what waits here alone.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from streamcodec.errors import RemoteProtocolError, WireCode
from streamcodec.protocol import SILENCE, DtxFilter, Format, Gap, Message, Packet, Report, StreamEnd, StreamStart
from streamcodec.protocol.window import Departure, SendWindow
from streamcodec.server.fanout.bitrate import BitrateController
from streamcodec.server.limits import Limits

__all__ = ["ListenerObserver", "Subscriber"]

# Gaps and starts weigh no seconds, so they need a bound of their own: a publisher may send as many as it likes.
_MAX_MESSAGES = 4096


class ListenerObserver(Protocol):
    """What is told, as it happens, of what a listener does not get."""

    def listener_dropped(self, packets: int) -> None:
        """It is too slow for so many packets."""

    def listener_thinned(self, packets: int) -> None:
        """So many packets of silence were left out."""

    def listener_stepped_down(self) -> None:
        """It is given fewer codebooks, as it falls behind."""


@dataclass(slots=True)
class _Item:
    """`put_at` is a time; `begins_s` is where a packet's audio begins among all that was put."""

    message: Message
    duration_s: float
    begins_s: float
    put_at: float
    departure: Departure | None = None


class Subscriber:
    """One listening connection as its stream sees it.

    `max_n_q` is the most codebooks it wants (None: as many as the stream has), `min_n_q` the fewest that it may be given where it falls
    behind (None: it is given `max_n_q`). `progressed` is called whenever the queue gets shorter, `failed` when the listener is to be
    disconnected. `thinned` counts packets that were left out as silence. `given_up` says that a fast publisher has waited for it in vain;
    it holds until half the queue is free.
    """

    def __init__(
        self,
        name: str,
        format: Format,
        *,
        max_n_q: int | None = None,
        min_n_q: int | None = None,
        history_s: float = 0.0,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.perf_counter,
        observer: ListenerObserver | None = None,
    ) -> None:
        self.name = name
        self.format = format
        self.max_n_q = max_n_q
        self.min_n_q = min_n_q
        self.history_s = history_s
        self.queued_s = 0.0
        self.dropped = 0
        self.thinned = 0
        self.given_up = False
        self.report: Report | None = None
        self.progressed: Callable[[], None] = lambda: None
        self.failed: Callable[[Exception], None] = lambda _: None
        self._limits = limits or Limits()
        self._clock = clock
        self._observer = observer
        self._live = True
        self._bitrate = BitrateController([0], max_lag_s=self._limits.listener_max_lag_s, give_up_s=self._limits.listener_give_up_s)
        self._queue: deque[_Item] = deque()
        self._sent: deque[_Item] = deque()
        self._under_way_s = 0.0
        self._put_s = 0.0
        self._past_s = 0.0
        self._next_sent = 0
        self._window = SendWindow(self._limits.listener_window_s, clock=clock)
        self._failure: RemoteProtocolError | None = None
        self._dtx = DtxFilter()
        self._silence: Gap | None = None  # packets that were left out and are named before what comes next
        self._ready = asyncio.Event()

    @property
    def n_q(self) -> int:
        """Codebooks that its packets are to have, once a stream runs; 0 for PCM."""
        return self._bitrate.n_q

    @property
    def empty(self) -> bool:
        """Whether nothing waits, control messages included."""
        return not self._queue

    @property
    def lagging(self) -> bool:
        """Whether more than half of what a fast publisher may have waiting here does."""
        return self.queued_s > self._limits.listener_queue_s / 2

    @property
    def round_trip_s(self) -> float:
        """The quickest of the last ways of a packet to the listener and of its report back; a guess before there was one."""
        return self._window.round_trip_s

    def lag_s(self, now: float) -> float:
        """How far behind it is: the time since the oldest packet that it has not reported was put, or the audio, whichever is less."""
        oldest = self._sent[0] if self._sent and self.report is not None else self._oldest_waiting
        return 0.0 if oldest is None else min(now - oldest.put_at, self._put_s - oldest.begins_s)

    def join(self, ladder: Sequence[int], *, live: bool) -> None:
        """A stream begins for it that has so many codebooks, fewest first; lag counts where its publisher is a clock."""
        self._live = live
        self._dtx.restart()
        self._bitrate = BitrateController(
            ladder, self.min_n_q, max_lag_s=self._limits.listener_max_lag_s, give_up_s=self._limits.listener_give_up_s
        )

    def be_patient(self) -> None:
        """What comes next was held up elsewhere: it is no lag of this listener's."""
        self._bitrate.be_patient(self._clock() + self._limits.resume_s)

    def put(self, message: Message, duration_s: float = 0.0, *, past: bool = False, quiet: bool = False) -> None:
        """Queue a message; `duration_s` is the audio that a packet holds. What is `past` has a bound of its own: it comes on top.

        Of a run of `quiet` packets most are left out, and named as a gap before the next message.
        """
        if len(self._queue) > _MAX_MESSAGES:
            return  # `get` says so
        now = self._clock()
        if isinstance(message, Packet):
            self._judge(now)
        if self._leaves_out(message, duration_s, quiet):
            return
        if self._silence is not None:
            self._queue.append(_Item(self._silence, 0.0, self._put_s, now))
            self._silence = None
        self._queue.append(_Item(message, duration_s, self._put_s, now))
        self.queued_s += duration_s
        self._put_s += duration_s
        self._past_s += duration_s if past else 0.0
        max_s = self._limits.listener_queue_s + (self._limits.resume_s if self._live else 0.0) + self._past_s
        if self.queued_s > max_s:
            self._drop(lambda item: self.queued_s > max_s / 2)  # noqa: ARG005
        self._ready.set()

    def _leaves_out(self, message: Message, duration_s: float, quiet: bool) -> bool:
        """Whether a message needs not be sent now, being silence that a gap will name."""
        if isinstance(message, Packet):
            if not self._dtx.leaves_out(quiet, duration_s):
                return False
            self.thinned += 1
            if self._observer is not None:
                self._observer.listener_thinned(1)
            message = Gap(first_seq=message.seq, count=1, reason=SILENCE)
        else:
            self._dtx.restart()
        if not isinstance(message, Gap) or message.reason != SILENCE:
            return False
        self._silence = message if self._silence is None else self._silence.joined(message)
        return True

    async def get(self) -> Message:
        """The next message, in order, as soon as it may be sent.

        Raises `RemoteProtocolError` SLOW_LISTENER where the listener is to be disconnected.
        """
        while self._failure is None and not self._may_send:
            self._ready.clear()
            await self._ready.wait()
        if self._failure is not None:
            raise self._failure
        if len(self._queue) > _MAX_MESSAGES:
            raise RemoteProtocolError(WireCode.SLOW_LISTENER, f"more than {_MAX_MESSAGES} messages wait to be sent")
        item = self._queue.popleft()
        # Sums of floats leave a rest: an empty queue holds nothing.
        self.queued_s = self.queued_s - item.duration_s if self._queue else 0.0
        self._past_s = min(self._past_s, self.queued_s)
        self.given_up = self.given_up and self.lagging
        self._note_sent(item)
        self.progressed()
        return item.message

    def reported(self, report: Report, asks_n_q: int | None = None) -> None:
        """The listener says what it has received, and perhaps that it wants at most `asks_n_q` codebooks from now on."""
        if asks_n_q is not None:
            self._bitrate.ask(asks_n_q)
        if report.received > self._next_sent:
            return  # of a stream that is over
        self.report = report
        newest: _Item | None = None
        while self._sent and _seq(self._sent[0]) < report.received:
            newest = self._sent.popleft()
            self._under_way_s = self._under_way_s - newest.duration_s if self._sent else 0.0
        if newest is not None and newest.departure is not None:
            self._window.answered(newest.departure)
        self._judge(self._clock())
        self._ready.set()

    @property
    def _may_send(self) -> bool:
        if not self._queue:
            return False
        closed = self.report is not None and self._under_way_s > self._window.max_s
        return not (closed and isinstance(self._queue[0].message, Packet))

    @property
    def _oldest_waiting(self) -> _Item | None:
        return next((item for item in self._queue if isinstance(item.message, Packet)), None)

    def _note_sent(self, item: _Item) -> None:
        message = item.message
        if isinstance(message, Packet):
            item.departure = self._window.depart(self._under_way_s)
            self._sent.append(item)
            self._under_way_s += item.duration_s
            self._next_sent = message.seq + 1
            while self.report is None and len(self._sent) > 64:
                self._under_way_s -= self._sent.popleft().duration_s
        elif isinstance(message, Gap):
            self._next_sent = message.next_seq
        elif isinstance(message, StreamStart):
            self._next_sent = message.first_seq
        elif isinstance(message, StreamEnd):
            self._sent.clear()
            self._under_way_s, self._next_sent = 0.0, 0

    def _judge(self, now: float) -> None:
        if not self._live:
            return
        oldest, before = self._oldest_waiting, self._bitrate.n_q
        waited_s = 0.0 if oldest is None else now - oldest.put_at
        verdict = self._bitrate.look(now, self.lag_s(now), self.round_trip_s, waited_s)
        if verdict.n_q < before and self._observer is not None:
            self._observer.listener_stepped_down()
        if verdict.keep_s is not None:
            keep_s = verdict.keep_s
            self._drop(lambda item: now - item.put_at > keep_s)
        if verdict.give_up and self._failure is None:
            reason = f"the listener is {self.lag_s(now):.1f} s behind and has been too far behind for {self._limits.listener_give_up_s:g} s"
            self._failure = RemoteProtocolError(WireCode.SLOW_LISTENER, reason)
            self._ready.set()
            self.failed(self._failure)

    def _drop(self, stale: Callable[[_Item], bool]) -> None:
        kept, before = deque[_Item](), self.dropped
        for item in self._queue:
            if isinstance(item.message, Packet) and stale(item):
                self.queued_s -= item.duration_s
                self.dropped += 1
                item = _Item(Gap(first_seq=item.message.seq, count=1, reason="slow_listener"), 0.0, item.begins_s, item.put_at)
            last = kept[-1].message if kept else None
            # What was silence anyway was not lost.
            if isinstance(item.message, Gap) and isinstance(last, Gap) and (last.reason == SILENCE) == (item.message.reason == SILENCE):
                item.message = last.joined(item.message, last.reason if last.reason == item.message.reason else "slow_listener")
                kept.pop()
            kept.append(item)
        self._queue = kept
        if self.dropped > before and self._observer is not None:
            self._observer.listener_dropped(self.dropped - before)


def _seq(item: _Item) -> int:
    assert isinstance(item.message, Packet)
    return item.message.seq
