"""A shape that comes often gets a network of its own, aside; what comes out is the same, and there are never many."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import openvino
import pytest
from openvino import opset13 as ops

from streamcodec.engine.openvino import network as openvino_network
from streamcodec.engine.openvino.network import BATCHES, Chain, OpenVinoNetwork

OFTEN = 50


@pytest.fixture
def aside() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


def doubling() -> Any:
    given = ops.parameter([-1, -1], np.float32)
    return openvino.Model([ops.multiply(given, ops.constant(np.float32(2)))], [given])


def make(aside: ThreadPoolExecutor, workers: int = 1) -> OpenVinoNetwork:
    return OpenVinoNetwork(doubling(), {"INFERENCE_NUM_THREADS": 1}, workers, aside)


def doubling_beside_states(size: int, factor: float) -> Any:
    """Doubles x [B, T] and multiplies its states [B, size] by `factor`."""
    x, states = ops.parameter([-1, -1], np.float32), ops.parameter([-1, size], np.float32)
    doubled, after = ops.multiply(x, ops.constant(np.float32(2))), ops.multiply(states, ops.constant(np.float32(factor)))
    return openvino.Model([doubled, after], [x, states])


def use(network: OpenVinoNetwork, shape: tuple[int, ...], times: int) -> None:
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    for _ in range(times):
        np.testing.assert_array_equal(network(x)[0], 2 * x)


def settle(aside: ThreadPoolExecutor) -> None:
    aside.submit(lambda: None).result(60)


def test_a_shape_gets_a_network_of_its_own_once_it_has_come_often(aside: ThreadPoolExecutor) -> None:
    network = make(aside)
    use(network, (3, 4), OFTEN - 1)
    use(network, (5, 4), OFTEN - 1)
    settle(aside)
    assert network.own_shapes == []
    use(network, (3, 4), 1)
    settle(aside)
    assert network.own_shapes == [((3, 4),)]
    use(network, (3, 4), 3)
    use(network, (5, 4), 3)


def test_no_more_shapes_than_the_batch_sizes_and_one_get_one(aside: ThreadPoolExecutor) -> None:
    network = make(aside)
    for rows in range(1, len(BATCHES) + 4):
        use(network, (rows, 2), OFTEN)
    settle(aside)
    assert len(network.own_shapes) == len(BATCHES) + 1


def test_a_shape_that_comes_much_more_often_takes_the_place_of_one_that_comes_no_more(aside: ThreadPoolExecutor) -> None:
    network = make(aside)
    network.prepare([((rows, 2),) for rows in range(1, len(BATCHES) + 2)])
    for rows in range(2, len(BATCHES) + 2):
        use(network, (rows, 2), 10)
    use(network, (1, 9), 4 * OFTEN - 1)
    settle(aside)
    assert ((1, 9),) not in network.own_shapes
    use(network, (1, 9), 1)
    settle(aside)
    assert ((1, 9),) in network.own_shapes and ((1, 2),) not in network.own_shapes
    assert len(network.own_shapes) == len(BATCHES) + 1
    use(network, (1, 9), 2)
    use(network, (1, 2), 2)


def test_what_came_often_long_ago_makes_room_too(aside: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_network, "_HALVED_AFTER", 100)
    network = make(aside)
    for rows in range(1, len(BATCHES) + 2):
        use(network, (rows, 2), 500)
    use(network, (1, 9), 400)
    settle(aside)
    assert ((1, 9),) in network.own_shapes


def test_shapes_that_are_to_come_often_are_prepared_before_they_come(aside: ThreadPoolExecutor) -> None:
    network = make(aside)
    use(network, (4, 2), OFTEN)
    network.prepare([((rows, 2),) for rows in (1, 2, 4)])
    settle(aside)
    assert sorted(network.own_shapes) == [((1, 2),), ((2, 2),), ((4, 2),)]
    for rows in (1, 2, 3, 4):
        use(network, (rows, 2), 2)


def test_what_waits_to_be_compiled_can_be_forgotten_and_asked_for_again(aside: ThreadPoolExecutor) -> None:
    network, go_on = make(aside), threading.Event()
    aside.submit(go_on.wait, 60)
    use(network, (4, 2), OFTEN)
    network.prepare([((rows, 2),) for rows in range(1, len(BATCHES) + 2)])
    network.stop_preparing()
    go_on.set()
    settle(aside)
    assert network.own_shapes == []
    use(network, (4, 2), 3)
    network.prepare([((rows, 2),) for rows in range(1, len(BATCHES) + 2)])
    settle(aside)
    network.stop_preparing()
    assert len(network.own_shapes) == len(BATCHES) + 1
    use(network, (4, 2), 3)


def test_results_are_nobody_else_s_whatever_runs_meanwhile(aside: ThreadPoolExecutor) -> None:
    network = make(aside, workers=2)
    kept = [network(np.full((2, 2), value, np.float32))[0] for value in range(OFTEN + 10)]
    settle(aside)
    kept += [network(np.full((2, 2), value, np.float32))[0] for value in range(OFTEN + 10, OFTEN + 20)]
    assert [int(value[0, 0]) for value in kept] == [2 * value for value in range(OFTEN + 20)]
    threads = [threading.Thread(target=use, args=(network, (2, 2), 200)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_where_it_cannot_be_made_the_general_one_goes_on_and_it_is_told_once(
    aside: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    network = make(aside)

    def fail(_: Any) -> Any:
        raise RuntimeError("no memory")

    monkeypatch.setattr(network, "_compile", fail)
    with caplog.at_level(logging.ERROR):
        use(network, (2, 2), 3 * OFTEN)
        settle(aside)
    assert network.own_shapes == []
    assert len(caplog.records) == 1
    assert "going on with the general one" in caplog.records[0].getMessage()


LOAD_AND_LET_GO = """
import gc, os, signal
import streamcodec
for _ in range(3):
    codec = streamcodec.load(engine="openvino", threads=1)  # the one before goes when the next is there
