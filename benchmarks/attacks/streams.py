"""The ordinary streams' process: publishers of PCM in real time, and a listener of codes for each, which notes how late each packet is."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from multiprocessing.connection import Connection as Pipe

import numpy as np

from benchmarks.capacity.connection import LoadConnection, close_all
from benchmarks.harness.processes import run_loop
from streamcodec.errors import printable
from streamcodec.gc_freeze import freeze_gc
from streamcodec.protocol import Error, Gap, ListenHello, Message, Packet, PublishHello, Refuse, Report, StreamEnd, StreamStart, Welcome

__all__ = ["OrdinaryStream", "OrdinaryStreams", "StreamLog", "stream"]

_FRAMES, _RATE, _HOP = 6, 24_000, 320
_PACKET_S = _FRAMES * _HOP / _RATE
_PATIENCE_S = 60.0
_REPORT_EVERY = 3


@dataclass(frozen=True)
class OrdinaryStreams:
    """How many streams there are, and where."""

    url: str
    fingerprint: str
    count: int


@dataclass
class StreamLog:
    """What one listener saw: packets by number, when each was due and how much later it came (s), and those that gaps named."""

    dues: list[float] = field(default_factory=list)
    came: dict[int, float] = field(default_factory=dict)
    told: set[int] = field(default_factory=set)
    error: str = ""

    def between(self, begin: float, end: float) -> tuple[int, list[float]]:
        """Of the packets that were due in between: how many did not come, and how late (ms) the others were."""
        due = [seq for seq, at in enumerate(self.dues) if begin <= at < end]
        late = [1000 * (self.came[seq] - self.dues[seq]) for seq in due if seq in self.came]
        return len(due) - len(late), late


def stream(pipe: Pipe, streams: OrdinaryStreams) -> None:
    """Run the streams until told to stop: sends "ready", and a list of `StreamLog` at the end."""
    pipe.send(run_loop(_run(pipe, streams)))


async def _run(pipe: Pipe, streams: OrdinaryStreams) -> list[StreamLog]:
    freeze_gc()
    running = [OrdinaryStream(streams, at) for at in range(streams.count)]
    for one in running:
        await one.start()
    pipe.send("ready")
    await asyncio.to_thread(pipe.recv)
    for one in running:
        await one.stop()
    return [one.log for one in running]


class OrdinaryStream:
    """A publisher and its listener."""

    def __init__(self, streams: OrdinaryStreams, at: int) -> None:
        self.log = StreamLog()
        self._name = f"ordinary-{at}"
        self._rng = np.random.default_rng(at)
        self._begins = asyncio.Event()
        self._welcome = asyncio.Event()
        self._stopped = False
        listening = ListenHello(stream=self._name, format="codes", model=streams.fingerprint)
        publishing = PublishHello(stream=self._name, format="pcm_s16le", sample_rate=_RATE, channels=1, packet_frames=_FRAMES)
        self._listener = LoadConnection(streams.url, listening, self._hear, self._lost)
        self._publisher = LoadConnection(streams.url, publishing, self._answered, self._lost)

    async def start(self) -> None:
        """Connect both, and begin to send."""
        async with asyncio.timeout(_PATIENCE_S):
            self._publisher.open()
            await self._welcome.wait()
            self._sending = asyncio.create_task(self._send())
            self._listener.open()
            await self._begins.wait()

    async def stop(self) -> None:
        """Send nothing more, wait for what is under way, and leave."""
        self._stopped = True
        self._sending.cancel()
        await asyncio.sleep(_PACKET_S)
        await close_all([self._publisher, self._listener])

    async def _send(self) -> None:
        begun, packets = time.perf_counter(), self.log.dues
        while not self._stopped:
            due = begun + (len(packets) + 1) * _PACKET_S
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            sound = self._rng.normal(0, 3000, _FRAMES * _HOP).astype("<i2").tobytes()
            packets.append(due)
            if self._publisher.session.close_code is None:
                self._publisher.session.send_packet(sound, round((due - _PACKET_S) * 1e6))
                self._publisher.flush()

    def _answered(self, message: Message) -> None:
        if isinstance(message, Welcome):
            self._welcome.set()
        elif isinstance(message, Gap):
            self.log.told.update(range(message.first_seq, message.next_seq))
        elif isinstance(message, (Refuse, Error)):
            self._lost(f"the server said {message.code}; {printable(message.reason)}")
        else:
            self._lost(f"the server said {message.type!r}")

    def _hear(self, message: Message) -> None:
        if isinstance(message, StreamStart):
            self._begins.set()
        elif isinstance(message, Packet):
            self.log.came.setdefault(message.seq, time.perf_counter())
            if message.seq % _REPORT_EVERY == 0:
                self._listener.session.report(Report(received=message.seq + 1))
                self._listener.flush()
        elif isinstance(message, Gap):
            self.log.told.update(range(message.first_seq, message.next_seq))
        elif isinstance(message, StreamEnd):
            self._lost("the stream ended")

    def _lost(self, reason: str) -> None:
        if not self._stopped and not self.log.error:
            self.log.error = f"{self._name}: {reason}"
        for event in (self._welcome, self._begins):
            event.set()
