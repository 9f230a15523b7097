"""The two processes of a latency run: one is the server, the other publishes and listens, and has the links and the devices."""

from __future__ import annotations

import asyncio
import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from benchmarks.harness.models import Loading
from benchmarks.harness.processes import Processes, Served, Serving, Trace, run_loop, serve
from benchmarks.latency.device import Device, Handed
from benchmarks.link import Conditions, Link
from benchmarks.link.netns import Namespace
from streamcodec.audio import PlayoutPolicy, bundled_clip
from streamcodec.client import Player, PublishOptions, listen, now_us, publish
from streamcodec.errors import ConnectionFailed, StreamCodecError
from streamcodec.gc_freeze import freeze_gc
from streamcodec.protocol import Gap, Packet, StreamEnd
from streamcodec.types import Samples

__all__ = ["Ear", "Heard", "HeardPacket", "Ran", "Setup", "run", "spoken"]


STREAM = "speech"
RATE = 24_000
HOP = 320
_LEAD_S = 1.0
_PATIENCE_S = 20.0
_RETRY_S = 0.1


@dataclass(frozen=True)
class Ear:
    """One listener: the link that it is behind (None: loopback itself), its device's clock, what it asks for (kbps), and what it holds back
    at least (s), as `play --slack-ms`."""

    name: str
    link: Conditions | None = None
    drift_ppm: float = 0.0
    bandwidth: float | None = None
    min_bandwidth: float | None = None
    slack_s: float = PlayoutPolicy.floor_s


