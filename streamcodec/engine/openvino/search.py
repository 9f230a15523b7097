"""The codebook search as OpenVINO networks: one network for each run of levels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from streamcodec.engine.openvino.network import OpenVinoNetwork, Shapes, openvino
from streamcodec.engine.search import CodebookSearch
from streamcodec.model.quantizer import ResidualVQ
from streamcodec.types import Samples

__all__ = ["OpenVinoSearch"]


class OpenVinoSearch(CodebookSearch):
    """A `CodebookSearch` that runs on OpenVINO.

    `compile(network, specialize)` compiles a network. `specialize` is true for the first run of levels, which all rows use.
    """

    def __init__(self, quantizer: ResidualVQ, compile: Callable[[Any, bool], OpenVinoNetwork]) -> None:
        super().__init__(quantizer)
        self._networks = {first: compile(self._network(first, stop), first == 0) for first, stop in self._runs}

    @property
    def specialized_shapes(self) -> list[Shapes]:
        """The shapes of residuals that have a specialized network now."""
        return [shape for network in self._networks.values() for shape in network.specialized_shapes]

    def prepare(self, sizes: Iterable[int]) -> None:
        """Compile networks for these numbers of residuals, for the first run of levels, which all rows use."""
        dim = self._embed.shape[2]
        self._networks[0].prepare([((size, dim),) for size in sizes])

    def stop_preparing(self) -> None:
        """Cancel the compilations that have not begun."""
        for network in self._networks.values():
            network.stop_preparing()

    def _search(self, first: int, stop: int, residuals: Samples) -> tuple[npt.NDArray[np.int32], Samples]:  # noqa: ARG002 - the whole run
        indices, residuals = self._networks[first](residuals)
        return indices, residuals

    def _network(self, first: int, stop: int) -> Any:
        """Build the network: residuals [N, dim] -> entries [N, levels] and remaining residuals [N, dim]."""
        ov = openvino()
        ops = ov.opset13
        size, dim = self._embed.shape[1:]
        parameter = residuals = ops.parameter([-1, dim], np.float32)  # the paths of one residual are consecutive rows
        paths, width = None, 1
        for level in range(first, stop):
            entries = ops.constant(self._embed[level].numpy())
            scores = ops.add(ops.matmul(residuals, entries, False, True), ops.constant(self._offsets[level][None].numpy()))
            if width > 1:
                half = ops.constant(np.float32(0.5))
                scores = ops.subtract(scores, ops.multiply(ops.reduce_sum(ops.multiply(residuals, residuals), _numbers(1), True), half))
                scores = ops.reshape(scores, _numbers([-1, width * size]), False)
            kept = 1 if level == stop - 1 else min(self._beam, width * size)
            index = self._top(scores, width * size, kept)
            residuals = ops.reshape(residuals, _numbers([-1, width, dim]), False)
            if width > 1:
                parent, index = ops.divide(index, _numbers(size)), ops.floor_mod(index, _numbers(size))
                residuals, paths = _gather_rows(residuals, parent, dim), _gather_rows(paths, parent, level - first)
            residuals = ops.reshape(ops.subtract(residuals, ops.gather(entries, index, _numbers(0))), _numbers([-1, dim]), False)
            index = ops.unsqueeze(index, _numbers(2))
            paths = index if paths is None else ops.concat([paths, index], 2)
            width = kept
        return ov.Model([ops.squeeze(paths, _numbers(1)), residuals], [parameter])

    def _top(self, scores: Any, size: int, count: int) -> Any:
        """The indices of the `count` highest scores of each row: scores [N, size] -> [N, count].

        TopK is slow on long rows. So it first picks the `count` blocks with the highest maxima, then the highest scores in those blocks.
        """
        ops = openvino().opset13

        def top(x: Any) -> Any:
            return ops.topk(x, _numbers(count), 1, "max", "none", index_element_type="i32").output(1)

        width = math.gcd(self._embed.shape[1], 32)
        if size // width < count:
            return top(scores)
        blocks = ops.reshape(scores, _numbers([-1, size // width, width]), False)
        block = top(ops.reduce_max(blocks, _numbers(2)))
        position = top(ops.reshape(_gather_rows(blocks, block, width), _numbers([-1, count * width]), False))
        if count > 1:
            block = ops.gather_elements(block, ops.divide(position, _numbers(width)), 1)
            position = ops.floor_mod(position, _numbers(width))
        return ops.add(ops.multiply(block, _numbers(width)), position)


def _gather_rows(x: Any, index: Any, depth: int) -> Any:
    """Gather along axis 1: x [N, size, depth], index [N, count] -> [N, count, depth].

    Gather with batch dimensions would do the same, but it crashes for a static batch of one small row (OpenVINO 2026.4).
    """
    ops = openvino().opset13
    broadcast = ops.broadcast(ops.unsqueeze(index, _numbers(2)), _numbers([1, 1, depth]), broadcast_spec="BIDIRECTIONAL")
    return ops.gather_elements(x, broadcast, 1)


def _numbers(value: int | list[int]) -> Any:
    return openvino().opset13.constant(value, dtype=np.int32)
