"""The layers of a step as nodes of an ONNX graph: the same sums as in `streamcodec.model.layers`, which tells what each layer is.

A graph is made for one kind of step: whether it starts a stream and whether it ends it. The lengths of inputs and the number of streams
are free.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from streamcodec.engine.onnx.graph import Graph
from streamcodec.model.architecture import ConvSpec, ConvTransposeSpec, EluSpec, LayerSpec, LstmSpec, ResidualSpec
from streamcodec.model.canonical import Tensors

__all__ = ["LayerWriter", "state_size"]

_END = 2**63 - 1
_EPSILON = 1e-5  # torch's group norm


def state_size(layers: Sequence[LayerSpec]) -> int:
    """The floats in a state."""
    return sum(math.prod(shape) for layer in layers for shape in layer.state_shapes)


@dataclass(frozen=True)
class LayerWriter:
    """Writes layers into `graph`, for steps that `start` or end (`final`) a stream or do neither."""

    graph: Graph
    tensors: Tensors
    start: bool = False
    final: bool = False

    def write(self, layers: Sequence[LayerSpec], prefix: str, x: str, states: str | None) -> tuple[str, str]:
        """Write layers, whose weights begin with `prefix`: x [B, C, T] and states [B, S] -> y and new states; no states at a start."""
        shapes = [shape for layer in layers for shape in layer.state_shapes]
        old = iter([None] * len(shapes) if states is None else self._unpack(states, shapes))
        new: list[str] = []
        for i, layer in enumerate(layers):
            x, state = self._layer(layer, f"{prefix}.layers.{i}", x, [next(old) for _ in layer.state_shapes])
            new += state
        flat = [self.graph.add("Reshape", state, self.graph.ints(0, -1)) for state in new]
        return x, self.graph.add("Concat", *flat, axis=1)

    def _unpack(self, states: str, shapes: Sequence[tuple[int, ...]]) -> list[str]:
        sizes = self.graph.ints(*(math.prod(shape) for shape in shapes))
        parts = self.graph.add_several("Split", len(shapes), states, sizes, axis=1)
        return [self.graph.add("Reshape", part, self.graph.ints(0, *shape)) for part, shape in zip(parts, shapes, strict=True)]

    def _layer(self, layer: LayerSpec, name: str, x: str, state: Sequence[str | None]) -> tuple[str, list[str]]:
        match layer:
            case EluSpec():
                return self.graph.add("Elu", x), []
            case ConvSpec():
                return self._conv(layer, name, x, state)
            case ConvTransposeSpec():
                return self._conv_transpose(layer, name, x, state[0])
            case LstmSpec():
                return self._lstm(layer, name, x, state)
            case ResidualSpec():
                return self._residual(layer, name, x, state)

    def _weight(self, name: str) -> str:
        return self.graph.weight(name, self.tensors[name])

    # Convolutions

    def _conv(self, conv: ConvSpec, name: str, x: str, state: Sequence[str | None]) -> tuple[str, list[str]]:
        x = self._pad(conv, x, state)
        weight, bias = self._weight(f"{name}.conv.weight"), self._weight(f"{name}.conv.bias")
        y = self.graph.add("Conv", x, weight, bias, strides=[conv.stride], dilations=[conv.dilation], kernel_shape=[conv.kernel_size])
        if conv.norm:
            y = self._norm(y, name)
        return y, [self._slice(x, -conv.history, _END)] if conv.history else []

    def _pad(self, conv: ConvSpec, x: str, state: Sequence[str | None]) -> str:
        """As `streamcodec.model.padding.Padding.extend`."""
        graph = self.graph
        if state and state[0] is not None:
            x = graph.add("Concat", state[0], x, axis=2)
        history = conv.history if self.start else 0
        ends = self.final and (conv.stride > 1 or conv.lookahead > 0)
        if not history and not ends:
            return x
        before, after = graph.ints(history), graph.ints(0)
        if ends:
            length = self._length(x, 0 if self.start else conv.history)
            missing = graph.add("Mod", graph.add("Neg", length), graph.ints(conv.stride))
            after = graph.add("Add", missing, graph.ints(conv.lookahead))
        if not (conv.pad_mode == "reflect" and self.start and self.final):
            return self._pad_by(x, before, after, conv.pad_mode)
        # The clip may be no longer than its padding: the reference appends zeros, reflects the result and removes the zeros again.
        lacking = graph.add("Sub", graph.add("Max", before, after), self._length(x, 1))
        zeros = graph.add("Max", lacking, graph.ints(0))
        padded = self._pad_by(self._pad_by(x, graph.ints(0), zeros, "constant"), before, after, "reflect")
        return graph.add("Slice", padded, graph.ints(0), graph.add("Sub", self._length(padded), zeros), graph.ints(2))

    def _pad_by(self, x: str, before: str, after: str, mode: str) -> str:
        pads = self.graph.add("Concat", self.graph.ints(0, 0), before, self.graph.ints(0, 0), after, axis=0)
        return self.graph.add("Pad", x, pads, mode=mode)

    def _length(self, x: str, less: int = 0) -> str:
        """The number of time steps of x [B, C, T], as [1]."""
        length = self.graph.add("Shape", x, start=2, end=3)
        return self.graph.add("Sub", length, self.graph.ints(less)) if less else length

    def _slice(self, x: str, start: int, end: int) -> str:
        return self.graph.add("Slice", x, self.graph.ints(start), self.graph.ints(end), self.graph.ints(2))

    def _norm(self, x: str, name: str) -> str:
        """Group norm with one group: over all channels and time steps of each stream."""
        graph = self.graph
        together = graph.add("Reshape", x, graph.ints(0, 1, -1))
        scale, bias = (graph.add("Constant", value_floats=[value]) for value in (1.0, 0.0))
        normal = graph.add("InstanceNormalization", together, scale, bias, epsilon=_EPSILON)
        normal = graph.add("Reshape", normal, graph.add("Shape", x))
        gain, offset = (graph.add("Reshape", self._weight(f"{name}.norm.{part}"), graph.ints(-1, 1)) for part in ("weight", "bias"))
        return graph.add("Add", graph.add("Mul", normal, gain), offset)

    # The other layers

    def _conv_transpose(self, layer: ConvTransposeSpec, name: str, x: str, state: str | None) -> tuple[str, list[str]]:
        graph, stride = self.graph, layer.stride
        last = self._slice(x, -1, _END)
        if state is not None:
            x = graph.add("Concat", state, x, axis=2)
        at_end = self.final and layer.trims
        if state is None or at_end:
            x = self._pad_by(x, graph.ints(int(state is None)), graph.ints(int(at_end)), "constant")
        # [in, out, 2 * stride] -> [out * stride, in, 2]: two taps for each phase, the newer input first in the weight, last in time
        taps = self.tensors[f"{name}.conv.weight"].reshape(layer.in_channels, layer.out_channels, 2, stride)[:, :, ::-1]
        weight = graph.weight(f"{name}.conv.taps", taps.transpose(1, 3, 0, 2).reshape(-1, layer.in_channels, 2))
        bias = graph.weight(f"{name}.conv.bias", self.tensors[f"{name}.conv.bias"].repeat(stride))
        y = graph.add("Conv", x, weight, bias, kernel_shape=[2])
        phases = graph.add("Reshape", y, graph.ints(0, layer.out_channels, stride, -1))
        y = graph.add("Reshape", graph.add("Transpose", phases, perm=[0, 1, 3, 2]), graph.ints(0, layer.out_channels, -1))
        if layer.norm:
            y = self._norm(y, name)
        if at_end and stride > layer.trim_left:
            y = self._slice(y, 0, layer.trim_left - stride)
        if state is None and layer.trim_left:
            y = self._slice(y, layer.trim_left, _END)
        return y, [last]

    def _lstm(self, layer: LstmSpec, name: str, x: str, state: Sequence[str | None]) -> tuple[str, list[str]]:
        graph, size = self.graph, layer.channels
        y = graph.add("Transpose", x, perm=[2, 0, 1])  # [T, B, C]
        old: list[list[str]] = [[], []]
        for each, parts in zip(state, old, strict=True):
            if each is not None:  # [B, layers, C] -> [1, B, C] of each layer
                parts += graph.add_several("Split", layer.num_layers, graph.add("Transpose", each, perm=[1, 0, 2]), axis=0)
        new: list[list[str]] = [[], []]
        for i in range(layer.num_layers):
            of_input, of_state = (_gates(self.tensors[f"{name}.lstm.weight_{part}_l{i}"])[None] for part in ("ih", "hh"))
            biases = np.concatenate([_gates(self.tensors[f"{name}.lstm.bias_{part}_l{i}"]) for part in ("ih", "hh")])[None]
            weights = [
                graph.weight(f"{name}.lstm.{part}_l{i}", array)
                for part, array in (("weight_ih", of_input), ("weight_hh", of_state), ("bias", biases))
            ]
            before = ["", old[0][i], old[1][i]] if old[0] else []
            y, *after = graph.add_several("LSTM", 3, y, *weights, *before, hidden_size=size)
            y = graph.add("Squeeze", y, graph.ints(1))  # [T, 1, B, C]: one direction
            for parts, part in zip(new, after, strict=True):
                parts.append(part)
        state_now = [graph.add("Transpose", graph.add("Concat", *parts, axis=0), perm=[1, 0, 2]) for parts in new]
        return graph.add("Add", x, graph.add("Transpose", y, perm=[1, 2, 0])), state_now

    def _residual(self, layer: ResidualSpec, name: str, x: str, state: Sequence[str | None]) -> tuple[str, list[str]]:
        y, new_state = self._conv(layer.first, f"{name}.block.1", self.graph.add("Elu", x), state)
        y, _ = self._conv(layer.second, f"{name}.block.3", self.graph.add("Elu", y), [])
        if layer.shortcut is not None:
            x, _ = self._conv(layer.shortcut, f"{name}.shortcut", x, [])
        return self.graph.add("Add", x, y), new_state


def _gates(array: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """torch's order of an LSTM's gates, input, forget, cell and output, to ONNX's: input, output, forget and cell."""
    of_input, forget, cell, output = np.split(array, 4)
    return np.concatenate([of_input, output, forget, cell])
