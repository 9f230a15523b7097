"""The load's process: publishers and listeners on real WebSocket connections, all on one event loop, at as little cost as may be.

Publishers and server read one clock, so timestamps need no estimate of it.
"""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from weakref import WeakSet

import numpy as np

from benchmarks.capacity.connection import LoadConnection, close_all
from benchmarks.capacity.ledger import CODES, PCM, Sample, Schedule, Voice, speech_from
from benchmarks.harness.machine import usage
from benchmarks.harness.processes import run_loop
from streamcodec.audio import float_to_pcm
from streamcodec.gc_freeze import freeze_gc
from streamcodec.protocol import (
    Ended,
    Error,
    Gap,
    ListenHello,
    Message,
    Packet,
    PublishHello,
    Refuse,
    StreamEnd,
    Welcome,
    payload_frames,
    unwrap_timestamp,
)
from streamcodec.protocol.transitions import State

__all__ = ["WebSocketLoad", "generate"]

_RATE, _HOP, _BITS = 24_000, 320, 10
_MAX_UNSENT_S = 1.0  # as the client library: beyond it the newest audio is not sent, and the server is told
_TICK_S = 0.001


@dataclass(frozen=True)
class WebSocketLoad:
    """What every publisher and listener is like; `pcm_listeners` streams at most have a listener of PCM beside that of codes."""

    url: str
    fingerprint: str
    packet_frames: int
    bandwidth: float
    block_s: float
    pcm_listeners: int
    joins_per_s: float
    seed: int = 0

    @property
    def packet_s(self) -> float:
        """A packet's duration."""
        return self.packet_frames * _HOP / _RATE


def generate(pipe: Pipe, load: WebSocketLoad) -> None:
    """Run the load: takes ("want", n), "collect", "usage" and "stop" from `pipe`, and answers the last three."""
    run_loop(_LoadProcess(load).run(pipe))


class _Speaker:
    """A publisher with its listeners, from the first connection to the last."""

    def __init__(self, owner: _LoadProcess, voice: Voice, with_pcm: bool) -> None:
        self.voice = voice
        self.name = f"voice-{voice.index:05}"
        self.answered = False  # the server has said yes or no
        self.ending = False
        self.over = False
        self.next_due = [0.0, 0.0]  # by kind
        self.last_due = 0.0
        self._owner = owner
        self._unsent = 0
        self._publisher: LoadConnection | None = None
        self._listeners: list[LoadConnection] = []
        self._expected = 1 + with_pcm
        self._ready = 0
        self._listen(CODES)
        if with_pcm:
            self._listen(PCM)

    def _connect(self, hello: PublishHello | ListenHello, heard: Callable[[Message], None]) -> LoadConnection:
        connection = LoadConnection(self._owner.load.url, hello, heard, self._lost)
        connection.open()
        self._owner.connections.add(connection)
        return connection

    def _listen(self, kind: int) -> None:
        load = self._owner.load
        hello = ListenHello(stream=self.name, format="codes" if kind == CODES else "pcm_s16le", model=load.fingerprint)
        self._listeners.append(self._connect(hello, lambda message: self._hear(message, kind)))

    def _hear(self, message: Message, kind: int) -> None:
        if isinstance(message, Packet):
            now = time.perf_counter()
            size = len(message.payload)
            frames = payload_frames(message.payload, message.n_q, _BITS) if kind == CODES else size // 2 // _HOP
            due = unwrap_timestamp(message.timestamp, round(now * 1e6)) / 1e6 + frames * _HOP / _RATE
            self._owner.packets.extend((due, now, kind))
            self.next_due[kind] = due + self._owner.load.packet_s
        elif isinstance(message, Gap):
            packet_s = self._owner.load.packet_s
            for at in range(message.count):
                self._owner.dropped.extend((self.next_due[kind] + at * packet_s, kind))
            self.next_due[kind] += message.count * packet_s
            self._owner.gaps += 1
        elif isinstance(message, Welcome):
            self._ready += 1
            if self._ready == self._expected:
                self._publish()
        elif isinstance(message, StreamEnd):
            if kind == CODES:
                self._close()
        elif isinstance(message, (Refuse, Error)):
            self._refused(message)

    def _publish(self) -> None:
        load = self._owner.load
        hello = PublishHello(
            stream=self.name,
            format="pcm_s16le",
            sample_rate=_RATE,
            channels=1,
            bandwidth=load.bandwidth,
            packet_frames=load.packet_frames,
        )
        self._publisher = self._connect(hello, self._answer)

    def _answer(self, message: Message) -> None:
        if isinstance(message, Welcome):
            self.answered = True
            if self.ending:
                self.end()
                return
            self._owner.schedule.begin(self.voice, time.perf_counter())
            self.last_due = self.voice.begun + self._owner.load.packet_s
            self.next_due = [self.last_due] * 2
        elif isinstance(message, (Refuse, Error)):
            self._refused(message)
        elif isinstance(message, Ended):
            assert self._publisher is not None
            self._publisher.close()

    def _refused(self, message: Refuse | Error) -> None:
        if self.answered:
            self._owner.failures.append(f"{self.name}: {message.code}: {message.reason}")
        else:
            self._owner.refused.append((str(message.code), message.reason))
        self._close()

    def send(self, due: float, payload: bytes, block_s: float) -> None:
        """Send what fell due, or leave it out where the socket still holds a second of audio, and tell the server so."""
        publisher = self._publisher
        if publisher is None or publisher.session.state is not State.PUBLISHING:
            return
        self.last_due = due
        if publisher.unsent > _MAX_UNSENT_S * _RATE * 2:
            self._unsent += 1
            return
        if self._unsent:
            publisher.session.send_gap(self._unsent, "uplink")
            self._unsent = 0
        publisher.session.send_packet(payload, round((due - block_s) * 1e6))
        publisher.flush()

    def waiting(self) -> list[float]:
        """When the packets fell due that a listener of codes has not got yet."""
        if self.over or not self.answered:
            return []
        packet_s = self._owner.load.packet_s
        missing = int((self.last_due - self.next_due[CODES]) / packet_s + 1 + 1e-6) if self.voice.sent else 0
        return [self.next_due[CODES] + at * packet_s for at in range(missing)]

    def end(self) -> None:
        """Say nothing more; the connections close when all that was said has come."""
        self.ending = True
        self._owner.schedule.leave(self.voice)
        if self._publisher is not None and self._publisher.session.state is State.PUBLISHING:
            self._publisher.session.end()
            self._publisher.flush()

    def _lost(self, reason: str) -> None:
        if not self.over:
            self._owner.failures.append(f"{self.name}: {reason}")
        self._close()

    def _close(self) -> None:
        self.over = True
        self._owner.schedule.leave(self.voice)
        for connection in (*self._listeners, self._publisher):
            if connection is not None:
                connection.close()


