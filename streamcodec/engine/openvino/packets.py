"""Steps of packets: by the compiled program of the layers, or by their OpenVINO network where that is faster."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from streamcodec.engine.openvino.network import OFTEN, Arrays, OpenVinoNetwork, Shapes
from streamcodec.engine.step import CompiledStep
from streamcodec.types import Samples, States

__all__ = ["PacketSteps"]

log = logging.getLogger(__name__)

# The measurement which of two calls is faster alternates between them: fewer runs mistook what a busy processor did beside it.
_TURNS, _RUNS = 20, 5


class PacketSteps:
    """Runs `program` for x of at most `longest` time steps, and `network` for longer ones.

    Which of them runs packets faster depends on the processor. So that is measured on `background` once, when a step has been used often or
    when steps are prepared; until then, `program` runs them.
    """

    def __init__(self, program: CompiledStep, network: OpenVinoNetwork, longest: int, background: ThreadPoolExecutor) -> None:
        self._program = program
        self._network = network
        self._longest = longest
        self._background = background
        self._is_faster = True
        self._measured = False
        self._uses = 0
        self._measurement: Future[None] | None = None
        self._prepared: list[Shapes] = []
        self._lock = threading.Lock()

    @property
    def specialized_shapes(self) -> list[Shapes]:
        """The input shapes that have a specialized network now."""
        return self._network.specialized_shapes

    def prepare(self, shapes: Iterable[Shapes]) -> None:
        """Measure, if that is not done, and prepare the network for these shapes if it is faster. Returns at once."""
        with self._lock:
            if not self._measured:
                self._prepared += shapes
                if self._measurement is None and self._prepared:
                    self._measurement = self._background.submit(self._measure, self._prepared[0])
            elif not self._is_faster:
                self._network.prepare(shapes)

    def stop_preparing(self) -> None:
        """Cancel the measurement if it has not begun, and what the network has not begun to compile."""
        with self._lock:
            self._prepared.clear()
            if self._measurement is not None and self._measurement.cancel():
                self._measurement = None
        self._network.stop_preparing()

    def __call__(self, x: Samples, states: States) -> Arrays:
        if not self._is_faster or x.shape[-1] > self._longest:
            return self._network(x, states)
        self._uses += 1  # a count that two threads lose is no harm
        if self._uses >= OFTEN and self._measurement is None:
            with self._lock:
                if self._measurement is None:
                    self._measurement = self._background.submit(self._measure, (x.shape, states.shape))
        return self._program(x, states)

    def _measure(self, shapes: Shapes) -> None:
        is_faster = True
        try:
            x, states = (np.zeros(shape, np.float32) for shape in shapes)
            network = self._network.specialized(shapes)
            is_faster = _is_faster(lambda: self._program(x, states), lambda: network(x, states))
        except Exception:
            log.exception("the network could not be measured for inputs %s: the compiled program runs packets", shapes)
        with self._lock:
            self._measured, self._is_faster = True, is_faster
            if not is_faster:
                self._network.prepare(self._prepared)
            self._prepared.clear()


def _is_faster(call: Callable[[], object], than: Callable[[], object]) -> bool:
    """Whether `call` takes less time, by the fastest of its runs: what else the processor does slows both down."""
    best = {call: float("inf"), than: float("inf")}
    for _ in range(_TURNS):
        for each in best:
            for _ in range(_RUNS):
                begun = time.perf_counter()
                each()
                best[each] = min(best[each], time.perf_counter() - begun)
    return best[call] < best[than]