del codec
gc.collect()
signal.signal(signal.SIGTERM, lambda *_: print("told"))
os.kill(os.getpid(), signal.SIGTERM)
"""


def test_a_process_that_let_go_of_its_codecs_survives_a_signal() -> None:
    done = subprocess.run([sys.executable, "-c", LOAD_AND_LET_GO], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "told\n"), done.stderr


def test_openvino_reports_to_nobody_and_others_may_still_do_so() -> None:
    told = """
import sys
from streamcodec.engine.openvino.network import openvino
package = openvino()
from openvino.tools.ovc import telemetry_utils
print(package.__name__, telemetry_utils.tm.__name__, "openvino_telemetry" in sys.modules)
"""
    answer = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True).stdout.split()
    assert answer == ["openvino", "openvino.tools.ovc.telemetry_stub", "False"]


@pytest.mark.parametrize("sizes", [(3,), (2, 1), (1, 3, 2)])
def test_a_chain_hands_on_what_each_gives_and_keeps_their_states_apart(sizes: tuple[int, ...], aside: ThreadPoolExecutor) -> None:
    parts = [OpenVinoNetwork(doubling_beside_states(n, i + 3.0), {"INFERENCE_NUM_THREADS": 1}, 1, aside) for i, n in enumerate(sizes)]
    chain = Chain(list(zip(parts, sizes, strict=True)))
    x, states = np.ones((4, 5), np.float32), np.arange(4.0 * sum(sizes), dtype=np.float32).reshape(4, -1)
    for _ in range(OFTEN):
        y, after = chain(x, states)
    np.testing.assert_array_equal(y, 2.0 ** len(sizes) * x)
    np.testing.assert_array_equal(after, states * np.repeat(3.0 + np.arange(len(sizes)), sizes))
    settle(aside)
    assert chain.own_shapes == [((4, 5), (4, n)) for n in sizes]
