"""A shape that is used often gets its own compiled network in the background. The results are the same, and the number is bounded."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from streamcodec.engine.openvino import network as openvino_network
from streamcodec.engine.openvino.network import BATCHES, Chain, OpenVinoNetwork, openvino

ops = openvino().opset13
OFTEN = 50


@pytest.fixture
def background() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


def doubling() -> Any:
    given = ops.parameter([-1, -1], np.float32)
    return openvino().Model([ops.multiply(given, ops.constant(np.float32(2)))], [given])


def make(background: ThreadPoolExecutor, workers: int = 1) -> OpenVinoNetwork:
    return OpenVinoNetwork(doubling(), {"INFERENCE_NUM_THREADS": 1}, workers, background)


def doubling_beside_states(size: int, factor: float) -> Any:
    """Doubles x [B, T] and multiplies its states [B, size] by `factor`."""
    x, states = ops.parameter([-1, -1], np.float32), ops.parameter([-1, size], np.float32)
    doubled, after = ops.multiply(x, ops.constant(np.float32(2))), ops.multiply(states, ops.constant(np.float32(factor)))
    return openvino().Model([doubled, after], [x, states])


def use(network: OpenVinoNetwork, shape: tuple[int, ...], times: int) -> None:
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    for _ in range(times):
        np.testing.assert_array_equal(network(x)[0], 2 * x)


def wait_for(background: ThreadPoolExecutor) -> None:
    background.submit(lambda: None).result(60)


def test_a_shape_gets_its_own_network_after_it_was_used_often(background: ThreadPoolExecutor) -> None:
    network = make(background)
    use(network, (3, 4), OFTEN - 1)
    use(network, (5, 4), OFTEN - 1)
    wait_for(background)
    assert network.specialized_shapes == []
    use(network, (3, 4), 1)
    wait_for(background)
    assert network.specialized_shapes == [((3, 4),)]
    use(network, (3, 4), 3)
    use(network, (5, 4), 3)


def test_at_most_one_shape_more_than_the_batch_sizes_gets_its_own_network(background: ThreadPoolExecutor) -> None:
    network = make(background)
    for rows in range(1, len(BATCHES) + 4):
        use(network, (rows, 2), OFTEN)
    wait_for(background)
    assert len(network.specialized_shapes) == len(BATCHES) + 1


def test_a_shape_that_is_used_much_more_often_replaces_one_that_is_no_longer_used(background: ThreadPoolExecutor) -> None:
    network = make(background)
    network.prepare([((rows, 2),) for rows in range(1, len(BATCHES) + 2)])
    for rows in range(2, len(BATCHES) + 2):
        use(network, (rows, 2), 10)
    use(network, (1, 9), 4 * OFTEN - 1)
    wait_for(background)
    assert ((1, 9),) not in network.specialized_shapes
    use(network, (1, 9), 1)
    wait_for(background)
    assert ((1, 9),) in network.specialized_shapes and ((1, 2),) not in network.specialized_shapes
    assert len(network.specialized_shapes) == len(BATCHES) + 1
    use(network, (1, 9), 2)
    use(network, (1, 2), 2)


def test_a_shape_that_was_used_often_long_ago_is_replaced_too(background: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_network, "_HALVED_AFTER", 100)
    network = make(background)
    for rows in range(1, len(BATCHES) + 2):
        use(network, (rows, 2), 500)
    use(network, (1, 9), 400)
    wait_for(background)
    assert ((1, 9),) in network.specialized_shapes


def test_shapes_can_be_prepared_before_their_first_use(background: ThreadPoolExecutor) -> None:
    network = make(background)
    use(network, (4, 2), OFTEN)
    network.prepare([((rows, 2),) for rows in (1, 2, 4)])
    wait_for(background)
    assert sorted(network.specialized_shapes) == [((1, 2),), ((2, 2),), ((4, 2),)]
    for rows in (1, 2, 3, 4):
        use(network, (rows, 2), 2)


def test_waiting_compilations_can_be_cancelled_and_requested_again(background: ThreadPoolExecutor) -> None:
    network, go_on = make(background), threading.Event()
    background.submit(go_on.wait, 60)
    use(network, (4, 2), OFTEN)
    network.prepare([((rows, 2),) for rows in range(1, len(BATCHES) + 2)])
    network.stop_preparing()
    go_on.set()
    wait_for(background)
    assert network.specialized_shapes == []
    use(network, (4, 2), 3)
    network.prepare([((rows, 2),) for rows in range(1, len(BATCHES) + 2)])
    wait_for(background)
    network.stop_preparing()
    assert len(network.specialized_shapes) == len(BATCHES) + 1
    use(network, (4, 2), 3)


def test_a_result_is_not_overwritten_by_later_or_parallel_calls(background: ThreadPoolExecutor) -> None:
    network = make(background, workers=2)
    kept = [network(np.full((2, 2), value, np.float32))[0] for value in range(OFTEN + 10)]
    wait_for(background)
    kept += [network(np.full((2, 2), value, np.float32))[0] for value in range(OFTEN + 10, OFTEN + 20)]
    assert [int(value[0, 0]) for value in kept] == [2 * value for value in range(OFTEN + 20)]
    threads = [threading.Thread(target=use, args=(network, (2, 2), 200)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_if_the_compilation_fails_the_general_network_is_used_and_one_error_is_logged(
    background: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    network = make(background)

    def fail(_: Any) -> Any:
        raise RuntimeError("no memory")

    monkeypatch.setattr(network, "_compile", fail)
    with caplog.at_level(logging.ERROR):
        use(network, (2, 2), 3 * OFTEN)
        wait_for(background)
    assert network.specialized_shapes == []
    assert len(caplog.records) == 1
    assert "the general network continues to run them" in caplog.records[0].getMessage()


LOAD_AND_RELEASE = """
import gc, os, signal, sys
import streamcodec
for _ in range(3):
    codec = streamcodec.load(sys.argv[1], engine="openvino", threads=1)  # the one before goes when the next is there
