"""A network that OpenVINO runs: compiled once for inputs of any shape, and once more for each shape that is used often."""

from __future__ import annotations

import logging
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
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
"""The batch sizes to run: few, so that each can have a specialized network."""

OFTEN = 50
"""The number of uses after which a shape gets a specialized network."""
_REPLACE_RATIO = 4  # a shape replaces another one when it is used this many times as often
_HALVED_AFTER = 10_000  # calls after which the counts are halved, so that old uses count less
_MAX_SHAPES = len(BATCHES) + 1
# The number of compiled kernels that the general network caches: enough for about 25 shapes. The default of 5,000 takes hundreds of MiB.
_KERNEL_CACHE_SIZE = 1024


_importing = threading.Lock()


def openvino() -> Any:
    """Import the package without its telemetry. Raises `MissingDependencyError` if it is not installed.

    OpenVINO reports every import and conversion to its vendor through the package `openvino_telemetry`. It works without that package.
    """
    with _importing:
        hide_telemetry = not {"openvino", "openvino_telemetry"} & sys.modules.keys()
        if hide_telemetry:
            sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
        try:
            import openvino
        except ImportError as exc:
            raise MissingDependencyError("the fast CPU engine needs OpenVINO: pip install 'streamcodec[codec]'") from exc
        finally:
            if hide_telemetry:
                sys.modules.pop("openvino_telemetry", None)
        # The binding looks up numpy at its first use. Two threads whose first uses coincided would wait for each other for ever: one would
        # hold the interpreter's lock, and the other one the lock of that look-up (seen with OpenVINO 2026.4).
        openvino.Type.f32.to_dtype()
    return openvino


@cache
def core() -> Any:
    """OpenVINO's core: one for the whole life of the process.

    Each core installs an alternate signal stack for its thread and restores the previous one when it is destroyed. With two cores, the
    restored stack may already be freed. Then the next signal, such as Ctrl-C, crashes the process (seen with OpenVINO 2026.4).
    """
    return openvino().Core()


Arrays = tuple[npt.NDArray[Any], ...]
Shapes = tuple[tuple[int, ...], ...]


class _UnboundRequest:
    """A request that runs a compiled network on inputs of any shape."""

    def __init__(self, compiled: Any) -> None:
        self._request = compiled.create_infer_request()

    def __call__(self, *inputs: npt.NDArray[Any]) -> Arrays:
        results = self._request.infer(inputs, share_inputs=True, share_outputs=True)
        # The request's next step overwrites the shared outputs, so they are copied.
        return tuple(np.array(results[i]) for i in range(len(results)))


class _BoundRequest:
    """A request of a network that is compiled for one shape.

    Its inputs and outputs are bound to arrays once. Binding them in each call would take three times as long as copying them.
    """

    def __init__(self, compiled: Any) -> None:
        self._request = compiled.create_infer_request()
        self._inputs, self._outputs = (
            [np.zeros(port.shape, port.element_type.to_dtype()) for port in ports] for ports in (compiled.inputs, compiled.outputs)
        )
        for i, array in enumerate(self._inputs):
            self._request.set_input_tensor(i, openvino().Tensor(array, shared_memory=True))
        for i, array in enumerate(self._outputs):
            self._request.set_output_tensor(i, openvino().Tensor(array, shared_memory=True))

    def __call__(self, *inputs: npt.NDArray[Any]) -> Arrays:
        for bound, x in zip(self._inputs, inputs, strict=True):
            np.copyto(bound, x)
        self._request.infer(share_outputs=True)
        return tuple(output.copy() for output in self._outputs)


