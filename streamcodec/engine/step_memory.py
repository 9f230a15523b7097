"""What the program of a step works on: weights that are read as they are multiplied, and memory that buffers share."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from streamcodec.engine.compiling import LANES, converts_half_precision, in_large_pages
from streamcodec.engine.step_kernel import ROOM, run_step

__all__ = ["Buffer", "Operation", "Place", "StepProgram", "Weights"]

Floats = npt.NDArray[np.float32]


class Weights:
    """All matrices as panels of `LANES` outputs and all biases, each stored once under a key; in half precision where that is exact."""

    def __init__(self) -> None:
        self._places: dict[Hashable, tuple[int, int, int, int]] = {}
        self._parts: tuple[list[Floats], list[Floats]] = [], []
        self._sizes = [0, 0]
        self._bias_parts: list[Floats] = []
        self._bias_size = 0
        self.panels: Any = None
        self.wide: Any = None
        """The panels of matrices that were placed as `wide`: always in float32."""
        self.biases: Any = None

    def place(self, key: Hashable, make: Callable[[], tuple[Floats, Floats | None]], *, wide: bool = False) -> tuple[int, int, int, int]:
        """Where the panels and the bias (-1: none) of a matrix [outputs, inputs] are, its outputs and its inputs."""
        if key not in self._places:
            assert self.panels is None, "a matrix that depends on the size of the step"
            matrix, bias = make()
            outputs, inputs = matrix.shape
            count = -(-outputs // LANES)
            padded = np.zeros((count * LANES, inputs), np.float32)
            padded[:outputs] = matrix
            self._parts[wide].append(padded.reshape(count, LANES, inputs)[::-1].transpose(0, 2, 1).reshape(-1))
            at = -1
            if bias is not None:
                at = self._bias_size
                self._bias_parts.append(np.concatenate([bias, np.zeros(count * LANES - outputs, np.float32)]))
                self._bias_size += count * LANES
            self._places[key] = self._sizes[wide], at, outputs, inputs
            self._sizes[wide] += padded.size
        return self._places[key]

    def join(self) -> None:
        """Join what was placed, once: all programs of the same layers place the same."""
        if self.panels is not None:
            return
        none = np.zeros(0, np.float32)
        panels, self.wide = (np.concatenate([none, *parts]) for parts in self._parts)
        self.biases = np.concatenate([none, *self._bias_parts])
        if converts_half_precision():
            with np.errstate(over="ignore"):
                halves = panels.astype(np.float16)
            panels = halves.view(np.uint16) if np.array_equal(halves, panels) else panels
        self.panels = in_large_pages(panels)
        self._parts = [], []
        self._bias_parts.clear()


@dataclass(eq=False)
class Buffer:
    """Memory of each stream that is used from the operation `first` to the operation `last`."""

    size: int
    first: int = -1
    last: int = -1
    at: int = 0

    @property
    def pitch(self) -> int:
        return self.size + ROOM


class Place(NamedTuple):
    buffer: Buffer
    offset: int = 0


class Operation(NamedTuple):
    kind: int
    x: Place
    y: Place
    rows: int
    x_step: int = 0
    depth: int = 0
    weights: int = 0
    bias: int = 0
    outputs: int = 0
    y_step: int = 0
    h: Place | None = None
    first: Place | None = None
    first_step: int = 0


class StepProgram:
    """Operations on memory that is laid out for any number of streams: each buffer has the same place in every stream's memory."""

    def __init__(
        self,
        operations: Sequence[Operation],
        inputs: Sequence[Buffer],
        outputs: Sequence[Buffer],
        y_shape: tuple[int, ...],
        weights: Weights,
        memories: list[Floats],
    ) -> None:
        self.y_shape = y_shape
        self._weights = weights
        self._inputs, self._outputs = inputs, outputs
        self._pitch = _lay_out(operations, inputs, outputs)
        self._table = np.array([self._row(each) for each in operations], np.int64)
        self._memories = memories

    def _row(self, op: Operation) -> list[int]:
        def at(place: Place) -> int:
            return place.buffer.at + place.offset

        third = at(op.h) if op.h is not None else op.weights
        first = at(op.first or op.y)
        return [op.kind, at(op.x), op.x_step, op.rows, op.depth, third, op.bias, op.outputs, at(op.y), op.y_step, first, op.first_step]

    def __call__(self, x: Floats, states: Floats, y: Floats, new_states: Floats) -> None:
        streams = len(x)
        try:
            memory = self._memories.pop()
        except IndexError:
            memory = np.zeros(0, np.float32)
        if memory.size < streams * self._pitch:
            memory = np.zeros(streams * self._pitch, np.float32)
        by_stream = memory[: streams * self._pitch].reshape(streams, self._pitch)
        for buffer, array in zip(self._inputs, (x, states), strict=True):
            end = buffer.at + buffer.size
            by_stream[:, end - array[0].size : end] = array.reshape(streams, -1)
        run_step(self._table, streams, self._pitch, memory, self._weights.panels, self._weights.wide, self._weights.biases)
        for buffer, array in zip(self._outputs, (y, new_states), strict=True):
            array.reshape(streams, -1)[...] = by_stream[:, buffer.at : buffer.at + buffer.size]
        self._memories.append(memory)


def _lay_out(operations: Sequence[Operation], inputs: Sequence[Buffer], outputs: Sequence[Buffer]) -> int:
    """Give each buffer its place in a stream's memory, and return how much a stream needs: buffers share what they use in turns."""
    buffers: dict[Buffer, None] = {}
    for i, op in enumerate(operations):
        for place in (op.x, op.y, op.h, op.first):
            if place is not None:
                place.buffer.first = i if place.buffer.first < 0 else place.buffer.first
                place.buffer.last = i
                buffers[place.buffer] = None
    for buffer in inputs:
        buffer.first = -1
        buffers[buffer] = None
    for buffer in outputs:
        buffer.last = len(operations)
        buffers[buffer] = None
    placed: list[Buffer] = []
    for buffer in sorted(buffers, key=lambda each: each.first):
        at = 0
        for other in sorted(placed, key=lambda each: each.at):
            if other.last < buffer.first or other.at >= at + buffer.pitch:
                continue
            at = max(at, other.at + other.pitch)
        buffer.at = at
        placed.append(buffer)
    return max(each.at + each.pitch for each in placed)
