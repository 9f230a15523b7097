"""The warm-up runs each packet length on every worker of the engine."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from fake_engine import HOP, FakeEngine
from patience import TIMEOUT_S

from streamcodec.engine.warming import warm_up


class InStep(FakeEngine):
    """Holds each step until every worker runs one, and counts the steps by kind, rows and frames."""

    def __init__(self, workers: int) -> None:
        super().__init__(workers)
        self.all_workers = threading.Barrier(workers)
        self.frames: Counter[tuple[str, int, float]] = Counter()
        self.ends: Counter[tuple[str, int, float]] = Counter()

    def _pass(self, kind: str, data: Any, final: bool) -> None:
        self.all_workers.wait(TIMEOUT_S)
        super()._pass(kind, data, final)
        frames = data.shape[-1] / (HOP if kind == "encode" else 1)
        (self.ends if final else self.frames)[kind, len(data), frames] += 1


@pytest.mark.parametrize("workers", [1, 3])
def test_each_packet_length_is_encoded_and_decoded_on_all_workers_at_the_same_time(workers: int) -> None:
    engine = InStep(workers)
    warm_up(engine, (1, 6))
    assert engine.frames == {(kind, 1, frames): 3 * workers for kind in ("encode", "decode") for frames in (1, 6)}
    assert len(engine.threads) == workers


@pytest.mark.parametrize("held", [0, 1])
def test_encoders_end_within_a_frame_and_decoders_that_hold_frames_back_end(held: int) -> None:
    engine = InStep(2)
    engine.traits = replace(engine.traits, decoder_hold_frames=held)
    warm_up(engine, [6])
    ends = {("encode", 1, 1 / HOP): 2, ("decode", 1, 1): 2} if held else {("encode", 1, 1 / HOP): 2}
    assert engine.ends == ends


def test_with_one_worker_the_calling_thread_runs_everything() -> None:
    engine = FakeEngine()
    warm_up(engine, [2])
    assert engine.threads == {threading.current_thread().name}
