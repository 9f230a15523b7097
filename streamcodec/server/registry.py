"""All streams and all listeners of this node, by name, and which newcomers are admitted among them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from streamcodec.errors import RemoteProtocolError, WireCode
from streamcodec.protocol import ListenHello, PublishHello, Resume, Waiting, now_us
from streamcodec.scheduler.worker import Worker
from streamcodec.server.capacity.admission import Admission, relays_only
from streamcodec.server.capacity.load_model import Demand
from streamcodec.server.cluster.alone import Alone
from streamcodec.server.cluster.cluster import Cluster
from streamcodec.server.draining import Draining
from streamcodec.server.echo import EchoTests
from streamcodec.server.events import Observer, ServerEvent
from streamcodec.server.fanout.entry import FanOutEntry
from streamcodec.server.fanout.fan_out import FanOut
from streamcodec.server.fanout.subscriber import Subscriber
from streamcodec.server.feeder import Feeder
from streamcodec.server.info import StreamInfo, packet_frames_of
from streamcodec.server.limits import Limits
from streamcodec.server.metrics import Metrics
from streamcodec.server.stream import EntryWrapper, Stream

__all__ = ["Registry"]

_RECHECK_S = 0.1  # a newcomer that waits notices after so long at the latest that it need not wait any longer
_MIN_RETRY_AFTER_MS = 1000


class Registry:
    """All streams and all listeners, by name. `num_waiting` newcomers wait to be admitted, and `observe` hears what happens.

    `streams` have their publishers here; `links` are those of other nodes that somebody listens to here. `wrapped` is for each stream's own
    that is no echo test.
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
        cluster: Cluster | None = None,
    ) -> None:
        self.worker = worker
        self.limits = limits
        self.metrics = metrics
        self.admission = admission
        self.draining = draining
        self._echo = echo
        self._wrapped = wrapped
        self.cluster: Cluster = cluster or Alone()
        self.streams: dict[str, Stream] = {}
        self.links: dict[str, Feeder] = {}
        self._claiming: set[str] = set()  # names of streams of which it is not known yet whether they may begin
        self.listeners: dict[str, set[Subscriber]] = {}
        self.closing = False
        self.observe: Observer = lambda _: None
        self.num_waiting = 0
        self.past: dict[str, FanOut] = {}
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
        for name, stream in (*self.streams.items(), *self.links.items()):
            demand.update(stream.needs)
            if listeners := self.listeners.get(name):
                demand["relay", stream.info.packet_frames] += len(listeners)
        return demand

    @property
    def num_waiting_listeners(self) -> int:
        """Listeners of names that nobody publishes."""
        return sum(len(group) for name, group in self.listeners.items() if self.heard(name) is None)

    def heard(self, name: str) -> Feeder | None:
        """What there is to hear under a name."""
        return self.links.get(name) if name in self._claiming or name not in self.streams else self.streams[name]

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

    async def publish(self, hello: PublishHello) -> Stream:
        """Open a stream, or go on with the one that `hello` resumes.

        Raises `RemoteProtocolError` STREAM_TAKEN, SERVER_FULL, UNKNOWN_SESSION or BAD_REQUEST.
        """
        if self.closing:
            raise self.draining.farewell()
        if hello.resume is not None:
            return self._resumed(hello, hello.resume) or await self._moved_here(hello)
        stream = self._opened(hello)
        self._claiming.add(hello.stream)
        try:
            await self.cluster.claim(stream)
        except BaseException:
            self._withdraw(stream)
            raise
        finally:
            self._claiming.discard(hello.stream)
        return stream

    def _opened(self, hello: PublishHello) -> Stream:
        if hello.stream in self.streams:
            raise RemoteProtocolError(WireCode.STREAM_TAKEN, f"stream {hello.stream!r} has a publisher already")
        self._admit(hello)
        echo = self._echo.has(hello.stream)
        stream = Stream(hello, self.worker, self.limits, self.metrics, self, self._echo_entry if echo else self._entry)
        self.streams[hello.stream] = stream
        if echo:
            asyncio.get_running_loop().call_later(self.limits.echo_test_s, self._end_echo, stream)
        return stream

    def _end_echo(self, stream: Stream) -> None:
        if not stream.ended.is_set():
            over = self._echo.over()
            stream.end(over.reason)
            stream.lease.fail(over)

    def _echo_entry(self, info: StreamInfo, fan_out: FanOut) -> FanOutEntry:
        return self.cluster.entry(info, fan_out, fan_out)

    def _entry(self, info: StreamInfo, fan_out: FanOut) -> FanOutEntry:
        recorded = fan_out if self._wrapped is None else self._wrapped(info, fan_out)
        return self.cluster.entry(info, fan_out, recorded)

    def _withdraw(self, stream: Stream) -> None:
        """Forget a stream that nobody has heard of."""
        del self.streams[stream.info.name]
        stream.withdraw()
        self.admission.left(stream.info.name)

    async def _moved_here(self, hello: PublishHello) -> Stream:
        if (stream := await self.cluster.take_over(hello)) is None:
            raise RemoteProtocolError(
                WireCode.UNKNOWN_SESSION,
                f"stream {hello.stream!r} has no such session: a lost one is kept for {self.limits.resume_s:g} s",
            )
        return stream

    def _resumed(self, hello: PublishHello, asked: Resume) -> Stream | None:
        """The stream that `hello` resumes, if this node has it."""
        stream = self.streams.get(hello.stream)
        if stream is None or not stream.may_resume(asked.session):
            # The publisher may have missed only the answer to its end, and another stream may have the name by now.
            stream = self._complete.get(asked.session)
        if stream is None or stream.hello.stream != hello.stream:
            return None
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

    async def find(self, name: str) -> None:
        """Have what there is to hear under a name, before somebody listens to it: another node may have it."""
        if self.heard(name) is None:
            await self.cluster.find(name)

    def expect(self, hello: ListenHello) -> Feeder | None:
        """The stream that `hello` wants to hear, if it is there. Raises `RemoteProtocolError` SERVER_FULL where there is no room."""
        self._admit(hello)
        return self.heard(hello.stream)

    def _wanted(self, hello: PublishHello | ListenHello) -> Demand:
        """What `hello` asks of engine and loop beyond what is there."""
        wanted = Demand()
        if isinstance(hello, ListenHello):
            if (heard := self.heard(hello.stream)) is not None:
                wanted["relay", heard.info.packet_frames] += 1
                if hello.format != "codes" and not heard.decoding:
                    wanted["decode", heard.info.packet_frames] += 1
        elif hello.stream not in self.streams and hello.resume is None:
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
        if publishing or self.heard(hello.stream) is not None or self.num_waiting_listeners < (most := self.limits.max_waiting_listeners):
            return None
        return f"the server has its {most} listeners that wait for a publisher"

    def _listened(self) -> list[str]:
        """The name that each listener listens to."""
        return [name for name, group in self.listeners.items() for _ in group]

    def _admit(self, hello: PublishHello | ListenHello) -> None:
        if (reason := self._no_place(hello)) is not None:
            raise RemoteProtocolError(WireCode.SERVER_FULL, reason, go_to=self.cluster.better())
        now, wanted = now_us() / 1e6, self._wanted(hello)
        refusal = self.admission.refusal(now, self.demand, wanted)
        if refusal is not None:
            self.metrics.refused_for_capacity += 1
            retry_after_ms = None if refusal.again_s is None else max(_MIN_RETRY_AFTER_MS, round(1000 * refusal.again_s))
            raise RemoteProtocolError(WireCode.SERVER_FULL, refusal.reason, retry_after_ms, go_to=self.cluster.better())
        self.admission.joined(now, wanted, hello.stream)

    def subscribe(self, listener: Subscriber, resume: Resume | None = None) -> bool:
        """Let `listener` have what is published under its name from now on, and a history where there is one.

        A listener that resumes gets what it missed first; returns whether it got all of it, without a break.
        """
        name = listener.options.stream
        self.listeners.setdefault(name, set()).add(listener)
        self.cluster.wanted(name)
        stream = self.heard(name)
        resumed = False
        if resume is not None:
            if stream is not None and stream.fan_out.resume(listener, resume):
                return True
            past = self.past.get(resume.session)
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
        if (heard := self.heard(name)) is not None:
            heard.fan_out.leave(listener, lost=lost)
        if not group:
            self.cluster.unwanted(name)

    # From the streams ----------------------------------------------------------------------------------------------------------------

    def packet_waited(self, now_s: float, wait_s: float) -> None:
        self.admission.waits.note(now_s, wait_s)

    def decoder_closed(self, stream: Feeder) -> None:
        self.admission.left(stream.info.name, "decode")

    def stream_lost(self, stream: Stream, packets: int, reason: str) -> None:
        data = {"stream": stream.info.name, "reason": reason, "packets": packets, "count": 1}
        self.observe(ServerEvent("stream.gap", data, f"{stream.info.name} {reason}", ("packets", "count")))

    def stream_gone(self, stream: Stream) -> None:
        """Forget `stream`. What its listeners and its publisher may have missed is kept as long as they may resume."""
        if self.streams.get(stream.info.name) is not stream:
            return
        del self.streams[stream.info.name]
        self.cluster.stream_gone(stream)
        counts = {"packets": stream.totals.emitted, "dropped": stream.totals.dropped, "seconds": round(time.time() - stream.since, 1)}
        self.observe(ServerEvent("stream.ended", {"stream": stream.info.name, "reason": stream.end_reason, **counts}))
        self.admission.left(stream.info.name)
        if not self.limits.resume_s:
            return
        self._remember(stream.fan_out)
        if stream.complete:
            self._complete[stream.lease.secret] = stream
            asyncio.get_running_loop().call_later(self.limits.resume_s, self._complete.pop, stream.lease.secret, None)

    def _remember(self, fan_out: FanOut) -> None:
        self.past[fan_out.session] = fan_out
        asyncio.get_running_loop().call_later(self.limits.resume_s, self.past.pop, fan_out.session, None)

    # From the cluster ----------------------------------------------------------------------------------------------------------------

    def follow(self, link: Feeder) -> None:
        """Let whoever waits for a stream of another node have it."""
        self.links[link.info.name] = link
        if self.heard(link.info.name) is link:
            for listener in self.listeners.get(link.info.name, set()):
                link.fan_out.join(listener, "joined")

    def link_gone(self, link: Feeder) -> None:
        """Forget `link`; its listeners have all of it, and may resume as those of a stream."""
        if self.links.get(link.info.name) is link:
            del self.links[link.info.name]
            self.admission.left(link.info.name)
            if self.limits.resume_s:
                self._remember(link.fan_out)