class OpenVinoNetwork:
    """Runs `network` on inputs of any shape that it accepts; up to `workers` threads may call it at the same time.

    A step is 7 to 35% faster if all dimensions are known when the network is compiled; small steps gain most. So a network that is
    specialized for a shape is compiled on `background`, if that is given, once the shape has been used often. The general network runs
    the shape until then. Each specialized network has its own copy of the weights, so their number is bounded: a shape that is used much
    more often replaces the shape that is used least.

    Each worker has its own copy as well. The inference streams of one compiled model would compete for the same processors, which cost a
    quarter of the speed.
    """

    def __init__(self, network: Any, options: Mapping[str, Any], workers: int, background: ThreadPoolExecutor | None = None) -> None:
        self._network = network
        self._options = {**options, "CPU_RUNTIME_CACHE_CAPACITY": _KERNEL_CACHE_SIZE}
        self._workers = workers
        self._background = background
        self._general = self._requests(network, _UnboundRequest)
        self._specialized: dict[Shapes, LifoQueue[_UnboundRequest | _BoundRequest]] = {}
        self._uses: Counter[Shapes] = Counter()
        self._jobs: dict[Shapes, Future[None]] = {}  # the compile jobs, waiting, running or done, of the shapes chosen so far
        self._calls = 0
        self._lock = threading.Lock()

    @property
    def specialized_shapes(self) -> list[Shapes]:
        """The input shapes that have a specialized network now."""
        return list(self._specialized)

    def prepare(self, shapes: Iterable[Shapes]) -> None:
        """Compile a network for each of these input shapes in the background, as if the shape had been used often."""
        with self._lock:
            for each in shapes:
                self._add(each, OFTEN)

    def stop_preparing(self) -> None:
        """Cancel the compilations that have not begun and reset the counts of their shapes."""
        with self._lock:
            for shapes, job in list(self._jobs.items()):
                if job.cancel():
                    del self._jobs[shapes], self._uses[shapes]

    def __call__(self, *inputs: npt.NDArray[Any]) -> Arrays:
        shapes = tuple(x.shape for x in inputs)
        if self._background is not None:
            self._count(shapes)
        requests = self._specialized.get(shapes, self._general)
        request = requests.get()
        try:
            return request(*inputs)
        finally:
            requests.put(request)

    def _count(self, shapes: Shapes) -> None:
        with self._lock:
            self._calls += 1
            if self._calls % _HALVED_AFTER == 0:
                self._uses = Counter({shapes: uses // 2 for shapes, uses in self._uses.items() if uses > 1})
            self._add(shapes, 1)

    def _add(self, shapes: Shapes, uses: int) -> None:
        self._uses[shapes] += uses
        if self._background is None or shapes in self._jobs or self._uses[shapes] < OFTEN:
            return
        if len(self._jobs) == _MAX_SHAPES:
            rarest = min(self._jobs, key=lambda each: self._uses[each])
            if self._uses[shapes] < _REPLACE_RATIO * self._uses[rarest]:
                return
            self._jobs.pop(rarest).cancel()
            self._specialized.pop(rarest, None)
        self._jobs[shapes] = self._background.submit(self._specialize, shapes)

    def _specialize(self, shapes: Shapes) -> None:
        try:
            requests = self._requests(self._reshaped(shapes), _BoundRequest)
            # The first run is slow, so it is done here and no stream waits for it.
            unused = [requests.get() for _ in range(self._workers)]
            for request in unused:
                request(*(np.zeros(shape, np.float32) for shape in shapes))
                requests.put(request)
            with self._lock:
                if shapes in self._jobs:
                    self._specialized[shapes] = requests
        except Exception:
            log.exception("no specialized network for inputs %s: the general network continues to run them", shapes)

    def specialized(self, shapes: Shapes) -> Callable[..., Arrays]:
        """A specialized network for these shapes that the caller owns."""
        return _BoundRequest(self._compile(self._reshaped(shapes)))

    def _reshaped(self, shapes: Shapes) -> Any:
        network = self._network.clone()
        network.reshape(dict(enumerate(shapes)))
        return network

    def _requests(self, network: Any, kind: type[_UnboundRequest] | type[_BoundRequest]) -> LifoQueue[_UnboundRequest | _BoundRequest]:
        """Compile `network` once per worker. The queue gives out the request that was used last first."""
        requests: LifoQueue[_UnboundRequest | _BoundRequest] = LifoQueue()
        for _ in range(self._workers):
            requests.put(kind(self._compile(network)))
        return requests

    def _compile(self, network: Any) -> Any:
        return core().compile_model(network, "CPU", self._options)


class Chain:
    """Networks in sequence, each with the size of its state: the output of one is the input of the next.

    Each network maps x and states [B, size] to y and new states. The chain's states are the concatenation of the networks' states.
    """

    def __init__(self, parts: Sequence[tuple[OpenVinoNetwork, int]]) -> None:
        self._networks = [network for network, _ in parts]
        self._boundaries = list(accumulate(size for _, size in parts))[:-1]

    @property
    def specialized_shapes(self) -> list[Shapes]:
        """The input shapes for which one of the networks has a specialized copy now."""
        return [shapes for network in self._networks for shapes in network.specialized_shapes]

    def stop_preparing(self) -> None:
        """Cancel the compilations that have not begun, as in `OpenVinoNetwork`."""
        for network in self._networks:
            network.stop_preparing()

    def __call__(
        self, x: npt.NDArray[Any], states: npt.NDArray[Any], more: Sequence[Sequence[npt.NDArray[Any]]] | None = None
    ) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Run all networks; `more` are the further inputs of each."""
        new_states = []
        inputs = more or [()] * len(self._networks)
        for network, part, further in zip(self._networks, np.split(states, self._boundaries, axis=1), inputs, strict=True):
            x, new_part = network(x, np.ascontiguousarray(part), *further)
            new_states.append(new_part)
        return x, np.concatenate(new_states, axis=1)
