"""Publishers in process: one thread hands each packet to the worker when it falls due, the worker's threads note when its codes are out."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Any

import numpy as np

from benchmarks.capacity.ledger import CODES, Sample, Schedule, Voice, speech_from
from benchmarks.harness.machine import rss_mib
from streamcodec.codec import Codec
from streamcodec.scheduler.streams import Result, WorkerStream
from streamcodec.scheduler.worker import Calls, Worker

__all__ = ["InProcess"]

_LOOK_EVERY_S = 0.05


class InProcess:
    """A worker and the thread that feeds it. Nothing is dropped: what cannot be encoded in time waits."""

    def __init__(self, codec: Codec, packet_frames: int, bandwidth: float, *, joins_per_s: float, seed: int = 0) -> None:
        self._codec = codec
        self._frames = packet_frames
        self._packet_s = packet_frames / codec.frame_rate
        self._n_q = codec.config.n_q_for(bandwidth)
        self._clip, self._clip_size = speech_from(packet_frames, codec.hop_length)
        self._schedule = Schedule(self._packet_s, self._packet_s, seed)
        self._join_s = 1 / joins_per_s
        self._wanted = 0
        self._streams: list[_OpenStream] = []  # the newest last
        self._leaving: list[_OpenStream] = []
        self._opened: dict[int, WorkerStream] = {}
        self._out: deque[tuple[float, float, int]] = deque()
        self._handed: deque[tuple[float, float]] = deque()
        self._failures: deque[str] = deque()
        self._stopping = False
        self._feeder_cpu_s = 0.0
        self._worker = Worker(codec.engine, self._deliver)
        self._thread = threading.Thread(target=self._feed, name="capacity-feeder")

    def start(self) -> None:
        """Warm the model up and begin, with nobody speaking."""
        self._codec.warm_up(self._frames)
        self._worker.start()
        self._thread.start()

    def stop(self) -> None:
        """End both threads; what waits is forgotten."""
        self._stopping = True
        self._thread.join()
        self._worker.stop()

    def want(self, streams: int) -> None:
        """From now on have so many publishers: they join one by one and leave at once, bringing what they said to an end."""
        self._wanted = streams

    def collect(self) -> Sample:
        """What happened since the last call."""
        waiting = [stream.due(at) for stream in (*self._streams, *self._leaving) for at in range(stream.out, stream.voice.sent)]
        return Sample(
            packets=np.array(_drained(self._out), np.float64).reshape(-1, 3),
            handed=np.array(_drained(self._handed), np.float64).reshape(-1, 2),
            waiting=np.array(waiting, np.float64),
            live=len(self._schedule),
            failures=_drained(self._failures),
        )

    def usage(self) -> dict[str, dict[str, float]]:
        """Processor seconds so far and resident memory of the model's process, and of the load, which is a thread of it."""
        now = time.perf_counter()
        whole = {"cpu_s": time.process_time(), "at": now, "rss_mib": rss_mib()}
        return {"model": whole, "load": {"cpu_s": self._feeder_cpu_s, "at": now}}

    # The feeder's thread -------------------------------------------------------------------------------------------------------------

    def _feed(self) -> None:
        next_join = 0.0
        while not self._stopping:
            now = time.perf_counter()
            if len(self._streams) < self._wanted and now >= next_join:
                self._join(now)
                next_join = now + self._join_s
            while len(self._streams) > self._wanted:
                self._leave(self._streams.pop())
            for due, voice in self._schedule.take(now):
                at = (voice.offset + voice.sent * self._frames * self._codec.hop_length) % self._clip_size
                self._opened[voice.index].feed(self._clip[at : at + self._frames * self._codec.hop_length])
                voice.sent += 1
                self._handed.append((due, time.perf_counter() - due))
            self._leaving = [stream for stream in self._leaving if not stream.ended]
            self._feeder_cpu_s = time.thread_time()
            until = min(self._schedule.next_due, time.perf_counter() + _LOOK_EVERY_S)
            if len(self._streams) < self._wanted:
                until = min(until, next_join)
            if (pause := until - time.perf_counter()) > 0:
                time.sleep(pause)

    def _join(self, now: float) -> None:
        voice = self._schedule.make()
        stream = _OpenStream(voice, self._packet_s, self._out, self._failures)
        opened = self._worker.open_encoder(
            stream.take, n_q=self._n_q, packet_frames=self._frames, start=self._codec.engine.traits.default_live_start
        )
        self._opened[voice.index] = opened
        self._schedule.begin(voice, now)
        self._streams.append(stream)

    def _leave(self, stream: _OpenStream) -> None:
        self._schedule.leave(stream.voice)
        self._opened.pop(stream.voice.index).end()
        self._leaving.append(stream)

    def _deliver(self, calls: Calls) -> None:
        for sink, result in calls:
            sink(result)


class _OpenStream:
    """What a publisher's sink has seen: packets come out in order, so their number says when each fell due."""

    def __init__(self, voice: Voice, packet_s: float, record: deque[tuple[float, float, int]], failures: deque[str]) -> None:
        self.voice = voice
        self.out = 0
        self.ended = False
        self._packet_s = packet_s
        self._record = record
        self._failures = failures

    def due(self, number: int) -> float:
        """When packet `number` fell due (s)."""
        return self.voice.begun + (number + 1) * self._packet_s

    def take(self, result: Result) -> None:
        now = time.perf_counter()
        for _ in result.outputs:
            self._record.append((self.due(self.out), now, CODES))
            self.out += 1
        self.ended = result.ended
        if result.error is not None:
            self._failures.append(f"{type(result.error).__name__}: {result.error}")


def _drained(queue: deque[Any]) -> list[Any]:
    """What is in `queue` now, taken out; others may append meanwhile."""
    return [queue.popleft() for _ in range(len(queue))]
