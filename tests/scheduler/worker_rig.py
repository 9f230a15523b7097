"""Helpers for the worker's tests: a sink to wait for, and short functions to open a stream."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from patience import TIMEOUT_S

from streamcodec.config import Start
from streamcodec.scheduler.streams import Result
from streamcodec.scheduler.worker import Calls, Worker


class Collector:
    """A sink that stores the results in order, and whether the last run is over."""

    def __init__(self) -> None:
        self.results: list[Result] = []
        self._arrived = threading.Condition()

    def __call__(self, result: Result) -> None:
        with self._arrived:
            self.results.append(result)
            self._arrived.notify_all()

    def wait(self, condition: Callable[[Collector], bool]) -> None:
        with self._arrived:
            assert self._arrived.wait_for(lambda: condition(self), TIMEOUT_S), self.results

    def wait_ended(self, runs: int = 1) -> None:
        self.wait(lambda c: sum(r.ended for r in c.results) >= runs)

    @property
    def outputs(self) -> list[Any]:
        return [output for result in self.results for output in result.outputs]

    @property
    def error(self) -> Exception | None:
        return next((r.error for r in self.results if r.error is not None), None)


def deliver(calls: Calls) -> None:
    for sink, result in calls:
        sink(result)


def open_encoder(worker: Worker, sink: Collector, n_q: int = 2, packet_frames: int = 3, start: Start = "exact", **more: Any) -> Any:
    return worker.open_encoder(sink, n_q=n_q, packet_frames=packet_frames, start=start, **more)


def first_book(collector: Collector) -> list[int]:
    return [int(code) for codes in collector.outputs for code in codes[0]]
