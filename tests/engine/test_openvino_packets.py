"""Packets run on the compiled program until a measurement finds OpenVINO's network faster; longer steps always run on the network."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from streamcodec.engine.openvino import packets
from streamcodec.engine.openvino.network import OFTEN, Shapes
from streamcodec.engine.openvino.packets import PacketSteps

LONGEST = 8


class Named:
    """A program or a network whose y says which of them ran."""

    def __init__(self, name: float) -> None:
        self.name = name
        self.specialized_shapes: list[Shapes] = []
        self.cancelled = False

    def __call__(self, x: Any, states: Any) -> Any:
        return np.full_like(x, self.name), states

    def specialized(self, shapes: Shapes) -> Callable[..., Any]:  # noqa: ARG002
        return self

    def prepare(self, shapes: Sequence[Shapes]) -> None:
        self.specialized_shapes += shapes

    def stop_preparing(self) -> None:
        self.cancelled = True


PROGRAM, NETWORK = 1.0, 2.0


@pytest.fixture
def background() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


def make(background: ThreadPoolExecutor) -> tuple[PacketSteps, Named]:
    network = Named(NETWORK)
    return PacketSteps(Named(PROGRAM), network, LONGEST, background), network  # type: ignore[arg-type]


def ran(steps: PacketSteps, length: int = LONGEST) -> float:
    return float(steps(np.zeros((1, length), np.float32), np.zeros((1, 3), np.float32))[0][0, 0])


def wait_for(background: ThreadPoolExecutor) -> None:
    background.submit(lambda: None).result(60)


@pytest.mark.parametrize(("faster", "then"), [(True, PROGRAM), (False, NETWORK)])
def test_what_was_measured_to_be_faster_runs_packets_after_they_came_often(
    faster: bool, then: float, background: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[bool] = []

    def is_faster(*_: Any) -> bool:
        measured.append(faster)
        return faster

    monkeypatch.setattr(packets, "_is_faster", is_faster)
    steps, _ = make(background)
    assert [ran(steps) for _ in range(OFTEN - 1)] == [PROGRAM] * (OFTEN - 1)
    wait_for(background)
    assert measured == []
    ran(steps)
    wait_for(background)
    assert measured == [faster]
    assert [ran(steps) for _ in range(2 * OFTEN)] == [then] * 2 * OFTEN
    wait_for(background)
    assert measured == [faster], "once"


def test_steps_that_are_longer_than_packets_run_on_the_network(background: ThreadPoolExecutor) -> None:
    steps, _ = make(background)
    assert ran(steps, LONGEST) == PROGRAM
    assert ran(steps, LONGEST + 1) == NETWORK


@pytest.mark.parametrize("faster", [True, False])
def test_shapes_are_prepared_only_for_a_network_that_runs_them(
    faster: bool, background: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packets, "_is_faster", lambda *_: faster)
    steps, network = make(background)
    shapes: list[Shapes] = [((rows, LONGEST), (rows, 3)) for rows in (1, 2, 4)]
    steps.prepare(shapes[:2])
    wait_for(background)
    steps.prepare(shapes[2:])
    assert network.specialized_shapes == ([] if faster else shapes)


def test_a_measurement_that_has_not_begun_can_be_cancelled_and_requested_again(
    background: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packets, "_is_faster", lambda *_: False)
    steps, network = make(background)
    go_on = threading.Event()
    background.submit(go_on.wait, 60)
    steps.prepare([((1, LONGEST), (1, 3))])
    steps.stop_preparing()
    go_on.set()
    wait_for(background)
    assert network.cancelled and ran(steps) == PROGRAM
    steps.prepare([((2, LONGEST), (2, 3))])
    wait_for(background)
    assert network.specialized_shapes == [((2, LONGEST), (2, 3))] and ran(steps) == NETWORK


def test_if_the_measurement_fails_the_program_is_used_and_one_error_is_logged(
    background: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    steps, network = make(background)

    def fail(_: Shapes) -> Any:
        raise RuntimeError("no memory")

    monkeypatch.setattr(network, "specialized", fail)
    with caplog.at_level(logging.ERROR):
        for _ in range(3 * OFTEN):
            assert ran(steps) == PROGRAM
            wait_for(background)
    assert len(caplog.records) == 1
    assert "the compiled program runs packets" in caplog.records[0].getMessage()


def test_of_two_calls_the_one_whose_quickest_run_is_quicker_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])

    def taking(*seconds: float) -> Callable[[], None]:
        left = list(seconds)

        def run() -> None:
            now[0] += left.pop() if len(left) > 1 else left[0]

        return run

    assert packets._is_faster(taking(1.0), taking(2.0))
    assert not packets._is_faster(taking(2.0), taking(1.0))
    assert packets._is_faster(taking(0.5, 9.0, 9.0), taking(1.0)), "two runs were disturbed"
