"""A network as OpenVINO runs it: compiled once for arrays of any shape, and once more for each shape that comes often."""

from __future__ import annotations

import logging
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from itertools import accumulate
from queue import LifoQueue
from typing import Any

import numpy as np
import numpy.typing as npt

from streamcodec.errors import MissingDependencyError

__all__ = ["BATCHES", "OFTEN", "Chain", "OpenVinoNetwork", "Shapes", "core", "openvino"]

log = logging.getLogger(__name__)

BATCHES: tuple[int, ...] = (1, 2, 4, 6, 8, 12, 16)
"""The numbers of rows to run: few, so that each gets a network of its own."""

OFTEN = 50
"""The uses of a shape after which it gets a network of its own."""
_CLEARLY = 4  # times as often as one of the others: then a shape takes its place
_HALVED_AFTER = 10_000  # calls, so that what was long ago counts less
_MAX_SHAPES = len(BATCHES) + 1
# Compiled kernels that are kept for the general network: those of some 25 shapes. The default of 5,000 is hundreds of MiB.
_KERNELS_KEPT = 1024


def openvino() -> Any:
    """The package, imported so that it reports to nobody. Raises `MissingDependencyError` where it is not installed.

    OpenVINO tells its makers of every import and conversion, by a package of its own that it does without where that is absent.
    """
    untold = not {"openvino", "openvino_telemetry"} & sys.modules.keys()
    if untold:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    try:
        import openvino
    except ImportError as exc:
        raise MissingDependencyError("the fast CPU engine needs OpenVINO: pip install 'streamcodec[codec]'") from exc
    finally:
        if untold:
            sys.modules.pop("openvino_telemetry", None)
    return openvino


@cache
def core() -> Any:
    """OpenVINO's core, one for the process and for good.

    Each core gives its thread another alternate signal stack, and puts back the one before when it goes. With a second core that may be
    one that is gone, and then the next signal, Ctrl-C for one, crashes the process (seen with OpenVINO 2026.4).
    """
    return openvino().Core()


Arrays = tuple[npt.NDArray[Any], ...]
Shapes = tuple[tuple[int, ...], ...]


class OpenVinoNetwork:
    """Runs `network` on arrays of any shape that it takes, from as many threads at a time as there are `workers`.

    Where all dimensions are known beforehand, a step is 7 to 35% quicker, the more the smaller it is. So shapes that came often are
    compiled on `aside`, where that is given, while the general network goes on; each has its own copy of the weights, so there are few,
    and one that comes much more often takes the place of one that hardly comes any more.

    Each worker has a copy too: the streams of one compiled model take turns on each other's processors, which cost a quarter of the speed.
    """

    def __init__(self, network: Any, options: Mapping[str, Any], workers: int, aside: ThreadPoolExecutor | None = None) -> None:
        self._network = network
        self._options = {**options, "CPU_RUNTIME_CACHE_CAPACITY": _KERNELS_KEPT}
        self._workers = workers
        self._aside = aside
        self._general = self._compile(network)
        self._exact: dict[Shapes, LifoQueue[Any]] = {}
        self._uses: Counter[Shapes] = Counter()
        self._chosen: dict[Shapes, Future[None]] = {}  # those of `_exact` and those that are to be compiled, with that job
        self._calls = 0
        self._counting = threading.Lock()

    @property
    def own_shapes(self) -> list[Shapes]:
        """The shapes of inputs that have a network of their own by now."""
        return list(self._exact)

    def prepare(self, shapes: Iterable[Shapes]) -> None:
        """Compile for each of these shapes of inputs, aside, as if it had come often."""
        with self._counting:
            for each in shapes:
                self._add(each, OFTEN)

    def stop_preparing(self) -> None:
        """Forget the shapes that wait to be compiled, as if they had not come yet."""
        with self._counting:
            for shapes, job in list(self._chosen.items()):
                if job.cancel():
                    del self._chosen[shapes], self._uses[shapes]

    def __call__(self, *inputs: npt.NDArray[Any]) -> Arrays:
        shapes = tuple(x.shape for x in inputs)
        if self._aside is not None:
            self._count(shapes)
        requests = self._exact.get(shapes, self._general)
        request = requests.get()
        try:
            results = request.infer(inputs, share_inputs=True, share_outputs=True)
            # What is shared is overwritten by the request's next step.
            return tuple(np.array(results[i]) for i in range(len(results)))
        finally:
            requests.put(request)

    def _count(self, shapes: Shapes) -> None:
        with self._counting:
            self._calls += 1
            if self._calls % _HALVED_AFTER == 0:
                self._uses = Counter({shapes: uses // 2 for shapes, uses in self._uses.items() if uses > 1})
            self._add(shapes, 1)

    def _add(self, shapes: Shapes, uses: int) -> None:
        self._uses[shapes] += uses
        if self._aside is None or shapes in self._chosen or self._uses[shapes] < OFTEN:
            return
        if len(self._chosen) == _MAX_SHAPES:
            least = min(self._chosen, key=lambda each: self._uses[each])
            if self._uses[shapes] < _CLEARLY * self._uses[least]:
                return
            self._chosen.pop(least).cancel()
            self._exact.pop(least, None)
        self._chosen[shapes] = self._aside.submit(self._specialize, shapes)

    def _specialize(self, shapes: Shapes) -> None:
        try:
            network = self._network.clone()
            network.reshape(dict(enumerate(shapes)))
            requests = self._compile(network)
            # A first run is slow: no stream shall wait for it.
            ready = [requests.get() for _ in range(self._workers)]
            for request in ready:
                request.infer([np.zeros(shape, np.float32) for shape in shapes])
                requests.put(request)
            with self._counting:
                if shapes in self._chosen:
                    self._exact[shapes] = requests
        except Exception:
            log.exception("no network of its own for %s: going on with the general one", shapes)

    def _compile(self, network: Any) -> LifoQueue[Any]:
        """One request for each worker; the last that was used comes first."""
        requests: LifoQueue[Any] = LifoQueue()
        for _ in range(self._workers):
            requests.put(core().compile_model(network, "CPU", self._options).create_infer_request())
        return requests


class Chain:
    """Networks one after the other, each with the size of its states: what one puts out the next takes in.

    Each takes x and states [B, size] and gives y and new states; side by side the states are one array.
    """

    def __init__(self, parts: Sequence[tuple[OpenVinoNetwork, int]]) -> None:
        self._networks = [network for network, _ in parts]
        self._ends = list(accumulate(size for _, size in parts))[:-1]

    @property
    def own_shapes(self) -> list[Shapes]:
        """The shapes of inputs for which one of the networks has a copy of its own by now."""
        return [shapes for network in self._networks for shapes in network.own_shapes]

    def stop_preparing(self) -> None:
        """As of `OpenVinoNetwork`."""
        for network in self._networks:
            network.stop_preparing()

    def __call__(self, x: npt.NDArray[Any], states: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        after = []
        for network, own in zip(self._networks, np.split(states, self._ends, axis=1), strict=True):
            x, new = network(x, np.ascontiguousarray(own))
            after.append(new)
        return x, np.concatenate(after, axis=1)