class _LoadProcess:
    """All speakers, fed on time by one coroutine."""

    def __init__(self, load: WebSocketLoad) -> None:
        self.load = load
        self.schedule = Schedule(load.packet_s, load.block_s, load.seed)
        self.packets, self.dropped, self._handed = array("d"), array("d"), array("d")
        self.gaps = 0
        self.refused: list[tuple[str, str]] = []
        self.failures: list[str] = []
        self.connections: WeakSet[LoadConnection] = WeakSet()
        self._speakers: dict[int, _Speaker] = {}
        self._wanted = 0
        self._asked = 0  # speakers that were let in, wait for an answer, or were refused, less those who left
        self._block = round(load.block_s * _RATE)
        clip, self._clip_size = speech_from(load.packet_frames, _HOP)
        self._clip = float_to_pcm(clip, "pcm_s16le")

    async def run(self, pipe: Pipe) -> None:
        """Feed and obey until told to stop."""
        freeze_gc()
        feeder = asyncio.create_task(self._feed())
        try:
            while (command := await asyncio.to_thread(pipe.recv)) != "stop":
                if command == "collect":
                    pipe.send(self._collect())
                elif command == "usage":
                    pipe.send(usage())
                else:
                    self._wanted = command[1]
                if feeder.done():
                    feeder.result()
        finally:
            feeder.cancel()
        await close_all(self.connections)
        pipe.send("stopped")

    async def _feed(self) -> None:
        next_join = 0.0
        while True:
            now = time.perf_counter()
            if self._asked < self._wanted and now >= next_join:
                voice = self.schedule.make()
                self._speakers[voice.index] = _Speaker(self, voice, len(self.schedule) < self.load.pcm_listeners)
                self._asked += 1
                next_join = now + 1 / self.load.joins_per_s
            self._let_go()
            for due, voice in self.schedule.take(now):
                at = (voice.offset + voice.sent * self._block) % self._clip_size
                self._speakers[voice.index].send(due, self._clip[2 * at : 2 * (at + self._block)], self.load.block_s)
                voice.sent += 1
                self._handed.extend((due, time.perf_counter() - due))
            until = min(self.schedule.next_due, now + 0.05, next_join if self._asked < self._wanted else np.inf)
            # Timers count milliseconds: shorter waits would only turn the loop in vain.
            await asyncio.sleep(max(_TICK_S, until - time.perf_counter()))

    def _let_go(self) -> None:
        if self._asked > self._wanted:
            staying = [speaker for speaker in self._speakers.values() if not speaker.ending and not speaker.over]
            for speaker in reversed(staying):
                if self._asked <= self._wanted:
                    break
                speaker.end()
                self._asked -= 1
            self._asked = min(self._asked, self._wanted)  # those who were refused or lost need not leave
        if any(speaker.over for speaker in self._speakers.values()):
            self._speakers = {index: speaker for index, speaker in self._speakers.items() if not speaker.over}

    def _collect(self) -> Sample:
        waiting = [due for speaker in self._speakers.values() for due in speaker.waiting()]
        sample = Sample(
            packets=np.array(self.packets, np.float64).reshape(-1, 3),
            dropped=np.array(self.dropped, np.float64).reshape(-1, 2),
            handed=np.array(self._handed, np.float64).reshape(-1, 2),
            waiting=np.array(waiting, np.float64),
            live=len(self.schedule),
            gaps=self.gaps,
            refused=self.refused,
            failures=self.failures,
        )
        self.packets, self.dropped, self._handed = array("d"), array("d"), array("d")
        self.gaps, self.refused, self.failures = 0, [], []
        return sample
