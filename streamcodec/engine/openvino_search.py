"""The search through the codebooks as OpenVINO networks: one for each run of levels, whose residuals never leave it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from streamcodec.engine.contract import Samples
from streamcodec.engine.openvino_network import OpenVinoNetwork, Shapes, openvino
from streamcodec.engine.search import CodebookSearch

__all__ = ["OpenVinoSearch"]


class OpenVinoSearch(CodebookSearch):
    """As `CodebookSearch`; `compile` makes one that runs out of a network, which is told whether it is that of the levels that all use."""

    def __init__(self, embed: torch.Tensor, stops: Sequence[int], compile: Callable[[Any, bool], OpenVinoNetwork]) -> None:
        super().__init__(embed, stops)
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
        one = ops.constant(1, dtype=np.int32)
        given = residual = ops.parameter([-1, self._embed.shape[2]], np.float32)
        found = []
        for level in range(first, stop):
            entries = ops.constant(self._embed[level].numpy())
            offsets = ops.constant(self._offsets[level][None].numpy())
            index = self._argmax(ops.add(ops.matmul(residual, entries, False, True), offsets))
            found.append(ops.unsqueeze(index, one))
            residual = ops.subtract(residual, ops.gather(entries, index, ops.constant(0, dtype=np.int32)))
        return ov.Model([ops.concat(found, 1), residual], [given])

    def _argmax(self, scores: Any) -> Any:
        """Scores [N, size] -> [N]: the best block by its highest score, then the best in it, since TopK is slow on long rows."""
        ops = openvino().opset13

        def number(value: int | list[int]) -> Any:
            return ops.constant(value, dtype=np.int32)

        def top(x: Any) -> Any:
            return ops.squeeze(ops.topk(x, number(1), 1, "max", "none", index_element_type="i32").output(1), number(1))

        width = math.gcd(self._embed.shape[1], 32)
        blocks = ops.reshape(scores, number([-1, self._embed.shape[1] // width, width]), False)
        block = top(ops.reduce_max(blocks, number(2)))
        inside = top(ops.squeeze(ops.gather(blocks, ops.unsqueeze(block, number(1)), number(1), batch_dims=1), number(1)))
        return ops.add(ops.multiply(block, number(width)), inside)