del codec
gc.collect()
signal.signal(signal.SIGTERM, lambda *_: print("handled"))
os.kill(os.getpid(), signal.SIGTERM)
"""


def test_a_process_that_released_its_codecs_survives_a_signal(model: str) -> None:
    done = subprocess.run([sys.executable, "-c", LOAD_AND_RELEASE, model], capture_output=True, text=True, timeout=1200)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr


def test_openvino_sends_no_telemetry_and_other_packages_still_can() -> None:
    script = """
import sys
from streamcodec.engine.openvino.network import openvino
package = openvino()
from openvino.tools.ovc import telemetry_utils
print(package.__name__, telemetry_utils.tm.__name__, "openvino_telemetry" in sys.modules)
"""
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert answer == ["openvino", "openvino.tools.ovc.telemetry_stub", "False"]


@pytest.mark.parametrize("sizes", [(3,), (2, 1), (1, 3, 2)])
def test_a_chain_connects_its_networks_and_keeps_their_states_separate(sizes: tuple[int, ...], background: ThreadPoolExecutor) -> None:
    parts = [OpenVinoNetwork(doubling_beside_states(n, i + 3.0), {"INFERENCE_NUM_THREADS": 1}, 1, background) for i, n in enumerate(sizes)]
    chain = Chain(list(zip(parts, sizes, strict=True)))
    x, states = np.ones((4, 5), np.float32), np.arange(4.0 * sum(sizes), dtype=np.float32).reshape(4, -1)
    for _ in range(OFTEN):
        y, after = chain(x, states)
    np.testing.assert_array_equal(y, 2.0 ** len(sizes) * x)
    np.testing.assert_array_equal(after, states * np.repeat(3.0 + np.arange(len(sizes)), sizes))
    wait_for(background)
    assert chain.specialized_shapes == [((4, 5), (4, n)) for n in sizes]


def test_threads_whose_first_uses_coincide_do_not_wait_for_each_other() -> None:
    program = """
import os, sys, threading
from streamcodec.engine.openvino.network import openvino
sys.setswitchinterval(1e-6)
barrier = threading.Barrier(8)
def use():
    element = openvino().Type.f32
    barrier.wait()
    element.to_dtype()
threads = [threading.Thread(target=use, daemon=True) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("done")
"""
    # Without care, three of four processes never ended here.
    for _ in range(3):
        answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=True)
        assert answer.stdout == "done\n"
