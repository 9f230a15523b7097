"""All streams and all listeners of this node, by name, and which newcomers are admitted among them."""

from __future__ import annotations

import asyncio
import time

from streamcodec.errors import RemoteProtocolError, WireCode
from streamcodec.protocol import ListenHello, PublishHello, Resume, Waiting
from streamcodec.scheduler.worker import Worker
from streamcodec.server.capacity.admission import Admission
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
from streamcodec.server.info import StreamInfo
from streamcodec.server.limits import Limits
from streamcodec.server.metrics import Metrics
from streamcodec.server.newcomers import Newcomers
from streamcodec.server.snapshot import StreamSnapshot
from streamcodec.server.stream import EntryWrapper, Stream

__all__ = ["Registry"]


class Registry:
    """All streams and all listeners, by name. `newcomers` are admitted or refused, and `observe` hears what happens.

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
    ) -> None:
        self.worker = worker
        self.limits = limits
        self.metrics = metrics
        self.admission = admission
        self.draining = draining
        self._echo = echo
        self._wrapped = wrapped
        self.cluster: Cluster = Alone()
        self.streams: dict[str, Stream] = {}
        self.links: dict[str, Feeder] = {}
        self._claiming: set[str] = set()  # names of streams of which it is not known yet whether they may begin
        self.listeners: dict[str, set[Subscriber]] = {}
        self.closing = False
        self.observe: Observer = lambda _: None
        self.past: dict[str, FanOut] = {}
        self._complete: dict[str, Stream] = {}  # those that their publishers have ended, by the publishers' secrets
        self.newcomers = Newcomers(self, worker.engine.config, limits, metrics, admission, echo)

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

    async def open(self, hello: PublishHello) -> Stream:
        """As `publish`, in a cluster: no other node has a stream of the name, and one that another node has moves here.

        Raises `RemoteProtocolError` STREAM_TAKEN, SERVER_FULL, UNKNOWN_SESSION or BAD_REQUEST.
        """
        if hello.resume is not None:
            moves = not self.closing and self.resumed(hello) is None
            return (await self._moved_here(hello) if moves else None) or self.publish(hello)
        stream = self.publish(hello)
        self._claiming.add(hello.stream)
        try:
            await self.cluster.claim(stream)
        except BaseException:
            self._withdraw(stream)
            raise
        finally:
            self._claiming.discard(hello.stream)
        return stream

    def publish(self, hello: PublishHello) -> Stream:
        """Open a stream, or go on with the one of this node that `hello` resumes.

        Raises `RemoteProtocolError` STREAM_TAKEN, SERVER_FULL, UNKNOWN_SESSION or BAD_REQUEST.
        """
        if self.closing:
            raise self.draining.farewell()
        if hello.resume is not None:
            if (found := self.resumed(hello)) is None:
                raise RemoteProtocolError(
                    WireCode.UNKNOWN_SESSION,
                    f"stream {hello.stream!r} has no such session: a lost one is kept for {self.limits.resume_s:g} s",
                )
            return found
        if hello.stream in self.streams:
            raise RemoteProtocolError(WireCode.STREAM_TAKEN, f"stream {hello.stream!r} has a publisher already")
        self.newcomers.admit(hello)
        echo = self._echo.has(hello.stream)
        stream = Stream(hello, self.worker, self.limits, self.metrics, self, self._echo_entry if echo else self._entry)
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
        stream = Stream(hello, worker, limits, self.metrics, self, self._entry, snapshot=snapshot, fan_out=fan_out)
        self.streams[name] = stream
        if fan_out is None:
            for listener in self.listeners.get(name, set()):
                stream.fan_out.join(listener)
        self.links.pop(name, None)
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
        if self.streams.get(stream.info.name) is stream:
            stream.abandon()

    async def _moved_here(self, hello: PublishHello) -> Stream | None:
        stream = await self.cluster.take_over(hello)
        if stream is not None:
            _check_same(hello, stream.hello)
        return stream

    def resumed(self, hello: PublishHello) -> Stream | None:
        """The stream that `hello` resumes, if this node has it. Raises `RemoteProtocolError` BAD_REQUEST where it asks for another one."""
        if (asked := hello.resume) is None:
            return None
        stream = self.streams.get(hello.stream)
        if stream is None or not stream.may_resume(asked.session):
            # The publisher may have missed only the answer to its end, and another stream may have the name by now.
            stream = self._complete.get(asked.session)
        if stream is None or stream.hello.stream != hello.stream:
            return None
        _check_same(hello, stream.hello)
        return stream

    def announce(self, stream: Stream) -> None:
        """Begin `stream` for all listeners that wait under its name."""
        info = stream.info
        self.observe(ServerEvent("stream.started", {"stream": info.name, "format": info.format, "bandwidth_kbps": info.bandwidth}))
        for listener in self.listeners.get(stream.info.name, set()):
            stream.fan_out.join(listener, "published")

    async def find(self, hello: ListenHello) -> None:
        """Have what there is to hear under a name, before somebody listens to it: another node may have it.

        Raises `RemoteProtocolError` TIMEOUT where a session that is resumed may go on and cannot be heard now.
        """
        if self.heard(hello.stream) is None:
            session = None if hello.resume is None or hello.resume.session in self.past else hello.resume.session
            await self.cluster.find(hello.stream, session)

    def expect(self, hello: ListenHello) -> Feeder | None:
        """The stream that `hello` wants to hear, if it is there. Raises `RemoteProtocolError` SERVER_FULL where there is no room."""
        self.newcomers.admit(hello)
        return self.heard(hello.stream)

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

    def stream_moved(self, stream: Stream) -> None:
        """Forget `stream`, which goes on at another server."""
        if self.streams.get(stream.info.name) is stream:
            del self.streams[stream.info.name]
            self.admission.left(stream.info.name)
            self.cluster.stream_moved(stream)

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
        """Let whoever waits for a stream of another node have it; those who listen to it already go on."""
        self.links[link.info.name] = link
        if self.heard(link.info.name) is link:
            there = link.fan_out.known
            for listener in self.listeners.get(link.info.name, set()) - there:
                link.fan_out.join(listener, "joined")

    def link_gone(self, link: Feeder) -> None:
        """Forget `link`. Where it is over its listeners have all of it, and may resume as those of a stream."""
        if self.links.get(link.info.name) is link:
            del self.links[link.info.name]
            self.admission.left(link.info.name)
            if link.ending and self.limits.resume_s:
                self._remember(link.fan_out)


def _check_same(hello: PublishHello, was: PublishHello) -> None:
    """Raise `RemoteProtocolError` BAD_REQUEST unless a publisher that resumes sends what it sent before."""
    for name in ("format", "sample_rate", "channels", "bandwidth", "packet_frames", "pace"):
        if getattr(hello, name) != getattr(was, name):
            raise RemoteProtocolError(WireCode.BAD_REQUEST, f"hello: {name} is {getattr(hello, name)!r}, it was {getattr(was, name)!r}")
