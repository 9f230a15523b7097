"""One listening connection as its stream sees it: what waits for it, what is in flight to it, and what to do when it falls behind."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from streamcodec.errors import RemoteProtocolError, WireCode
from streamcodec.protocol import Format, Message, Packet, Report
from streamcodec.server.fanout.bitrate import BitrateController
from streamcodec.server.fanout.in_flight import InFlight
from streamcodec.server.fanout.queue import MAX_MESSAGES, LossObserver, SubscriberQueue
from streamcodec.server.limits import Limits

__all__ = ["Subscriber", "SubscriberOptions"]


@dataclass(frozen=True)
class SubscriberOptions:
    """What a listener has asked for.

    `max_n_q` is the most codebooks that it wants (None: as many as the stream has), `min_n_q` the fewest that it may be given when it falls
    behind (None: it is given `max_n_q` always), `history_s` how much of the past it wants of a stream that runs already.
    """

    stream: str
    format: Format
    max_n_q: int | None = None
    min_n_q: int | None = None
    history_s: float = 0.0


class Subscriber:
    """Messages for one listener, bounded by `limits`.

    `ready` is called whenever `take` gives something, `relayed` with a packet that may be sent at once, past the queue (it says whether it
    was), `progressed` whenever the queue gets shorter, `failed` when the listener is to be disconnected. `n_q` is how many codebooks its
    packets are to have, once a stream runs; 0 for PCM. `given_up` says that a fast publisher has waited for it in vain; it holds until half
    of the queue is free.
    """

    def __init__(
        self,
        options: SubscriberOptions,
        limits: Limits,
        *,
        clock: Callable[[], float] = time.perf_counter,
        observer: LossObserver | None = None,
    ) -> None:
        self.options = options
        self.queue = SubscriberQueue(observer)
        self.in_flight = InFlight(limits.listener_window_s, clock)
        self.given_up = False
        self.progressed: Callable[[], None] = lambda: None
        self.ready: Callable[[], None] = lambda: None
        self.relayed: Callable[[Packet], bool] = lambda _: False
        self.failed: Callable[[Exception], None] = lambda _: None
        self._limits = limits
        self._clock = clock
        self._observer = observer
        self._failure: RemoteProtocolError | None = None
        self.join([0], live=True)

    @property
    def format(self) -> Format:
        """What its packets hold."""
        return self.options.format

    @property
    def empty(self) -> bool:
        """Whether nothing waits, control messages included."""
        return not self.queue

    @property
    def lagging(self) -> bool:
        """Whether more waits than half of what may wait of a fast publisher's stream."""
        return self.queue.queued_s > self._limits.listener_queue_s / 2

    def lag_s(self, now: float) -> float:
        """How far behind it is: the age of the oldest packet that it has not reported, or the audio since then, whichever is less."""
        oldest = self.in_flight.oldest
        if oldest is None and (item := self.queue.oldest_packet) is not None:
            oldest = item.put_at, item.begins_s
        return 0.0 if oldest is None else min(now - oldest[0], self.queue.end_s - oldest[1])

    def join(self, ladder: Sequence[int], *, live: bool) -> None:
        """A stream begins for it. `ladder` are the numbers of codebooks that it may get, lowest first; it can lag behind a `live` one."""
        self._live = live
        self.queue.restart_dtx()
        self._bitrate = BitrateController(
            ladder, self.options.min_n_q, max_lag_s=self._limits.listener_max_lag_s, give_up_s=self._limits.listener_give_up_s
        )
        self.n_q = self._bitrate.n_q
        self._clear = False

    def expect_burst(self) -> None:
        """What comes next was held up elsewhere: it is no lag of this listener's."""
        self._bitrate.expect_burst(self._clock() + self._limits.resume_s)

    def relay(self, packet: Packet, duration_s: float) -> bool:
        """Send a packet that is not quiet past the queue, where nothing holds it up; returns whether it was sent.

        Most packets go this way to most listeners, so it takes as little as may be: whatever needs a decision goes through `put`, which
        also finds out whether the next packet may go this way.
        """
        flight = self.in_flight
        if not self._clear or flight.seconds > flight.calm_s or not self.relayed(packet):
            return False
        now, begins_s = self._clock(), self.queue.end_s
        self.queue.end_s = begins_s + duration_s
        flight.depart(packet.seq, duration_s, begins_s, now, now)
        return True

    def put(self, message: Message, duration_s: float = 0.0, *, past: bool = False, quiet: bool = False) -> None:
        """Queue a message; `duration_s` is the audio that a packet holds.

        What is `past` may wait beyond the bound on what is live. Most of a run of `quiet` packets is left out.
        """
        if self._failure is not None:
            return
        now = self._clock()
        if isinstance(message, Packet):
            self._judge(now)
        max_s = self._limits.listener_queue_s + (self._limits.resume_s if self._live else 0.0)
        if self.queue.put(message, duration_s, now, max_s, past=past, quiet=quiet):
            if self.queue.overflowed:
                self._fail(f"more than {MAX_MESSAGES} messages wait to be sent")
            elif self.may_send:
                self.ready()
        self._look_whether_clear()

    def take(self, at_most: int = 1) -> list[Message]:
        """The next messages, in order, that may be sent now; none where the listener is to be disconnected."""
        taken: list[Message] = []
        while len(taken) < at_most and self._failure is None and self.may_send:
            item = self.queue.pop()
            self.in_flight.send(item)
            taken.append(item.message)
        if taken:
            self.given_up = self.given_up and self.lagging
            self._look_whether_clear()
            self.progressed()
        return taken

    def reported(self, report: Report, asks_n_q: int | None = None) -> None:
        """The listener says what it has received, and perhaps that it wants at most `asks_n_q` codebooks from now on."""
        if asks_n_q is not None:
            self._bitrate.ask(asks_n_q)
            self.n_q = self._bitrate.n_q
        if self.in_flight.receive(report) and not (self._clear and self.in_flight.seconds <= self.in_flight.calm_s):
            self._judge(self._clock())
            if self.may_send:
                self.ready()
            self._look_whether_clear()

    @property
    def may_send(self) -> bool:
        """Whether `take` gives something: only packets wait for what is in flight."""
        return bool(self.queue) and not (self.in_flight.full and isinstance(self.queue.head, Packet))

    def _judge(self, now: float) -> None:
        if not self._live:
            return
        oldest, before = self.queue.oldest_packet, self._bitrate.n_q
        waited_s = 0.0 if oldest is None else now - oldest.put_at
        verdict = self._bitrate.look(now, self.lag_s(now), self.in_flight.round_trip_s, waited_s)
        self.n_q = verdict.n_q
        if verdict.n_q < before and self._observer is not None:
            self._observer.listener_stepped_down()
        if verdict.keep_s is not None:
            keep_s = verdict.keep_s
            self.queue.drop(lambda item: now - item.put_at > keep_s)
        if verdict.give_up and self._failure is None:
            self._fail(
                f"the listener is {self.lag_s(now):.1f} s behind and has been too far behind for {self._limits.listener_give_up_s:g} s"
            )

    def _look_whether_clear(self) -> None:
        self._clear = self._failure is None and self.queue.clear and (not self._live or self._bitrate.settled)

    def _fail(self, reason: str) -> None:
        self._failure, self._clear = RemoteProtocolError(WireCode.SLOW_LISTENER, reason), False
        self.failed(self._failure)
