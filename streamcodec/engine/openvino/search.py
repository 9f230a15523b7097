"""The search through the codebooks as OpenVINO networks: one for each run of levels, whose residuals never leave it."""

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
    """As `CodebookSearch`; `compile` makes one that runs out of a network, which is told whether it is that of the levels that all use."""

    def __init__(self, quantizer: ResidualVQ, compile: Callable[[Any, bool], OpenVinoNetwork]) -> None:
        super().__init__(quantizer)
        self._networks = {first: compile(self._network(first, stop), first == 0) for first, stop in self._runs}

    @property
    def own_shapes(self) -> list[Shapes]:
        """The shapes of residuals that have a network of their own by now."""
        return [shape for network in self._networks.values() for shape in network.own_shapes]

    def prepare(self, sizes: Iterable[int]) -> None:
        """Make ready for so many residuals at a time, at the levels that all rows use."""
        dim = self._embed.shape[2]
        self._networks[0].prepare([((size, dim),) for size in sizes])

    def stop_preparing(self) -> None:
        """Forget the shapes that wait to be compiled."""
        for network in self._networks.values():
            network.stop_preparing()

    def _search(self, first: int, stop: int, rest: Samples) -> tuple[npt.NDArray[np.int32], Samples]:  # noqa: ARG002 - the whole run
        found, rest = self._networks[first](rest)
        return found, rest

    def _network(self, first: int, stop: int) -> Any:
        """Residuals [N, dim] -> entries [N, levels] and what they leave [N, dim]."""
        ov = openvino()
        ops = ov.opset13
        size, dim = self._embed.shape[1:]
        given = left = ops.parameter([-1, dim], np.float32)  # of all paths of a residual, one after the other
        paths, width = None, 1
        for level in range(first, stop):
            entries = ops.constant(self._embed[level].numpy())
            scores = ops.add(ops.matmul(left, entries, False, True), ops.constant(self._offsets[level][None].numpy()))
            if width > 1:
                half = ops.constant(np.float32(0.5))
                scores = ops.subtract(scores, ops.multiply(ops.reduce_sum(ops.multiply(left, left), _numbers(1), True), half))
                scores = ops.reshape(scores, _numbers([-1, width * size]), False)
            kept = 1 if level == stop - 1 else min(self._beam, width * size)
            index = self._top(scores, width * size, kept)
            left = ops.reshape(left, _numbers([-1, width, dim]), False)
            if width > 1:
                parent, index = ops.divide(index, _numbers(size)), ops.floor_mod(index, _numbers(size))
                left, paths = _picked(left, parent, dim), _picked(paths, parent, level - first)
            left = ops.reshape(ops.subtract(left, ops.gather(entries, index, _numbers(0))), _numbers([-1, dim]), False)
            index = ops.unsqueeze(index, _numbers(2))
            paths = index if paths is None else ops.concat([paths, index], 2)
            width = kept
        return ov.Model([ops.squeeze(paths, _numbers(1)), left], [given])

    def _top(self, scores: Any, size: int, count: int) -> Any:
        """Where each row's `count` highest scores are: scores [N, size] -> [N, count].

        The best blocks by their highest scores, then the best in them, since TopK is slow on long rows.
        """
        ops = openvino().opset13

        def top(x: Any) -> Any:
            return ops.topk(x, _numbers(count), 1, "max", "none", index_element_type="i32").output(1)

        width = math.gcd(self._embed.shape[1], 32)
        if size // width < count:
            return top(scores)
        blocks = ops.reshape(scores, _numbers([-1, size // width, width]), False)
        block = top(ops.reduce_max(blocks, _numbers(2)))
        inside = top(ops.reshape(_picked(blocks, block, width), _numbers([-1, count * width]), False))
        if count > 1:
            block = ops.gather_elements(block, ops.divide(inside, _numbers(width)), 1)
            inside = ops.floor_mod(inside, _numbers(width))
        return ops.add(ops.multiply(block, _numbers(width)), inside)


def _picked(x: Any, index: Any, depth: int) -> Any:
    """Entries of each row: x [N, size, depth], index [N, count] -> [N, count, depth].

    Not by Gather with batch dimensions: on one small row, known to be one when it is compiled, that crashes (OpenVINO 2026.4).
    """
    ops = openvino().opset13
    everywhere = ops.broadcast(ops.unsqueeze(index, _numbers(2)), _numbers([1, 1, depth]), broadcast_spec="BIDIRECTIONAL")
    return ops.gather_elements(x, everywhere, 1)


def _numbers(value: int | list[int]) -> Any:
    return openvino().opset13.constant(value, dtype=np.int32)
