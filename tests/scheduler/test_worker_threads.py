"""Several threads run one model: steps overlap, but never those of one stream, and the results are those of one thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from fake_engine import FakeEngine, ramp
from parity import assert_same_codes
from patience import TIMEOUT_S
from worker_rig import Collector, deliver, first_book, open_encoder

from streamcodec.codec import load
from streamcodec.scheduler.worker import Worker
from streamcodec.types import Codes, Samples, States

WORKERS = 3


class CrowdedEngine(FakeEngine):
    """Counts the steps that run at the same time, and fails if one stream is in two of them: its state would be used twice."""

    def __init__(self) -> None:
        super().__init__(WORKERS)
        self.max_parallel = 0
        self.twice: list[float] = []
        self._inside: list[float] = []
        self._lock = threading.Lock()
        self.all_inside = threading.Event()

    def encode(self, samples: Samples, states: States | None, n_q: Sequence[int], final: bool = False) -> tuple[Codes, States]:
        mine = [float(row[0]) // 1000 for row in samples]  # a stream's samples name it
        with self._lock:
            self.twice += [name for name in mine if name in self._inside]
            self._inside += mine
            self.max_parallel = max(self.max_parallel, len(self._inside))
            if len(self._inside) >= WORKERS:
                self.all_inside.set()
        result = super().encode(samples, states, n_q, final)
        with self._lock:
            for name in mine:
                self._inside.remove(name)
        return result


@pytest.fixture
def engine() -> CrowdedEngine:
    return CrowdedEngine()


@pytest.fixture
def worker(engine: CrowdedEngine) -> Iterator[Worker]:
    worker = Worker(engine, deliver, max_batch=1)
    worker.start()
    yield worker
    engine.gate.set()
    worker.stop()


def test_as_many_steps_run_at_once_as_the_engine_has_workers(worker, engine):
    engine.gate.clear()
    sinks = [Collector() for _ in range(WORKERS + 2)]
    for i, sink in enumerate(sinks):
        stream = open_encoder(worker, sink)
        stream.feed(ramp(3, first=1000 * i))
        stream.end()
    assert engine.all_inside.wait(TIMEOUT_S)
    engine.gate.set()
    for sink in sinks:
        sink.wait_ended()
    assert engine.max_parallel == WORKERS


def test_a_stream_is_never_in_two_steps_and_its_packets_keep_their_order(worker, engine):
    sinks = [Collector() for _ in range(5)]
    streams = [open_encoder(worker, sink) for sink in sinks]
    for _ in range(20):
        for i, stream in enumerate(streams):
            stream.feed(ramp(6, first=1000 * i))
    for stream in streams:
        stream.end()
    for i, sink in enumerate(sinks):
        sink.wait_ended()
        assert first_book(sink) == [1000 * i + frame for frame in range(6)] * 20
    assert not engine.twice
    assert worker.stats.rows == 5 * 40


def test_a_stream_closed_during_its_step_gets_no_result(worker, engine):
    dropped, beside = Collector(), Collector()
    gone = open_encoder(worker, dropped)
    engine.hold(gone)
    gone.close()
    # A second thread keeps the books meanwhile: it has seen the close when it gives this stream's step to the engine.
    other = open_encoder(worker, beside)
    other.feed(ramp(3, first=1000))
    other.end()
    engine.gate.set()
    beside.wait_ended()
    worker.stop()
    assert dropped.results == []


def test_a_failing_step_does_not_end_its_thread(worker):
    for _ in range(2 * WORKERS):
        sink = Collector()
        stream = open_encoder(worker, sink)
        stream.feed(ramp(3, first=666))
        sink.wait_ended()
        assert str(sink.error) == "the engine broke"
    good = Collector()
    stream = open_encoder(worker, good)
    stream.feed(ramp(3))
    stream.end()
    good.wait_ended()
    assert first_book(good) == [0, 1, 2]


@pytest.mark.parametrize("name", ["torch", "openvino", "onnx"])
def test_streams_on_two_workers_get_the_codes_they_would_get_alone(name, speech, monkeypatch):
    monkeypatch.delenv("STREAMCODEC_ENGINE", raising=False)
    codec = load(engine=name, threads=2, workers=2)
    assert codec.engine.workers == 2
    rng = np.random.default_rng(3)
    clips = [speech[at : at + 24_000] for at in rng.integers(0, len(speech) - 24_000, 8)]
    sinks = [Collector() for _ in clips]
    worker = Worker(codec.engine, deliver, max_batch=3)
    worker.start()
    streams = [worker.open_encoder(sink, n_q=8, packet_frames=6, start="exact") for sink in sinks]
    for part in range(10):
        for stream, clip in zip(streams, clips, strict=True):
            stream.feed(clip[2_400 * part : 2_400 * (part + 1)])
    for stream in streams:
        stream.end()
    for sink in sinks:
        sink.wait_ended()
    worker.stop()
    for sink, clip in zip(sinks, clips, strict=True):
        assert_same_codes(codec, np.concatenate(sink.outputs, axis=1), codec.encode(clip, bandwidth=6.0), clip)
