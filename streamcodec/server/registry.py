"""All streams and all listeners, by name, and which newcomers are admitted among them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from streamcodec.errors import RemoteProtocolError, WireCode
from streamcodec.protocol import ListenHello, PublishHello, Resume, Waiting, now_us
from streamcodec.scheduler.worker import Worker
from streamcodec.server.capacity.admission import Admission, relays_only
from streamcodec.server.capacity.load_model import Demand
from streamcodec.server.draining import Draining
from streamcodec.server.echo import EchoTests
from streamcodec.server.events import Observer, ServerEvent
from streamcodec.server.fanout.fan_out import FanOut
from streamcodec.server.fanout.subscriber import Subscriber
from streamcodec.server.info import packet_frames_of
from streamcodec.server.limits import Limits
from streamcodec.server.metrics import Metrics
from streamcodec.server.snapshot import StreamSnapshot
from streamcodec.server.stream import EntryWrapper, Stream

__all__ = ["Registry"]

_RECHECK_S = 0.1  # a newcomer that waits notices after so long at the latest that it need not wait any longer
_MIN_RETRY_AFTER_MS = 1000


class Registry:
    """All streams and all listeners, by name. `num_waiting` newcomers wait to be admitted, and `observe` hears what happens.

    `wrapped` is for each stream's own that is no echo test.
    """

    def __init__(
        self,
        worker: Worker,
        limits: Limits,
        metrics: Metrics,
        admission: Admission,
        draining: Draining,
        *,
        echo: EchoTests,
        wrapped: EntryWrapper | None = None,
    ) -> None:
        self.worker = worker
        self.limits = limits
        self.metrics = metrics
        self.admission = admission
        self.draining = draining
        self._echo = echo
        self._wrapped = wrapped
        self.streams: dict[str, Stream] = {}
        self.listeners: dict[str, set[Subscriber]] = {}
        self.closing = False
        self.observe: Observer = lambda _: None
        self.num_waiting = 0
        self._past: dict[str, FanOut] = {}
        self._complete: dict[str, Stream] = {}  # those that their publishers have ended, by the publishers' secrets
        # Who brings packets to pass on does not wait behind those that the engine has no room for.
        self._admission_queues = {relays: asyncio.Lock() for relays in (False, True)}

    @property
    def num_listeners(self) -> int:
        """Listeners of all names."""
        return sum(len(group) for group in self.listeners.values())

    @property
    def demand(self) -> Demand:
        """What all streams ask of engine and loop. A fast stream counts as a live one, as its rows share the steps."""
        demand = Demand()
        for name, stream in self.streams.items():
            demand.update(stream.needs)
            if listeners := self.listeners.get(name):
                demand["relay", stream.info.packet_frames] += len(listeners)
        return demand

    @property
    def num_waiting_listeners(self) -> int:
        """Listeners of names that nobody publishes."""
        return sum(len(group) for name, group in self.listeners.items() if name not in self.streams)

    async def wait_for_room(self, hello: PublishHello | ListenHello, gone: Callable[[], bool]) -> None:
        """Wait where `hello` would be refused now and may be admitted in a moment: in the order of arrival, for `join_wait_s` at most.

        `gone` says whether the client is gone. Call `publish` or `expect` directly after this: they admit or refuse.
        """
        if not (wanted := self._wanted(hello)):
            return
        loop = asyncio.get_running_loop()
        give_up = loop.time() + self.limits.join_wait_s
        self.num_waiting += 1
        try:
            async with self._admission_queues[relays_only(wanted)]:  # a lock wakes those that wait in the order in which they came
                while not self.closing and not gone() and self._no_place(hello) is None:
                    left_s = give_up - loop.time()
                    refusal = self.admission.refusal(now_us() / 1e6, self.demand, self._wanted(hello))
                    if refusal is None or refusal.again_s is None or left_s <= 0:
                        return
                    await asyncio.sleep(min(refusal.again_s, _RECHECK_S, left_s))
        finally:
            self.num_waiting -= 1

    def publish(self, hello: PublishHello) -> Stream:
        """Open a stream, or go on with the one that `hello` resumes.

        Raises `RemoteProtocolError` STREAM_TAKEN, SERVER_FULL, UNKNOWN_SESSION or BAD_REQUEST.
        """
        if self.closing:
            raise self.draining.farewell()
        if hello.resume is not None:
            return self._resumed(hello, hello.resume)
        if hello.stream in self.streams:
            raise RemoteProtocolError(WireCode.STREAM_TAKEN, f"stream {hello.stream!r} has a publisher already")
        self._admit(hello)
        echo = self._echo.has(hello.stream)
        stream = Stream(hello, self.worker, self.limits, self.metrics, self, None if echo else self._wrapped)
        self.streams[hello.stream] = stream
        if echo:
            asyncio.get_running_loop().call_later(self.limits.echo_test_s, self._end_echo, stream)
        return stream

    def restore(self, snapshot: StreamSnapshot, fan_out: FanOut | None = None) -> Stream:
        """Go on with a stream of another server, at `fan_out` where that was fed with its session; it waits for its publisher then.

        Raises `SnapshotError` for a snapshot that does not fit, and `RemoteProtocolError` STREAM_TAKEN. It is not asked whether there is
        room.
        """
        if self.closing:
            raise self.draining.farewell()
        name = snapshot.hello.stream
        if name in self.streams:
            raise RemoteProtocolError(WireCode.STREAM_TAKEN, f"stream {name!r} has a publisher already")
        hello, worker, limits = snapshot.hello, self.worker, self.limits
        stream = Stream(hello, worker, limits, self.metrics, self, self._wrapped, snapshot=snapshot, fan_out=fan_out)
        self.streams[name] = stream
        if fan_out is None:
            for listener in self.listeners.get(name, set()):
                stream.fan_out.join(listener)
        return stream

    def _end_echo(self, stream: Stream) -> None:
        if not stream.ended.is_set():
            over = self._echo.over()
            stream.end(over.reason)
            stream.lease.fail(over)

    def _resumed(self, hello: PublishHello, asked: Resume) -> Stream:
        stream = self.streams.get(hello.stream)
        if stream is None or not stream.may_resume(asked.session):
            # The publisher may have missed only the answer to its end, and another stream may have the name by now.
            stream = self._complete.get(asked.session)
        if stream is None or stream.hello.stream != hello.stream:
            raise RemoteProtocolError(
                WireCode.UNKNOWN_SESSION,
                f"stream {hello.stream!r} has no such session: a lost one is kept for {self.limits.resume_s:g} s",
            )
        was = stream.hello
        for name in ("format", "sample_rate", "channels", "bandwidth", "packet_frames", "pace"):
            if getattr(hello, name) != getattr(was, name):
                raise RemoteProtocolError(WireCode.BAD_REQUEST, f"hello: {name} is {getattr(hello, name)!r}, it was {getattr(was, name)!r}")
        return stream

    def announce(self, stream: Stream) -> None:
        """Begin `stream` for all listeners that wait under its name."""
        info = stream.info
        self.observe(ServerEvent("stream.started", {"stream": info.name, "format": info.format, "bandwidth_kbps": info.bandwidth}))
        for listener in self.listeners.get(stream.info.name, set()):
            stream.fan_out.join(listener, "published")

    def expect(self, hello: ListenHello) -> Stream | None:
        """The stream that `hello` wants to hear, if it is there. Raises `RemoteProtocolError` SERVER_FULL where there is no room."""
        self._admit(hello)
        return self.streams.get(hello.stream)

    def _wanted(self, hello: PublishHello | ListenHello) -> Demand:
        """What `hello` asks of engine and loop beyond what is there."""
        stream, wanted = self.streams.get(hello.stream), Demand()
        if isinstance(hello, ListenHello):
            if stream is not None:
                wanted["relay", stream.info.packet_frames] += 1
                if hello.format != "codes" and not stream.decoding:
                    wanted["decode", stream.info.packet_frames] += 1
        elif stream is None and hello.resume is None:
            waiting, frames = self.listeners.get(hello.stream, ()), packet_frames_of(hello, self.worker.engine.config)
            if hello.format != "codes":
                wanted["encode", frames] += 1
            if any(listener.format != "codes" for listener in waiting):
                wanted["decode", frames] += 1
            if waiting:
                wanted["relay", frames] += len(waiting)
        return wanted

    def _no_place(self, hello: PublishHello | ListenHello) -> str | None:
        """Why there is no place for `hello`, however idle the machine is."""
        if (reason := self._echo.no_place(hello, lambda: list(self.streams), self._listened)) is not None:
            return reason
        publishing = isinstance(hello, PublishHello)
        there, most = (len(self.streams), self.limits.max_publishers) if publishing else (self.num_listeners, self.limits.max_listeners)
        if there >= most:
            return f"the server has its {most} {'publishers' if publishing else 'listeners'}"
        if publishing or hello.stream in self.streams or self.num_waiting_listeners < (most := self.limits.max_waiting_listeners):
            return None
        return f"the server has its {most} listeners that wait for a publisher"

    def _listened(self) -> list[str]:
        """The name that each listener listens to."""
        return [name for name, group in self.listeners.items() for _ in group]

    def _admit(self, hello: PublishHello | ListenHello) -> None:
        if (reason := self._no_place(hello)) is not None:
            raise RemoteProtocolError(WireCode.SERVER_FULL, reason)
        now, wanted = now_us() / 1e6, self._wanted(hello)
        refusal = self.admission.refusal(now, self.demand, wanted)
        if refusal is not None:
            self.metrics.refused_for_capacity += 1
            retry_after_ms = None if refusal.again_s is None else max(_MIN_RETRY_AFTER_MS, round(1000 * refusal.again_s))
            raise RemoteProtocolError(WireCode.SERVER_FULL, refusal.reason, retry_after_ms)
        self.admission.joined(now, wanted, hello.stream)

    def subscribe(self, listener: Subscriber, resume: Resume | None = None) -> bool:
        """Let `listener` have what is published under its name from now on, and a history where there is one.

        A listener that resumes gets what it missed first; returns whether it got all of it, without a break.
        """
        name = listener.options.stream
        self.listeners.setdefault(name, set()).add(listener)
        stream = self.streams.get(name)
        resumed = False
        if resume is not None:
            if stream is not None and stream.fan_out.resume(listener, resume):
                return True
            past = self._past.get(resume.session)
            resumed = past is not None and past.resume(listener, resume)
        if stream is None or stream.ending:
            listener.put(Waiting(stream=name))
        else:
            stream.fan_out.join(listener)
        return resumed

    def unsubscribe(self, listener: Subscriber, *, lost: bool = False) -> None:
        """Forget `listener`; one whose connection was `lost` may resume."""
        name = listener.options.stream
        group = self.listeners.get(name, set())
        group.discard(listener)
        if not group:
            self.listeners.pop(name, None)
        if name in self.streams:
            self.streams[name].fan_out.leave(listener, lost=lost)

    # From the streams ----------------------------------------------------------------------------------------------------------------

    def packet_waited(self, now_s: float, wait_s: float) -> None:
        self.admission.waits.note(now_s, wait_s)

    def decoder_closed(self, stream: Stream) -> None:
        self.admission.left(stream.info.name, "decode")

    def stream_lost(self, stream: Stream, packets: int, reason: str) -> None:
        data = {"stream": stream.info.name, "reason": reason, "packets": packets, "count": 1}
        self.observe(ServerEvent("stream.gap", data, f"{stream.info.name} {reason}", ("packets", "count")))

    def stream_moved(self, stream: Stream) -> None:
        """Forget `stream`, which goes on at another server."""
        if self.streams.get(stream.info.name) is stream:
            del self.streams[stream.info.name]
            self.admission.left(stream.info.name)

    def stream_gone(self, stream: Stream) -> None:
        """Forget `stream`. What its listeners and its publisher may have missed is kept as long as they may resume."""
        if self.streams.get(stream.info.name) is not stream:
            return
        del self.streams[stream.info.name]
        counts = {"packets": stream.totals.emitted, "dropped": stream.totals.dropped, "seconds": round(time.time() - stream.since, 1)}
        self.observe(ServerEvent("stream.ended", {"stream": stream.info.name, "reason": stream.end_reason, **counts}))
        self.admission.left(stream.info.name)
        if not self.limits.resume_s:
            return
        loop, fan_out = asyncio.get_running_loop(), stream.fan_out
        self._past[fan_out.session] = fan_out
        loop.call_later(self.limits.resume_s, self._past.pop, fan_out.session, None)
        if stream.complete:
            self._complete[stream.lease.secret] = stream
            loop.call_later(self.limits.resume_s, self._complete.pop, stream.lease.secret, None)
