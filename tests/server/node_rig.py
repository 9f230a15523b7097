"""Servers without sockets, publishers as lists of messages, and listeners that note what they get: streams move from one to another."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
from server_rig import offline_codec, small_limits, until

from streamcodec.protocol import Gap, Packet, PublishHello, Report, Resume, StreamEnd, StreamStart, now_us, pack_codes
from streamcodec.scheduler.worker import Calls, Worker
from streamcodec.server.capacity.calibration import measured_admission
from streamcodec.server.draining import Draining
from streamcodec.server.echo import EchoTests
from streamcodec.server.fanout.fan_out import FanOut
from streamcodec.server.fanout.subscriber import Subscriber, SubscriberOptions
from streamcodec.server.info import StreamInfo
from streamcodec.server.metrics import Metrics
from streamcodec.server.registry import Registry
from streamcodec.server.snapshot import StreamSnapshot
from streamcodec.server.stream import Stream

LIMITS = small_limits(resume_s=30.0)
NAME = "moving"


class Noted:
    """An entry of a fan-out that notes what comes by it."""

    def __init__(self, events: list[Any], fan_out: FanOut) -> None:
        self.events = events
        self.fan_out = fan_out
        self.recorded = False

    def packet(self, packet: Packet, frames: int) -> None:
        self.events.append(packet)
        self.fan_out.packet(packet, frames)

    def gap(self, gap: Gap) -> None:
        self.events.append(gap)
        self.fan_out.gap(gap)

    def epoch(self, reason: str) -> None:
        self.events.append(("epoch", self.fan_out.numbering.epoch, reason))
        self.fan_out.epoch(reason)

    def expect_burst(self) -> None:
        self.fan_out.expect_burst()

    def moved(self) -> None:
        self.fan_out.moved()

    def end(self, message: StreamEnd, finished: Any) -> None:
        self.events.append(message)
        self.fan_out.end(message, finished)


class Node:
    """A worker and a registry; `events` are what all streams brought to their fan-outs."""

    def __init__(self, engine: Any, admission: Any) -> None:
        self.loop = asyncio.get_running_loop()
        self.events: list[Any] = []
        self.worker = Worker(engine, self._deliver)
        self.registry = Registry(
            self.worker, LIMITS, Metrics(), admission, Draining(self.loop.time), echo=EchoTests(LIMITS, allowed=False), wrapped=self._noted
        )

    def _noted(self, info: StreamInfo, fan_out: FanOut) -> Noted:  # noqa: ARG002
        return Noted(self.events, fan_out)

    def _deliver(self, calls: Calls) -> None:
        def make() -> None:
            for sink, result in calls:
                sink(result)

        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(make)


@contextlib.asynccontextmanager
async def nodes(count: int, engine: Any = None) -> AsyncIterator[list[Node]]:
    engine = engine or offline_codec().engine
    made = [Node(engine, await measured_admission(engine, LIMITS, 16)) for _ in range(count)]
    for node in made:
        node.worker.start()
    try:
        yield made
    finally:
        for node in made:
            for stream in list(node.registry.streams.values()):
                stream.end("the test is over")
                await until(stream.ended.is_set)
            assert await asyncio.to_thread(node.worker.stop)


class Listener:
    """Somebody who listens and takes whatever comes."""

    def __init__(self, format: Any, events: list[Any] | None = None) -> None:
        self.events: list[Any] = [] if events is None else events
        self.subscriber = Subscriber(SubscriberOptions(NAME, format), LIMITS, clock=lambda: 0.0)
        self.subscriber.ready = self._take

    def _take(self) -> None:
        while taken := self.subscriber.take(100):
            self.events += taken
            self.subscriber.reported(Report(received=self.next_seq))

    @property
    def starts(self) -> list[StreamStart]:
        return [event for event in self.events if isinstance(event, StreamStart)]

    @property
    def next_seq(self) -> int:
        for event in reversed(self.events):
            if isinstance(event, (Gap, StreamEnd)):
                return event.next_seq
            if isinstance(event, Packet):
                return event.seq + 1
            if isinstance(event, StreamStart):
                return event.live_seq
        return 0

    def goes_on_at(self, node: Node) -> Listener:
        """The same listener with another connection, which resumes."""
        again = Listener(self.subscriber.format, self.events)
        last = self.starts[-1]
        assert last.session is not None
        resumed = node.registry.subscribe(again.subscriber, Resume(session=last.session, epoch=last.epoch, next_seq=self.next_seq))
        assert resumed, "nothing is missing"
        return again

    def packets(self) -> dict[int, Packet]:
        found: dict[int, Packet] = {}
        for event in self.events:
            if isinstance(event, Packet):
                assert event.seq not in found
                found[event.seq] = event
        return found


def pcm_hello(rate: int = 48_000, channels: int = 2, **options: Any) -> PublishHello:
    options = {"bandwidth": 6.0, "silence_db": -50.0, **options}
    return PublishHello(stream=NAME, format="pcm_s16le", sample_rate=rate, channels=channels, token="not told", **options)


def codes_hello() -> PublishHello:
    return PublishHello(stream=NAME, format="codes", model=offline_codec().fingerprint, bandwidth=6.0)


def speech_with_pauses(seconds: float, rate: int, channels: int, seed: int = 0) -> Any:
    """Samples int16 [T, C]: a gliding tone, then a second of next to nothing, over and over."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * rate)) / rate
    loud = np.where(t % 1.7 < 0.9, 0.4, 0.0)
    x = loud * np.sin(2 * np.pi * (150 + 70 * np.sin(2 * t)) * t) + rng.normal(0, 1e-4, (channels, len(t)))
    return np.rint(x * 32_767).astype("<i2").T