@dataclass(frozen=True)
class Setup:
    """One run: `seconds` of speech to all `ears`; the publisher is behind `mouth`. `keep` keeps what was decoded."""

    seconds: float
    ears: tuple[Ear, ...]
    mouth: Conditions | None = None
    packet_frames: int = 6
    bandwidth: float = 6.0
    model: str = "speech-24k"
    threads: int = 1
    keep: bool = False

    @property
    def packet_s(self) -> float:
        """Seconds of a packet."""
        return self.packet_frames * HOP / RATE

    @property
    def packets(self) -> int:
        """How many there are, the last one maybe filled up."""
        blocks = int(self.seconds * RATE / (self.block_frames * HOP) + 1e-9)
        return -(-blocks * self.block_frames // self.packet_frames)

    @property
    def block_frames(self) -> int:
        """Frames that the simulated microphone hands over at once: 13.3 or 26.7 ms, so that packets end with a block."""
        return 2 if self.packet_frames % 2 == 0 and self.packet_frames > 2 else 1


@dataclass(frozen=True, slots=True)
class HeardPacket:
    """A packet at its listener, `now_us()`: its last sample captured, received, decoded; `timestamp` is the wire's."""

    timestamp: int
    n_q: int
    captured: int
    received: int
    decoded: int


@dataclass
class Heard:
    """What one listener got: packets, what its device did with each, gaps (when, how many, why) and broken connections (when, why)."""

    packets: list[HeardPacket] = field(default_factory=list)
    handed: list[Handed] = field(default_factory=list)
    decoded: list[Samples] = field(default_factory=list)
    gaps: list[tuple[int, int, str]] = field(default_factory=list)
    broken: list[tuple[int, str]] = field(default_factory=list)
    underruns: int = 0
    jumps: int = 0
    dropped_s: float = 0.0
    shortened_s: float = 0.0
    lengthened_s: float = 0.0
    steering: float = 0.0
    withheld_s: float = 0.0
    resumed: int = 0


@dataclass
class Ran:
    """A whole run: when the first sample was captured (us), when each block was offered, broken connections, and the server's traces."""

    begun: int = 0
    offered: list[int] = field(default_factory=list)
    broken: list[tuple[int, str]] = field(default_factory=list)
    uplink_dropped_s: float = 0.0
    heard: dict[str, Heard] = field(default_factory=dict)
    traces: list[Trace] = field(default_factory=list)


def spoken(seconds: float) -> Samples:
    """The bundled clip [T] over and over."""
    return np.resize(bundled_clip()[0], round(seconds * RATE))


def run(setup: Setup, *, netns: bool = False) -> Ran:
    """Run both processes to their end, on proxies or, with `netns`, on network namespaces."""
    host = "0.0.0.0" if netns else "127.0.0.1"
    loading = Loading(setup.model, threads=setup.threads)
    with Processes() as processes:
        server = processes.start(serve, Serving(loading, host, warm_up_frames=setup.packet_frames, traces=True))
        ran: Ran = processes.start(talk, server.receive().port, setup, netns).receive()
        served: Served = server.ask("stop")
    ran.traces = served.traces
    return ran


def talk(pipe: Connection, port: int, setup: Setup, netns: bool) -> None:
    """Publish and listen; sends a `Ran`."""
    codecs = [Loading(setup.model)() for _ in setup.ears]
    for codec in codecs:
        codec.warm_up(setup.packet_frames)
    freeze_gc()
    pipe.send(run_loop(_talk(port, setup, netns, codecs)))


async def _talk(port: int, setup: Setup, netns: bool, codecs: list[Any]) -> Ran:
    ran = Ran(heard={ear.name: Heard() for ear in setup.ears})
    async with contextlib.AsyncExitStack() as stack:
        links: list[Link] = []

        async def url(conditions: Conditions | None) -> str:
            if conditions is None:
                return f"ws://127.0.0.1:{port}"
            if netns:
                namespace = stack.enter_context(Namespace(conditions, len(links)))
                link = Link(port, Conditions(cuts=conditions.cuts), namespace)
            else:
                link = Link(port, conditions)
            links.append(await stack.enter_async_context(link))
            return links[-1].url

        run = _LatencyRun(setup, ran, await url(setup.mouth))
        ears = [asyncio.create_task(run.hear(await url(ear.link), ear, codec)) for ear, codec in zip(setup.ears, codecs, strict=True)]
        # Everybody is there, and their clocks have met the server's.
        await asyncio.sleep(_LEAD_S)
        run.begun = time.perf_counter() + _LEAD_S
        ran.begun = round(1e6 * run.begun)
        for link in links:
            link.begin(run.begun)
        async with asyncio.timeout(setup.seconds + _LEAD_S + _PATIENCE_S):
            await run.speak()
        _, late = await asyncio.wait(ears, timeout=_PATIENCE_S)
        for task in late:
            task.cancel()
        for ear, task in zip(setup.ears, ears, strict=True):
            if task in late:
                ran.heard[ear.name].broken.append((now_us(), "the stream did not end"))
            elif (error := task.exception()) is not None:
                raise error
        await asyncio.gather(*late, return_exceptions=True)
    return ran


class _LatencyRun:
    """One run's tasks and when it begins (s, `time.perf_counter`)."""

    def __init__(self, setup: Setup, ran: Ran, url: str) -> None:
        self.begun = 0.0
        self._setup = setup
        self._ran = ran
        self._url = url
        self._over = False

    async def speak(self) -> None:
        """Publish block by block, each when its last sample is due; what falls due while there is no connection is lost."""
        setup, ran, at = self._setup, self._ran, 0
        sound = spoken(setup.seconds)
        size = setup.block_frames * HOP
        blocks = [sound[i : i + size] for i in range(0, len(sound) - size + 1, size)]
        ran.offered = [0] * len(blocks)
        while at < len(blocks):
            try:
                async with publish(
                    self._url, STREAM, PublishOptions(bandwidth=setup.bandwidth, packet_frames=setup.packet_frames)
                ) as publisher:
                    while at < len(blocks):
                        due = self.begun + (at + 1) * size / RATE
                        await asyncio.sleep(max(0.0, due - time.perf_counter()))
                        publisher.offer(blocks[at], round(1e6 * (self.begun + at * size / RATE)))
                        ran.offered[at] = now_us()
                        at += 1
                    self._over = True
                    await publisher.end()
                    ran.uplink_dropped_s += publisher.dropped_s
            except ConnectionFailed as exc:
                ran.broken.append((now_us(), str(exc)))
                await asyncio.sleep(_RETRY_S)
                at = max(at, int((time.perf_counter() - self.begun) * RATE / size))
        self._over = True

    async def hear(self, url: str, ear: Ear, codec: Any) -> None:
        """Listen to the end of the speech, over as many connections as it takes."""
        heard = self._ran.heard[ear.name]
        hears: dict[str, Any] = {"model": codec.fingerprint, "bandwidth": ear.bandwidth, "min_bandwidth": ear.min_bandwidth}
        with Device(RATE, ear.drift_ppm, ear.slack_s) as device, ThreadPoolExecutor(1, thread_name_prefix="decode") as thread:
            while True:
                try:
                    async with listen(url, STREAM, **hears) as listener:
                        try:
                            await self._play(listener, Player(codec), device, heard, thread)
                        finally:
                            heard.resumed += listener.resumed
                    break
                except (StreamCodecError, OSError) as exc:
                    heard.broken.append((now_us(), str(exc)))
                    if self._over:
                        break
                    await asyncio.sleep(_RETRY_S)
            stats = device.stats
            # What is in the buffer is played: its packets' turns are to be known.
            await asyncio.sleep(stats.buffered_s + 0.1)
        heard.handed, heard.withheld_s = device.handed(), device.withheld_s
        heard.underruns, heard.jumps, heard.dropped_s = stats.underruns, stats.jumps, stats.dropped_s
        heard.shortened_s, heard.lengthened_s, heard.steering = stats.shortened_s, stats.lengthened_s, stats.steering

    async def _play(self, listener: Any, player: Player, device: Device, heard: Heard, thread: ThreadPoolExecutor) -> None:
        loop, packet_us = asyncio.get_running_loop(), round(1e6 * self._setup.packet_s)
        async for event in listener:
            received = listener.received_us
            samples = await loop.run_in_executor(thread, player.feed, event)
            decoded = now_us()
            if isinstance(event, Packet) and samples.size:
                captured = listener.captured_us(event) + packet_us
                device.push(samples, received / 1e6, captured / 1e6, (decoded - received) / 1e6)
                listener.playing(event.seq, round(1000 * device.stats.margin_s))
                heard.packets.append(HeardPacket(event.timestamp, event.n_q, captured, received, decoded))
                if self._setup.keep:
                    heard.decoded.append(samples)
            elif isinstance(event, Gap):
                heard.gaps.append((received, event.count, event.reason))
            elif isinstance(event, StreamEnd) and self._over:
                return
