"""One listening connection as its stream sees it: what waits for it, what is in flight to it, and what to do when it falls behind."""

from __future__ import annotations

import asyncio
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

    `progressed` is called whenever the queue gets shorter, `failed` when the listener is to be disconnected. `given_up` says that a fast
    publisher has waited for it in vain; it holds until half of the queue is free.
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
        self.failed: Callable[[Exception], None] = lambda _: None
        self._limits = limits
        self._clock = clock
        self._observer = observer
        self._failure: RemoteProtocolError | None = None
        self._ready = asyncio.Event()
        self.join([0], live=True)

    @property
    def format(self) -> Format:
        """What its packets hold."""
        return self.options.format

    @property
    def n_q(self) -> int:
        """Codebooks that its packets are to have, once a stream runs; 0 for PCM."""
        return self._bitrate.n_q

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
        oldest = self.in_flight.oldest or self.queue.oldest_packet
        return 0.0 if oldest is None else min(now - oldest.put_at, self.queue.end_s - oldest.begins_s)

    def join(self, ladder: Sequence[int], *, live: bool) -> None:
        """A stream begins for it. `ladder` are the numbers of codebooks that it may get, lowest first; it can lag behind a `live` one."""
        self._live = live
        self.queue.restart_dtx()
        self._bitrate = BitrateController(
            ladder, self.options.min_n_q, max_lag_s=self._limits.listener_max_lag_s, give_up_s=self._limits.listener_give_up_s
        )

    def expect_burst(self) -> None:
        """What comes next was held up elsewhere: it is no lag of this listener's."""
        self._bitrate.expect_burst(self._clock() + self._limits.resume_s)

    def put(self, message: Message, duration_s: float = 0.0, *, past: bool = False, quiet: bool = False) -> None:
        """Queue a message; `duration_s` is the audio that a packet holds.

        What is `past` may wait beyond the bound on what is live. Most of a run of `quiet` packets is left out.
        """
        if self.queue.overflowed:
            return  # `get` raises
        now = self._clock()
        if isinstance(message, Packet):
            self._judge(now)
        max_s = self._limits.listener_queue_s + (self._limits.resume_s if self._live else 0.0)
        if self.queue.put(message, duration_s, now, max_s, past=past, quiet=quiet):
            self._ready.set()

    async def get(self) -> Message:
        """The next message, in order, as soon as it may be sent.

        Raises `RemoteProtocolError` SLOW_LISTENER where the listener is to be disconnected.
        """
        while self._failure is None and not self.may_send:
            self._ready.clear()
            await self._ready.wait()
        if self._failure is not None:
            raise self._failure
        if self.queue.overflowed:
            raise RemoteProtocolError(WireCode.SLOW_LISTENER, f"more than {MAX_MESSAGES} messages wait to be sent")
        item = self.queue.pop()
        self.given_up = self.given_up and self.lagging
        self.in_flight.send(item)
        self.progressed()
        return item.message

    def reported(self, report: Report, asks_n_q: int | None = None) -> None:
        """The listener says what it has received, and perhaps that it wants at most `asks_n_q` codebooks from now on."""
        if asks_n_q is not None:
            self._bitrate.ask(asks_n_q)
        if self.in_flight.receive(report):
            self._judge(self._clock())
            self._ready.set()

    @property
    def may_send(self) -> bool:
        """Whether `get` returns at once: only packets wait for what is in flight."""
        return bool(self.queue) and not (self.in_flight.full and isinstance(self.queue.head, Packet))

    def _judge(self, now: float) -> None:
        if not self._live:
            return
        oldest, before = self.queue.oldest_packet, self._bitrate.n_q
        waited_s = 0.0 if oldest is None else now - oldest.put_at
        verdict = self._bitrate.look(now, self.lag_s(now), self.in_flight.round_trip_s, waited_s)
        if verdict.n_q < before and self._observer is not None:
            self._observer.listener_stepped_down()
        if verdict.keep_s is not None:
            keep_s = verdict.keep_s
            self.queue.drop(lambda item: now - item.put_at > keep_s)
        if verdict.give_up and self._failure is None:
            reason = f"the listener is {self.lag_s(now):.1f} s behind and has been too far behind for {self._limits.listener_give_up_s:g} s"
            self._failure = RemoteProtocolError(WireCode.SLOW_LISTENER, reason)
            self._ready.set()
            self.failed(self._failure)
