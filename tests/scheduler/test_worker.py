"""The worker runs many streams: each gets the results that it would get alone, and an error in one stream affects no other."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from fake_engine import HOP, FakeEngine, ramp
from made_up_models import FEW_LAYERS, save_made_up_model
from parity import assert_same_codes
from patience import TIMEOUT_S
from worker_rig import Collector, deliver, first_book, open_encoder

import streamcodec
from streamcodec.errors import AudioError, EngineHungError, LocalProtocolError
from streamcodec.scheduler.streams import Result
from streamcodec.scheduler.worker import Worker
from streamcodec.types import Samples


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def worker(engine: FakeEngine) -> Iterator[Worker]:
    worker = Worker(engine, deliver)
    worker.start()
    yield worker
    engine.gate.set()
    worker.stop()


# Runs ------------------------------------------------------------------------------------------------------------------------------------


def test_packets_come_whole_and_in_order_and_the_rest_comes_with_the_end(worker):
    sink = Collector()
    stream = open_encoder(worker, sink)
    for at in range(0, 40, 7):
        stream.feed(ramp(10)[at : at + 7])
    stream.end()
    sink.wait_ended()
    assert [codes.shape for codes in sink.outputs] == [(2, 3), (2, 3), (2, 3), (2, 1)]
    assert first_book(sink) == list(range(10))
    assert [r.ended for r in sink.results] == [False] * (len(sink.results) - 1) + [True]


def test_a_partly_filled_last_frame_is_encoded(worker):
    sink = Collector()
    stream = open_encoder(worker, sink)
    stream.feed(ramp(4)[:-1])
    stream.end()
    sink.wait_ended()
    assert first_book(sink) == [0, 1, 2, 3]


def test_a_stream_without_input_ends_without_packets(worker):
    sink = Collector()
    open_encoder(worker, sink).end()
    sink.wait_ended()
    assert sink.outputs == []
    assert len(sink.results) == 1


def test_a_restart_ends_the_run_and_what_follows_is_a_new_stream(worker):
    sink = Collector()
    stream = open_encoder(worker, sink)
    stream.feed(ramp(4))
    stream.restart()
    stream.feed(ramp(5, first=100))
    stream.restart()
    stream.restart()
    stream.end()
    sink.wait_ended(4)
    runs: list[list[int]] = [[]]
    for result in sink.results:
        runs[-1] += [int(code) for codes in result.outputs for code in codes[0]]
        if result.ended:
            runs.append([])
    assert runs == [[0, 1, 2, 3], [100, 101, 102, 103, 104], [], [], []]


def test_a_cut_ends_the_run_after_its_last_whole_packet_without_a_step_for_the_rest(worker, engine):
    sink, drained = Collector(), []
    stream = open_encoder(worker, sink, drain=lambda: drained.append(1) or ramp(1))
    stream.feed(ramp(5))
    stream.cut()
    stream.feed(ramp(4, first=20))
    stream.end()
    sink.wait_ended(2)
    assert first_book(sink) == [0, 1, 2, 20, 21, 22, 23, 0]
    assert [codes.shape[1] for codes in sink.outputs] == [3, 3, 2]
    assert [r.ended for r in sink.results].index(True) == 1
    assert len(drained) == 2, "what a drain holds back must not reach the next run"
    assert sum(final for _, _, final in engine.batches) == 1


def test_input_after_the_end_of_a_run_waits_until_that_run_is_processed(worker, engine):
    engine.gate.clear()
    sink = Collector()
    stream = open_encoder(worker, sink)
    stream.feed(ramp(7))
    stream.restart()
    stream.feed(ramp(3, first=50))
    stream.end()
    engine.gate.set()
    sink.wait_ended(2)
    assert first_book(sink) == [*range(7), 50, 51, 52]


def test_the_samples_that_drain_returns_are_encoded_with_their_run(worker):
    sink, held = Collector(), []

    def prepare(samples: Samples) -> Samples:
        held.append(samples[-HOP:])
        return samples[:-HOP]

    def drain() -> Samples:
        rest = np.concatenate(held)
        held.clear()
        return rest

    stream = open_encoder(worker, sink, prepare=prepare, drain=drain)
    stream.feed(ramp(4))
    stream.restart()
    stream.feed(ramp(3, first=20))
    stream.end()
    sink.wait_ended(2)
    assert first_book(sink) == [0, 1, 2, 3, 20, 21, 22]


def test_feeding_after_an_end_or_a_close_raises(worker):
    for finish in ("end", "close"):
        stream = open_encoder(worker, Collector())
        getattr(stream, finish)()
        for verb in (lambda s=stream: s.feed(ramp(1)), stream.restart, stream.end):
            with pytest.raises(LocalProtocolError, match="ended or closed"):
                verb()
        stream.close()


def test_a_decoder_can_have_another_start_after_a_restart(worker):
    sink = Collector()
    stream = worker.open_decoder(sink, n_q=1, start="primed", restart="exact")
    codes = np.zeros((1, 1), np.int32)
    for _ in range(2):
        stream.feed(codes)
        stream.restart()
    stream.end()
    sink.wait_ended(3)
    assert [float(samples[0]) for samples in sink.outputs] == [1000.0, 0.0]


# Batches ---------------------------------------------------------------------------------------------------------------------------------


def test_equal_steps_of_many_streams_share_one_call_and_none_exceeds_the_largest_batch(engine):
    worker = Worker(engine, deliver, max_batch=4)
    sinks = [Collector() for _ in range(10)]
    streams = [open_encoder(worker, sink, n_q=1 + i % 3) for i, sink in enumerate(sinks)]
    for i, stream in enumerate(streams):
        stream.feed(ramp(3, first=10 * i))
        stream.end()
    worker.start()
    for sink in sinks:
        sink.wait_ended()
    worker.stop()
    assert [size for kind, size, _ in engine.batches if kind == "encode"] == [4, 4, 2]
    for i, sink in enumerate(sinks):
        (codes,) = sink.outputs
        n_q = 1 + i % 3
        np.testing.assert_array_equal(codes, np.arange(10 * i, 10 * i + 3) + 10_000 * np.arange(n_q)[:, None])
    assert worker.stats.steps == 3
    assert worker.stats.rows == 10


def test_the_engine_is_called_on_the_worker_s_thread_only(worker, engine):
    sink, other = Collector(), Collector()
    stream = open_encoder(worker, sink, start="primed")
    decoder = worker.open_decoder(other, n_q=2, start="primed")
    stream.feed(ramp(3))
    decoder.feed(np.zeros((2, 3), np.int32))
    stream.restart()
    stream.end()
    decoder.end()
    sink.wait_ended(2)
    other.wait_ended()
    assert engine.threads == {"streamcodec-model-0"}


def test_many_rows_of_one_kind_do_not_delay_a_single_row_of_another(worker, engine):
    crowd = [Collector() for _ in range(20)]
    streams = [open_encoder(worker, sink) for sink in crowd]
    engine.hold(streams[0])
    lonely = Collector()
    decoder = worker.open_decoder(lonely, n_q=1, start="exact")
    decoder.feed(np.zeros((1, 3), np.int32))
    for stream in streams:
        stream.feed(ramp(30))
    engine.gate.set()
    lonely.wait(lambda c: bool(c.results))
    kinds = [kind for kind, _, _ in engine.batches]
    assert kinds.index("decode") == 1


def test_a_stream_with_a_backlog_does_not_delay_the_others(worker, engine):
    late, live = Collector(), Collector()
    backlog = open_encoder(worker, late)
    engine.hold(backlog)
    for first in range(3, 63, 3):
        backlog.feed(ramp(3, first))
    decoder = worker.open_decoder(live, n_q=1, start="exact")
    decoder.feed(np.zeros((1, 3), np.int32))
    fed = time.perf_counter()
    engine.gate.set()
    late.wait(lambda c: len(c.outputs) == 21)
    assert [kind for kind, _, _ in engine.batches].index("decode") == 1
    assert all(result.due < fed for result in late.results), "due since it was fed, wherever it stood in line"


# What breaks -----------------------------------------------------------------------------------------------------------------------------


def refuse(_: object) -> Samples:
    raise AudioError("audio holds nan at index 0, expected finite samples")


def stumble(_: object) -> Samples:
    raise IndexError("a bug of ours")


@pytest.mark.parametrize("prepare", [refuse, stumble])
def test_an_error_in_prepare_closes_that_stream_only(worker, prepare):
    good, bad = Collector(), Collector()
    fine, broken = open_encoder(worker, good), open_encoder(worker, bad, prepare=prepare)
    broken.feed(ramp(3))
    fine.feed(ramp(3))
    broken.feed(ramp(3))
    broken.end()
    fine.end()
    good.wait_ended()
    assert first_book(good) == [0, 1, 2]
    assert len(bad.results) == 1
    assert bad.results[0].ended
    assert isinstance(bad.error, (AudioError, IndexError))


def test_the_input_before_a_refused_block_is_delivered_in_whole_packets(engine):
    sink, worker = Collector(), Worker(engine, deliver)
    stream = open_encoder(worker, sink, prepare=lambda block: refuse(block) if block is None else block)
    stream.feed(ramp(7))
    stream.feed(None)
    stream.feed(ramp(7))
    stream.end()
    worker.start()
    sink.wait_ended()
    worker.stop()
    assert first_book(sink) == [0, 1, 2, 3, 4, 5]
    assert isinstance(sink.error, AudioError)


def test_an_error_in_finish_or_drain_closes_that_stream_only(worker):
    good, bad, worse = Collector(), Collector(), Collector()
    fine = open_encoder(worker, good)
    broken = [open_encoder(worker, bad, finish=stumble), open_encoder(worker, worse, drain=lambda: stumble(0))]
    for stream in [*broken, fine]:
        stream.feed(ramp(3))
        stream.end()
    for sink in (good, bad, worse):
        sink.wait_ended()
    assert first_book(good) == [0, 1, 2]
    assert isinstance(bad.error, IndexError)
    assert isinstance(worse.error, IndexError)


def test_an_error_of_the_engine_reaches_the_row_that_breaks_it_and_no_others_of_its_step(worker, engine):
    engine.gate.clear()
    sinks = {name: Collector() for name in ("poison", "beside", "decoder", "later")}
    poison, beside = open_encoder(worker, sinks["poison"]), open_encoder(worker, sinks["beside"])
    decoder = worker.open_decoder(sinks["decoder"], n_q=1, start="exact")
    decoder.feed(np.zeros((1, 1), np.int32))
    assert engine.entered.wait(TIMEOUT_S)
    poison.feed(np.full(3 * HOP, 666, np.float32))
    beside.feed(ramp(3))
    beside.end()
    engine.gate.set()
    sinks["poison"].wait_ended()
    assert str(sinks["poison"].error) == "the engine broke" and len(sinks["poison"].results) == 1
    sinks["beside"].wait_ended()
    assert ("encode", 2, False) in engine.batches, "both were in one step"
    assert sinks["beside"].error is None and first_book(sinks["beside"]) == [0, 1, 2]
    # The worker goes on, for those that were there and for new ones.
    later = open_encoder(worker, sinks["later"])
    later.feed(ramp(3))
    later.end()
    decoder.feed(np.zeros((1, 1), np.int32))
    decoder.end()
    for name in ("later", "decoder"):
        sinks[name].wait_ended()
        assert sinks[name].error is None
    assert len(sinks["decoder"].outputs) == 2


def test_a_step_that_hangs_is_abandoned_and_a_new_thread_serves_all_others(worker, engine):
    stuck, beside = Collector(), Collector()
    engine.hold(open_encoder(worker, stuck))
    other = open_encoder(worker, beside)
    other.feed(ramp(3, first=1000))
    other.end()
    [step] = worker.running
    # Only the step that hangs is held: those behind it find the engine well.
    held, engine.gate = engine.gate, threading.Event()
    engine.gate.set()
    assert worker.abandon(step)
    stuck.wait_ended()
    assert isinstance(stuck.error, EngineHungError) and "did not come back within" in str(stuck.error)
    beside.wait_ended()
    assert beside.error is None and first_book(beside) == [1000, 1001, 1002]
    assert not worker.abandon(step), "it is given up once"
    held.set()
    assert worker.stop(TIMEOUT_S) and len(stuck.results) == 1


def test_a_step_that_is_done_cannot_be_abandoned(worker, engine):
    sink = Collector()
    stream = open_encoder(worker, sink)
    engine.hold(stream)
    [step] = worker.running
    stream.end()
    engine.gate.set()
    sink.wait_ended()
    assert worker.running == [] and not worker.abandon(step)
    assert sink.error is None and first_book(sink) == [0, 1, 2]


def test_a_stop_does_not_wait_for_a_step_that_hangs(worker, engine):
    engine.hold(open_encoder(worker, Collector()))
    assert not worker.stop(0.0)
    engine.gate.set()
    assert worker.stop(TIMEOUT_S)


@pytest.mark.parametrize("ended_before", [False, True])
def test_a_closed_stream_is_dropped_with_its_waiting_input_whether_it_was_ended_or_not(worker, engine, ended_before):
    dropped, beside = Collector(), Collector()
    first = open_encoder(worker, beside)
    engine.hold(first)
    gone = open_encoder(worker, dropped)
    gone.feed(ramp(30))
    if ended_before:
        gone.end()
    gone.close()
    first.end()
    engine.gate.set()
    beside.wait_ended()
    assert first_book(beside) == [0, 1, 2]
    assert dropped.results == []
    assert worker.stats.rows == 1


# The real model --------------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["torch", "openvino", "onnx"])
def small_codec(request, tmp_path_factory):
    """A model of few channels that searches four paths, as the embedded one does, on each engine."""
    folder = tmp_path_factory.mktemp("small")
    return streamcodec.load(save_made_up_model(folder, search_beam=4, **FEW_LAYERS), engine=request.param)


def test_streams_that_join_and_leave_at_random_get_the_codes_they_would_get_alone(small_codec, speech):
    rng = np.random.default_rng(7)
    bandwidths = [1.5, 3.0, 6.0, 12.0, 24.0]
    plans = []
    for i in range(20):
        length = int(rng.integers(2_000, 12_000))
        at = int(rng.integers(0, len(speech) - length))
        plans.append((speech[at : at + length], bandwidths[i % 5], int(rng.choice([1, 6, 6, 25])), ("exact", "primed")[i % 2]))
    worker = Worker(small_codec.engine, deliver, max_batch=4)
    worker.start()
    sinks = [Collector() for _ in plans]
    blocks: list[tuple[int, Samples]] = []
    for i, (clip, *_) in enumerate(plans):
        cuts = np.sort(rng.integers(0, len(clip), 12))
        blocks += [(i, part) for part in np.split(clip, cuts)]
    # Shuffled between streams, in order within each: streams open with their first block and end with their last.
    order = rng.permutation([i for i, _ in blocks])
    queues = {i: [part for j, part in blocks if j == i] for i in range(len(plans))}
    streams: dict[int, Any] = {}
    for i in order:
        _, bandwidth, packet_frames, start = plans[i]
        if i not in streams:
            streams[i] = open_encoder(worker, sinks[i], small_codec.config.n_q_for(bandwidth), packet_frames, start)
        streams[i].feed(queues[i].pop(0))
        if not queues[i]:
            streams[i].end()
    for sink in sinks:
        sink.wait_ended()
    worker.stop()
    assert worker.stats.rows > worker.stats.steps, "nothing was batched"
    for sink, (clip, bandwidth, packet_frames, start) in zip(sinks, plans, strict=True):
        assert sink.error is None
        alone = small_codec.stream_encoder(bandwidth, packet_frames=packet_frames, start=start)
        expected = np.concatenate([*alone.feed(clip), *alone.flush()], axis=1)
        got = np.concatenate(sink.outputs, axis=1)
        assert_same_codes(small_codec, got, expected, clip, start)
        assert all(codes.shape[1] == packet_frames for codes in sink.outputs[:-1])


def test_decoders_of_different_n_q_share_steps_and_give_the_audio_of_each_alone(either_codec, speech):
    clip = speech[24_000:48_000]
    codes = either_codec.encode(clip, bandwidth=24.0).astype(np.int32)
    worker = Worker(either_codec.engine, deliver)
    sinks = []
    for n_q in (2, 4, 8, 16, 32):
        sink = Collector()
        sinks.append((n_q, sink))
        stream = worker.open_decoder(sink, n_q=n_q, start="exact")
        for at in range(0, codes.shape[1], 6):
            stream.feed(codes[:n_q, at : at + 6])
        stream.end()
    worker.start()
    for n_q, sink in sinks:
        sink.wait_ended()
        np.testing.assert_allclose(np.concatenate(sink.outputs), either_codec.decode(codes[:n_q]), atol=1e-4)
    worker.stop()
    assert worker.stats.rows > worker.stats.steps


@pytest.mark.parametrize("leave", ["end", "close"])
def test_an_ended_stream_and_its_owner_are_freed_without_a_garbage_collection(worker: Worker, leave: str) -> None:
    class Owner:
        def __init__(self) -> None:
            self.over = threading.Event()
            self.stream = worker.open_encoder(self.take, n_q=1, packet_frames=2, start="exact", prepare=self.prepare)

        def take(self, result: Result) -> None:
            if result.ended:
                self.over.set()

        def prepare(self, item: Samples) -> Samples:
            return item

    owner = Owner()
    owner.stream.feed(ramp(5 * HOP))
    getattr(owner.stream, leave)()
    assert leave == "close" or owner.over.wait(TIMEOUT_S)
    freed = weakref.ref(owner)
    gc.disable()
    try:
        del owner
        give_up = time.monotonic() + TIMEOUT_S
        while freed() is not None and time.monotonic() < give_up:
            time.sleep(0.01)
        assert freed() is None
    finally:
        gc.enable()
