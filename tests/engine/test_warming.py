"""Before there are streams each of the engine's workers has run what they will ask for."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

import pytest
from fake_engine import HOP, TIMEOUT_S, FakeEngine

from streamcodec.engine.warming import warm_up


class InStep(FakeEngine):
    """Lets a step go on when there is one on every worker; notes the frames of each, and on which threads."""

    def __init__(self, workers: int) -> None:
        super().__init__(workers)
        self.all_workers = threading.Barrier(workers)
        self.frames: Counter[tuple[str, int, int]] = Counter()

    def _pass(self, kind: str, data: Any, final: bool) -> None:
        self.all_workers.wait(TIMEOUT_S)
        super()._pass(kind, data, final)
        self.frames[kind, len(data), data.shape[-1] // (HOP if kind == "encode" else 1)] += 1


@pytest.mark.parametrize("workers", [1, 3])
def test_each_length_of_packet_is_run_there_and_back_on_all_workers_at_a_time(workers: int) -> None:
    engine = InStep(workers)
    warm_up(engine, (1, 6))
    assert engine.frames == {(kind, 1, frames): 3 * workers for kind in ("encode", "decode") for frames in (1, 6)}
    assert len(engine.threads) == workers


def test_a_caller_with_one_worker_runs_it_all_itself() -> None:
    engine = FakeEngine()
    warm_up(engine, [2])
    assert engine.threads == {threading.current_thread().name}