def pcm_messages(
    hello: PublishHello, seconds: float, *, lost: int | None = None, interrupted: int | None = None, seed: int = 0
) -> list[Any]:
    """A publisher's messages of any size. Before message `lost` a few are missing; before `interrupted` a new epoch begins."""
    assert hello.sample_rate is not None and hello.channels is not None
    rng, begins = np.random.default_rng(seed), now_us()
    samples = speech_with_pauses(seconds, hello.sample_rate, hello.channels, seed)
    messages: list[Any] = []
    at = seq = epoch = 0
    while at < len(samples):
        size = int(rng.integers(1, hello.sample_rate // 10))
        if len(messages) == lost:
            messages.append(Gap(first_seq=seq, count=3, reason="publisher"))
            seq, at = seq + 3, at + 3 * size
        elif len(messages) == interrupted:
            epoch, at = epoch + 1, at + size
        timestamp = (begins + 1_000_000 * at // hello.sample_rate) % 2**32
        messages.append(Packet(seq, epoch, timestamp, 0, samples[at : at + size].tobytes()))
        seq, at = seq + 1, at + size
    return messages


def codes_messages(count: int, *, lost: int | None = None, interrupted: int | None = None, seed: int = 0) -> list[Any]:
    """The same of a publisher of codes, one packet in each message."""
    rng, begins = np.random.default_rng(seed), now_us()
    messages: list[Any] = []
    seq = epoch = 0
    while len(messages) < count:
        if len(messages) == lost:
            messages.append(Gap(first_seq=seq, count=3, reason="publisher"))
            seq += 3
        epoch += len(messages) == interrupted
        payload = pack_codes(rng.integers(0, 1024, (8 if seq % 9 else 1, 6)), 10)
        messages.append(Packet(seq, epoch, (begins + 80_000 * seq) % 2**32, 8 if seq % 9 else 1, payload))
        seq += 1
    return messages


def publish(node: Node, hello: PublishHello) -> Stream:
    stream = node.registry.publish(hello)
    stream.attach(node, lambda exc: None, lambda: None)  # noqa: ARG005
    node.registry.announce(stream)
    return stream


def feed(stream: Stream, messages: list[Any]) -> None:
    """Send those of the messages that the stream does not have yet."""
    expected = stream.lease.next_seq
    for message in messages:
        if isinstance(message, Gap):
            if message.first_seq >= expected:
                stream.publisher_gap(message)
        elif message.seq >= expected:
            stream.feed(message)


async def ended(stream: Stream) -> None:
    stream.publisher_end()
    await until(stream.ended.is_set)


def over_the_wire(value: StreamSnapshot) -> StreamSnapshot:
    """The snapshot as another server with the same model reads it."""
    codec = offline_codec()
    return StreamSnapshot.from_bytes(value.to_bytes(codec.fingerprint, codec.engine), codec.fingerprint, codec.engine)
