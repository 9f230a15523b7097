"""The program of a step of the encoder or decoder, and the memory that it works on: see `streamcodec.engine.step`.

All tensors are time-major: the channels of one time step are neighbours. So the inputs of each output of a convolution are consecutive
numbers, and every layer is a matrix product on the memory as it is:

- The rows of a convolution overlap: they are `kernel * channels` numbers that begin `stride * channels` apart. What a layer remembers
  from the packet before lies in front of its input.
- A transposed convolution gives all phases of a step in one row; they are the next time steps one after another.
- A convolution whose kernel is twice its stride, and a transposed one, take three products for two rows where they could take four.
- A convolution to few channels computes several time steps in one row, so that its outputs fill a vector.

The layers define what is computed (`streamcodec.model.layers`). A program computes the same sums in another order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

from streamcodec.engine.compiling import LANES
from streamcodec.engine.step_kernel import ROOM, Op
from streamcodec.engine.step_memory import Buffer, Operation, Place, StepProgram, Weights
from streamcodec.model.layers import LSTM, Conv1d, ConvTranspose1d, Elu, ResidualBlock, Sequence1d, StreamingLayer

__all__ = ["build_program"]

Floats = npt.NDArray[np.float32]

_ROWS = 4
"""The rows of a frame from which on two taps are worth three products."""


class _Signal(NamedTuple):
    """`steps` time steps of `channels` channels."""

    place: Place
    steps: int
    channels: int

    @property
    def size(self) -> int:
        return self.steps * self.channels


def build_program(layers: Sequence1d, shape: Sequence[int], state_size: int, weights: Weights, memories: list[Floats]) -> StepProgram:
    """Build the program for x of this shape: [T] for an encoder, [C, F] for a decoder. Programs of the same layers share the rest.

    The first one fills `weights`.
    """
    return _Builder(weights, state_size, len(shape) == 1).build(layers, shape, memories)


class _Builder:
    def __init__(self, weights: Weights, state_size: int, is_encoder: bool) -> None:
        self._weights = weights
        self._is_encoder = is_encoder
        self._states, self._new_states = Buffer(state_size), Buffer(state_size)
        self._state_at = 0
        self._operations: list[Operation] = []
        self._frames = 1

    def build(self, layers: Sequence1d, shape: Sequence[int], memories: list[Floats]) -> StepProgram:
        each: list[Any] = list(layers.layers)
        room = _history(each[0])
        if self._is_encoder:
            self._frames = shape[0] // math.prod(layer.stride for layer in each if isinstance(layer, Conv1d))
            given = Buffer(room + shape[0])
            x = _Signal(Place(given, room), shape[0], 1)
        else:
            given, (channels, steps) = Buffer(math.prod(shape)), shape
            self._frames = steps
            x = _Signal(Place(Buffer(room + given.size), room), steps, channels)
            self._add(Op.TRANSPOSE, Place(given), x.place, steps, depth=channels)
        for layer, following in zip(each, [*each[1:], None], strict=True):
            x = self._layer(layer, x, _history(following))
            self._join_sum_and_elu()
        y = x.place.buffer
        if self._is_encoder:
            y = Buffer(x.size)
            self._add(Op.TRANSPOSE, x.place, Place(y), x.channels, depth=x.steps)
        y_shape = (x.channels, x.steps) if self._is_encoder else (x.size,)
        self._weights.join()
        return StepProgram(self._operations, (given, self._states), (y, self._new_states), y_shape, self._weights, memories)

    def _add(self, kind: int, x: Place, y: Place, rows: int, **more: Any) -> None:
        self._operations.append(Operation(kind, x, y, rows, **more))

    def _join_sum_and_elu(self) -> None:
        """Make one operation of the last two if they are a sum and its ELU: nothing else needs what a layer leaves to an ELU behind it."""
        *_, before, last = [None, *self._operations]
        if before is not None and last is not None and (before.kind, last.kind) == (Op.ADD, Op.ELU) and before.y == last.x:
            self._operations[-2:] = [last._replace(kind=Op.SUM_ELU, x=before.x, first=before.y)]

    def _layer(self, layer: StreamingLayer, x: _Signal, room: int) -> _Signal:
        """Add a layer, whose output gets `room` numbers in front of it, and return its output."""
        match layer:
            case Elu():
                y = _Signal(Place(Buffer(room + x.size), room), x.steps, x.channels)
                self._add(Op.ELU, x.place, y.place, x.size)
                return y
            case Conv1d():
                return self._conv(layer, x, room)
            case ConvTranspose1d():
                return self._conv_transpose(layer, x, room)
            case LSTM():
                return self._lstm(layer, x)
            case ResidualBlock():
                return self._residual_block(layer, x)
            case _:
                raise TypeError(f"the layer is a {type(layer).__name__}, expected one of streamcodec.model.layers")

    def _conv(self, layer: Conv1d, x: _Signal, room: int = 0) -> _Signal:
        conv, stride = layer.conv, layer.stride
        outputs, channels, kernel = conv.weight.shape
        span = (kernel - 1) * conv.dilation[0] + 1
        self._remember(x, layer.history)
        steps = x.steps // stride
        # Of one frame's steps, so that the matrix is the same for all packets.
        together = math.gcd(steps // self._frames, max(1, LANES // outputs))

        def matrix() -> tuple[Floats, Floats]:
            weight, bias = _array(conv.weight), _array(conv.bias)
            rows = np.zeros((together, outputs, span + (together - 1) * stride, channels), np.float32)
            for step in range(together):
                rows[step, :, step * stride : step * stride + span : conv.dilation[0]] = weight.transpose(0, 2, 1)
            return rows.reshape(together * outputs, -1), np.tile(bias, together)

        begin = Place(x.place.buffer, x.place.offset - layer.history * channels)
        if span == 2 * stride and together == 1 and self._pays(steps, outputs):
            return self._two_taps(layer, matrix, begin, steps, stride * channels, (steps, outputs), room)
        return self._product((layer, together), matrix, begin, steps // together, together * stride * channels, (steps, outputs), room)

    def _conv_transpose(self, layer: ConvTranspose1d, x: _Signal, room: int) -> _Signal:
        self._remember(x, 1)

        def matrix() -> tuple[Floats, Floats]:
            weight, bias = _array(layer.conv.weight), _array(layer.conv.bias)
            by_phase = weight.reshape(len(bias), layer.stride, x.channels, 2).transpose(1, 0, 3, 2)
            return by_phase.reshape(len(weight), -1), np.tile(bias, layer.stride)

        outputs = len(layer.conv.weight) // layer.stride
        begin = Place(x.place.buffer, x.place.offset - x.channels)
        if self._pays(x.steps, len(layer.conv.weight)):
            return self._two_taps(layer, matrix, begin, x.steps, x.channels, (x.steps * layer.stride, outputs), room)
        return self._product(layer, matrix, begin, x.steps, x.channels, (x.steps * layer.stride, outputs), room)

    def _product(
        self,
        key: Hashable,
        matrix: Callable[[], tuple[Floats, Floats | None]],
        x: Place,
        rows: int,
        x_step: int,
        shape: tuple[int, int],
        room: int,
    ) -> _Signal:
        weights, bias, outputs, depth = self._weights.place(key, matrix)
        y = _Signal(Place(Buffer(room + math.prod(shape)), room), *shape)
        self._add(Op.PRODUCT, x, y.place, rows, x_step=x_step, depth=depth, weights=weights, bias=bias, outputs=outputs, y_step=outputs)
        return y

    def _pays(self, rows: int, outputs: int) -> bool:
        """Whether `_two_taps` pays: rows share what more it reads. A frame has an even number of them, and a row whole panels."""
        frame = rows // self._frames
        return frame % 2 == 0 and frame >= _ROWS and outputs % LANES == 0

    def _two_taps(
        self,
        key: Hashable,
        matrix: Callable[[], tuple[Floats, Floats]],
        x: Place,
        rows: int,
        size: int,
        shape: tuple[int, int],
        room: int,
    ) -> _Signal:
        """Add a product of `rows` rows, an even number: row n is B x[n - 1] + A x[n]; x[-1] begins at `x`, and each has `size` numbers.

        Two rows take three products and not four (Winograd, "Arithmetic Complexity of Computations", 1980): with s = (A + B) x[0] they are
        s + B (x[-1] - x[0]) and s - A (x[0] - x[1]).
        """

        def taps() -> tuple[Floats, Floats, Floats]:
            weights, bias = matrix()
            return weights[:, :size], weights[:, size:], bias

        def both() -> tuple[Floats, Floats]:
            before, now, bias = taps()
            return before + now, bias

        half = rows // 2
        weights, bias, outputs, _ = self._weights.place((key, "both"), both, wide=True)
        common, differences = Place(Buffer(half * outputs)), Buffer(rows * size)
        self._add(Op.DIFFERENCE, x, Place(differences), differences.size, depth=size)
        rest = {"x_step": 2 * size, "depth": size, "outputs": outputs}
        now = Place(x.buffer, x.offset + size)
        self._add(Op.WIDE_PRODUCT, now, common, half, weights=weights, bias=bias, y_step=outputs, **rest)
        y = _Signal(Place(Buffer(room + math.prod(shape)), room), *shape)
        for row, tap in enumerate((lambda: (taps()[0], None), lambda: (-taps()[1], None))):
            weights, bias, _, _ = self._weights.place((key, row), tap)
            source, target = Place(differences, row * size), Place(y.place.buffer, y.place.offset + row * outputs)
            more = {"weights": weights, "bias": bias, "first": common, "first_step": outputs, "y_step": 2 * outputs}
            self._add(Op.PRODUCT, source, target, half, **rest, **more)
        return y

    def _remember(self, x: _Signal, steps: int) -> None:
        """Copy a layer's state, the `steps` steps before x as [C, steps], in front of x, and the end of both to the new state."""
        if steps:
            buffer, size = x.place.buffer, steps * x.channels
            begin = x.place.offset - size
            self._add(Op.TRANSPOSE, Place(self._states, self._state_at), Place(buffer, begin), steps, depth=x.channels)
            self._add(Op.TRANSPOSE, Place(buffer, begin + x.size), Place(self._new_states, self._state_at), x.channels, depth=steps)
            self._state_at += size

    def _take(self, y: Place, size: int, at: int = 0) -> None:
        self._add(Op.COPY, Place(self._states, self._state_at + at), y, size)

    def _keep(self, x: Place, size: int, at: int = 0) -> None:
        self._add(Op.COPY, x, Place(self._new_states, self._state_at + at), size)

    def _lstm(self, layer: LSTM, x: _Signal) -> _Signal:
        size, num = layer.lstm.hidden_size, layer.lstm.num_layers
        gate = -(-size // ROOM) * ROOM  # each gate fills whole blocks, so that an element-wise function stays within it
        y = x
        for i in range(num):
            parts = (getattr(layer.lstm, f"{name}_l{i}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
            of_inputs, of_state = _lstm_matrices(gate, *parts)
            gates = self._product((layer, i, "inputs"), of_inputs, y.place, x.steps, size, (x.steps, 4 * gate), 0)
            weights, bias, outputs, depth = self._weights.place((layer, i, "state"), of_state)
            h, c = Buffer((x.steps + 1) * size), Buffer(gate)
            self._take(Place(h), size, i * size)
            self._take(Place(c), size, (num + i) * size)
            for step in range(x.steps):
                here = Place(gates.place.buffer, step * 4 * gate)
                self._add(Op.PRODUCT, Place(h, step * size), here, 1, depth=depth, weights=weights, bias=bias, outputs=outputs)
                self._add(Op.CELL, here, Place(c), size, depth=gate, h=Place(h, (step + 1) * size))
            self._keep(Place(h, x.steps * size), size, i * size)
            self._keep(Place(c), size, (num + i) * size)
            y = _Signal(Place(h, size), x.steps, size)
        self._state_at += 2 * num * size
        self._add(Op.ADD, x.place, y.place, x.size)
        return y

    def _residual_block(self, layer: ResidualBlock, x: _Signal) -> _Signal:
        activation, first, second, last = layer.block
        y = self._layer(activation, x, _history(first))  # type: ignore[arg-type]
        y = self._layer(first, y, 0)  # type: ignore[arg-type]
        y = self._layer(second, y, 0)  # type: ignore[arg-type]
        y = self._layer(last, y, 0)  # type: ignore[arg-type]
        if layer.shortcut is not None:
            x = self._conv(layer.shortcut, x)
        self._add(Op.ADD, x.place, y.place, x.size)
        return y


def _history(layer: StreamingLayer | None) -> int:
    """How many numbers a layer remembers in front of its input."""
    if isinstance(layer, Conv1d):
        return layer.history * layer.conv.in_channels
    return layer.conv.in_channels if isinstance(layer, ConvTranspose1d) else 0


def _lstm_matrices(
    gate: int, w_x: Tensor, w_h: Tensor, b_x: Tensor, b_h: Tensor
) -> tuple[Callable[[], tuple[Floats, Floats]], Callable[[], tuple[Floats, None]]]:
    """What makes the matrices for an LSTM's inputs and for its state, with `gate` outputs for each gate."""

    def padded(tensor: Tensor) -> Floats:
        by_gate = _array(tensor).reshape(4, -1, *tensor.shape[1:])
        rows = np.zeros((4, gate, *tensor.shape[1:]), np.float32)
        rows[:, : by_gate.shape[1]] = by_gate
        return rows.reshape(4 * gate, *tensor.shape[1:])

    return lambda: (padded(w_x), padded(b_x + b_h)), lambda: (padded(w_h), None)


def _array(tensor: Tensor | None) -> Floats:
    assert tensor is not None
    return tensor.detach().numpy()
