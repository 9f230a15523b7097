"""Where a step's time goes: by OpenVINO's own count of every operation in a network, by the clock around every operation of a compiled
program, and by the clock for what is outside of them.

The engine is taken as it is. While it compiles its networks, OpenVINO's core is one that asks for the count and keeps an eye on them.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch

from streamcodec.codec import Codec
from streamcodec.engine.search import CodebookSearch
from streamcodec.engine.step_kernel import Op, run_step
from streamcodec.model.layers import LSTM
from streamcodec.model.seanet import build_decoder, build_encoder

__all__ = ["PARTS", "Watch", "part_of", "profile"]

PARTS = ("convolutions", "lstm", "elementwise", "moving", "other", "between", "search", "outside")

_TYPES = {
    "convolutions": ("convolution", "deconvolution", "groupconvolution", "matmul", "fullyconnected", "inner_product", "gemm"),
    "lstm": ("lstmsequence", "lstmcell", "rnnseq", "rnncell", "tensoriterator", "loop"),
    "elementwise": (
        *("elu", "add", "subtract", "multiply", "divide", "eltwise", "math", "sigmoid", "tanh", "exp", "relu", "minimum", "maximum"),
        *("clamp", "select", "swish", "gelu", "subgraph", "fakequantize", "power", "softplus"),
    ),
    "moving": (
        *("reorder", "concat", "concatenation", "slice", "stridedslice", "split", "variadicsplit", "transpose", "reshape", "gather"),
        *("broadcast", "tile", "pad", "convert", "unsqueeze", "squeeze", "shapeof", "crop", "scatterupdate", "roll", "memoryinput"),
        *("input", "output", "parameter", "result", "memoryoutput", "constant", "depthtospace", "spacetodepth", "shufflechannels"),
    ),
}


def part_of(node_type: str, name: str, lstm_layers: tuple[str, ...]) -> str:
    """Which of `PARTS` an operation belongs to; what an LSTM was taken apart into still belongs to it, by its `name`."""
    kind = node_type.lower()
    if kind != "reorder" and (kind in _TYPES["lstm"] or any(layer in name for layer in lstm_layers)):
        return "lstm"
    return next((part for part, kinds in _TYPES.items() if kind in kinds), "other")


def program_parts(table: Any) -> list[str]:
    """Which of `PARTS` each operation of a compiled program belongs to."""
    # An LSTM's products have no bias of their own for its state, and the same shape for its input.
    recurrent = {(row[4], row[7]) for row in table if row[0] == Op.PRODUCT and row[6] < 0}
    parts = {Op.ELU: "elementwise", Op.ADD: "elementwise", Op.COPY: "moving", Op.TRANSPOSE: "moving", Op.CELL: "lstm"}
    return [parts.get(row[0]) or ("lstm" if (row[4], row[7]) in recurrent else "convolutions") for row in table]


class Watch:
    """Networks' seconds in all runs, whole (`network_s`) and by part, and the search's. `read` costs time, so it is for the end."""

    def __init__(self) -> None:
        self.network_s = self.search_s = 0.0
        self.in_search = False
        self.runs: Counter[int] = Counter()
        self.program_s = dict.fromkeys(PARTS, 0.0)
        self.requests: dict[int, Any] = {}

    def read(self, lstm_layers: tuple[str, ...]) -> dict[str, float]:
        """Seconds of each part in all runs so far."""
        parts = dict(self.program_s)
        for key, request in self.requests.items():
            for node in request.profiling_info if self.runs[key] else ():
                # OpenVINO tells the mean of all runs.
                parts[part_of(node.node_type, node.node_name, lstm_layers)] += node.real_time.total_seconds() * self.runs[key]
        return parts

    @contextmanager
    def making(self) -> Iterator[None]:
        """Whatever is compiled in here is watched."""
        from streamcodec.engine.openvino import network as openvino_network

        core = _Core(openvino_network.core(), self)
        with mock.patch.object(openvino_network, "core", lambda: core):
            yield

    @contextmanager
    def clocking(self) -> Iterator[None]:
        """Searches through the codebooks in here are clocked, and so are the operations of compiled programs."""
        search = CodebookSearch.__call__

        def clocked(*args: Any, **options: Any) -> Any:
            begun, self.in_search = time.perf_counter(), True
            try:
                return search(*args, **options)
            finally:
                self.search_s += time.perf_counter() - begun
                self.in_search = False

        def run_clocked(table: Any, *memory: Any) -> None:
            begun = time.perf_counter()
            for at, part in enumerate(program_parts(table)):
                before = time.perf_counter()
                run_step(table[at : at + 1], *memory)
                self.program_s[part] += time.perf_counter() - before
            self.network_s += time.perf_counter() - begun

        with mock.patch.object(CodebookSearch, "__call__", clocked), mock.patch("streamcodec.engine.step_memory.run_step", run_clocked):
            yield


class _Core:
    def __init__(self, core: Any, watch: Watch) -> None:
        self._core = core
        self._watch = watch

    def compile_model(self, network: Any, device: str, options: Mapping[str, Any]) -> Any:
        return _Compiled(self._core.compile_model(network, device, {**options, "PERF_COUNT": True}), self._watch)


class _Compiled:
    def __init__(self, compiled: Any, watch: Watch) -> None:
        self._compiled = compiled
        self._watch = watch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._compiled, name)

    def create_infer_request(self) -> Any:
        return _Request(self._compiled.create_infer_request(), self._watch)


class _Request:
    def __init__(self, request: Any, watch: Watch) -> None:
        self._request = request
        self._watch = watch
        watch.requests[id(self)] = request

    def __getattr__(self, name: str) -> Any:
        return getattr(self._request, name)

    def infer(self, *args: Any, **options: Any) -> Any:
        if self._watch.in_search:  # what the search runs is counted as the search's
            return self._request.infer(*args, **options)
        begun = time.perf_counter()
        try:
            return self._request.infer(*args, **options)
        finally:
            self._watch.network_s += time.perf_counter() - begun
            self._watch.runs[id(self)] += 1


def profile(watch: Watch, codec: Codec, operation: str, call: Callable[[], object], runs: int, warm_up: int = 3) -> dict[str, float]:
    """Milliseconds per `call` of each part, over `runs` calls on a codec made under `watch`, and of the whole call, `step`.

    `between` is what a network takes beyond its operations, `outside` what a call takes beyond network and search.
    """
    layers = _lstm_layers(codec, operation)
    with watch.clocking():
        for _ in range(warm_up):
            call()
        before, network, search = watch.read(layers), watch.network_s, watch.search_s
        begun = time.perf_counter()
        for _ in range(runs):
            call()
        step = time.perf_counter() - begun
    spent = {part: seconds - before[part] for part, seconds in watch.read(layers).items()}
    network, search = watch.network_s - network, watch.search_s - search
    found = {**spent, "between": network - sum(spent.values()), "search": search, "outside": step - network - search, "step": step}
    # Means are whole microseconds: the sum of many may come out above the network's time.
    return {part: 1000 * max(0.0, seconds) / runs for part, seconds in found.items()}


def _lstm_layers(codec: Codec, operation: str) -> tuple[str, ...]:
    """What the names of the operations in the model's LSTM layers have in common."""
    with torch.device("meta"):
        layers = (build_encoder if operation == "encode" else build_decoder)(codec.config).layers
    found = [str(at) for at, layer in enumerate(layers) if isinstance(layer, LSTM)]
    return ("lstm", *(f".layers.{at}{end}" for at in found for end in "/."))
