"""Streaming layers. Each layer is a pure function `forward(x, state, final) -> (y, new_state)`.

A state is a flat tuple of tensors whose first axis is the batch. Modules store nothing between calls. `x` is [B, C, T]; T is a multiple
of the layer's stride unless `final` is set.

- `state=None` means that `x` is the start of the stream: the layer pads on the left as the reference does.
- `final=True` means that `x` is the end of the stream: the layer pads its last frame on the right as the reference does.
- A whole clip is both the start and the end.
- Layers that are not causal, or that normalise over time, take whole clips only.
- With `indices`, from `StreamingLayer.indices`, the start and the end are data instead: a state is always given (zeros at a start) and
  `final` stays false. `streamcodec.model.padding` tells what for.

Follows the layers of facebookresearch/encodec (`encodec/modules/conv.py`, `lstm.py`, `seanet.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from streamcodec.model.architecture import ConvSpec, ConvTransposeSpec, ResidualSpec
from streamcodec.model.padding import Index, Indices, Padding

__all__ = ["LSTM", "Conv1d", "ConvTranspose1d", "Elu", "ResidualBlock", "Sequence1d", "State", "StreamingLayer"]

State = tuple[Tensor, ...]


class StreamingLayer(nn.Module):
    """The interface of all layers here; `num_states` is the number of tensors in the layer's state."""

    num_states: int = 0

    def forward(self, x: Tensor, state: State | None, final: bool = False, indices: Indices | None = None) -> tuple[Tensor, State]:
        """Map `x` [B, C, T] to [B, C', T'], given the state after the previous call; return the output and the new state."""
        raise NotImplementedError

    def indices(self, length: int, start: bool, final: bool) -> tuple[list[Index], int]:  # noqa: ARG002
        """The `indices` of a step over `length` inputs that is or is not the start or the end of its stream, and the output's length."""
        return [], length

    def out_length(self, length: int) -> int:
        """The output length for the first `length` input steps of a stream, or 0 if they are too few for an exact start."""
        return length


class Elu(StreamingLayer):
    """ELU; it has no state."""

    def forward(
        self,
        x: Tensor,
        state: State | None,  # noqa: ARG002
        final: bool = False,  # noqa: ARG002
        indices: Indices | None = None,  # noqa: ARG002
    ) -> tuple[Tensor, State]:
        return F.elu(x), ()


class Conv1d(StreamingLayer):
    """A convolution; its state is the last `k_eff - stride` inputs. Its padding is all on the left, or on both sides if not `causal`.

        x of earlier packets | x
              [ history ]    [ . . . . ]          output n reads k_eff inputs, starting at n * stride;
        the first packet has no history: reflection or zeros replace it

    With `norm`, the output is normalised over channels and time (group norm with one group).

    Shape: [B, in_channels, T] -> [B, out_channels, ceil(T / stride)].
    """

    def __init__(self, spec: ConvSpec) -> None:
        super().__init__()
        if spec.padding < 0:
            raise ValueError(
                f"kernel {spec.kernel_size} with dilation {spec.dilation} is shorter than stride {spec.stride}: samples would be skipped"
            )
        self.spec = spec
        self.conv = nn.Conv1d(spec.in_channels, spec.out_channels, spec.kernel_size, stride=spec.stride, dilation=spec.dilation)
        self.norm = nn.GroupNorm(1, spec.out_channels) if spec.norm else None
        self.stride = spec.stride
        self.history = spec.history
        self.padding = Padding(spec.history, spec.stride, spec.pad_mode, spec.lookahead)
        self.num_states = 1 if self.history else 0

    def forward(self, x: Tensor, state: State | None, final: bool = False, indices: Indices | None = None) -> tuple[Tensor, State]:
        if state is not None and indices is not None and self.padding.depends_on_edges:
            x = self.padding.extend_by(indices, x, state)
        else:
            x = self.padding.extend(x, state, final)
        y = self.conv(x)
        if self.norm is not None:
            y = self.norm(y)
        # x[..., -0:] would be the whole of x, so the index counts from the left.
        return y, (x[..., x.shape[-1] - self.history :],) if self.history else ()

    def indices(self, length: int, start: bool, final: bool) -> tuple[list[Index], int]:
        return self.padding.indices(length, start, final), -(-length // self.stride) if final else length // self.stride

    def out_length(self, length: int) -> int:
        return self.spec.out_length(length)


class ConvTranspose1d(StreamingLayer):
    """A transposed convolution with kernel 2 * stride, computed as a plain convolution with two taps; its state is the last input.

    Each output depends on two inputs. With t the input step and p = 0 .. stride-1 the phase within it,

        y[t * stride + p] = W[:, :, p] x[t] + W[:, :, p + stride] x[t - 1] + b

    This is a kernel-2 convolution with stride * out_channels output channels, whose phases are then interleaved. It never computes the
    output that the textbook form trims on the right, and it adds the bias exactly once. With `trim_right_ratio` below 1, a part of the
    `stride` samples is trimmed on the left instead: the stream then lags by that many samples, and its final step returns them. A layer
    that is not `causal` trims half of them on either side. With `norm`, what is trimmed counts in the mean and the variance.

    Shape: [B, in_channels, T] -> [B, out_channels, T * stride].
    """

    num_states = 1

    def __init__(self, spec: ConvTransposeSpec) -> None:
        super().__init__()
        self.spec = spec
        self.conv = nn.Conv1d(spec.in_channels, spec.out_channels * spec.stride, 2)
        self.conv.bias = nn.Parameter(torch.zeros(spec.out_channels))
        self.norm = nn.GroupNorm(1, spec.out_channels) if spec.norm else None
        self.stride = spec.stride
        self.trim_left = spec.trim_left

    def forward(self, x: Tensor, state: State | None, final: bool = False, indices: Indices | None = None) -> tuple[Tensor, State]:
        last = x[..., -1:]
        x = F.pad(x, (1, 0)) if state is None else torch.cat([state[0], x], dim=-1)
        by_index = indices is not None and self.spec.trims
        tail = final and self.spec.trims
        if tail or by_index:
            x = F.pad(x, (0, 1))
        y = F.conv1d(x, self.conv.weight)  # [B, out * stride, T]
        batch, channels, steps = y.shape
        y = y.view(batch, channels // self.stride, self.stride, steps).transpose(2, 3).reshape(batch, channels // self.stride, -1)
        assert self.conv.bias is not None
        y = y + self.conv.bias[:, None]
        if self.norm is not None:
            y = self.norm(y)
        if indices is not None and by_index:
            return torch.index_select(y, -1, next(indices)), (last,)
        if tail:
            y = y[..., : y.shape[-1] - self.stride + self.trim_left]
        if state is None and self.trim_left:
            y = y[..., self.trim_left :]
        return y, (last,)

    def indices(self, length: int, start: bool, final: bool) -> tuple[list[Index], int]:
        if not self.spec.trims:
            return [], length * self.stride
        kept = np.arange(self.trim_left if start else 0, length * self.stride + (self.trim_left if final else 0), dtype=np.int32)
        return [kept], len(kept)

    def out_length(self, length: int) -> int:
        return self.spec.out_length(length)

    @staticmethod
    def from_transposed(weight: Tensor) -> Tensor:
        """A reference weight [in, out, 2 * stride] in this layer's layout [out * stride, in, 2]."""
        channels_in, channels_out, kernel = weight.shape
        taps = weight.view(channels_in, channels_out, 2, kernel // 2)  # tap 0 meets x[t], tap 1 meets x[t - 1]
        return taps.flip(2).permute(1, 3, 0, 2).reshape(channels_out * (kernel // 2), channels_in, 2).contiguous()

    @staticmethod
    def to_transposed(weight: Tensor, stride: int) -> Tensor:
        """The inverse of `from_transposed`: [out * stride, in, 2] -> [in, out, 2 * stride]."""
        outputs, channels_in, _ = weight.shape
        taps = weight.view(outputs // stride, stride, channels_in, 2).permute(2, 0, 3, 1).flip(2)
        return taps.reshape(channels_in, outputs // stride, 2 * stride).contiguous()


class LSTM(StreamingLayer):
    """A residual LSTM, y = LSTM(x) + x; its state is h and c, each [B, layers, channels].

    Shape: [B, channels, T] -> [B, channels, T].
    """

    num_states = 2

    def __init__(self, channels: int, num_layers: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(channels, channels, num_layers, batch_first=True)

    def forward(
        self,
        x: Tensor,
        state: State | None,
        final: bool = False,  # noqa: ARG002
        indices: Indices | None = None,  # noqa: ARG002
    ) -> tuple[Tensor, State]:
        h_c = None if state is None else (state[0].transpose(0, 1).contiguous(), state[1].transpose(0, 1).contiguous())
        y, (h, c) = self.lstm(x.transpose(1, 2), h_c)
        return x + y.transpose(1, 2), (h.transpose(0, 1), c.transpose(0, 1))


class Sequence1d(StreamingLayer):
    """Layers in sequence; the state is the concatenation of the layers' states. Checkpoints name the layers by their index."""

    def __init__(self, layers: Iterable[StreamingLayer]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.num_states = sum(layer.num_states for layer in self._each())

    def _each(self) -> Sequence[StreamingLayer]:
        return list(self.layers)  # type: ignore[arg-type]

    def forward(self, x: Tensor, state: State | None, final: bool = False, indices: Indices | None = None) -> tuple[Tensor, State]:
        new_state: list[Tensor] = []
        at = 0
        for layer in self._each():
            x, layer_state = layer(x, None if state is None else state[at : at + layer.num_states], final, indices)
            at += layer.num_states
            new_state.extend(layer_state)
        return x, tuple(new_state)

    def indices(self, length: int, start: bool, final: bool) -> tuple[list[Index], int]:
        used: list[Index] = []
        for layer in self._each():
            layer_indices, length = layer.indices(length, start, final)
            used += layer_indices
        return used, length

    def out_length(self, length: int) -> int:
        for layer in self._each():
            length = layer.out_length(length)
            if length <= 0:
                return 0
        return length


class ResidualBlock(StreamingLayer):
    """SEANet's residual unit: ELU, dilated k3 conv to C / compress, ELU, k1 conv back to C, plus an identity or k1 shortcut.

    Shape: [B, channels, T] -> [B, channels, T].
    """

    def __init__(self, spec: ResidualSpec) -> None:
        super().__init__()
        first, second = Conv1d(spec.first), Conv1d(spec.second)
        self.block = nn.ModuleList([Elu(), first, Elu(), second])
        self.shortcut = Conv1d(spec.shortcut) if spec.shortcut is not None else None
        self.num_states = first.num_states

    def forward(self, x: Tensor, state: State | None, final: bool = False, indices: Indices | None = None) -> tuple[Tensor, State]:
        y, new_state = self._first(F.elu(x), state, final, indices)
        y, _ = self.block[3](F.elu(y), None if state is None else (), final)
        if self.shortcut is not None:
            x, _ = self.shortcut(x, None if state is None else (), final)
        return x + y, new_state

    @property
    def _first(self) -> Conv1d:
        """The only layer with a state and with padding."""
        return cast(Conv1d, self.block[1])

    def indices(self, length: int, start: bool, final: bool) -> tuple[list[Index], int]:
        return self._first.indices(length, start, final)

    def out_length(self, length: int) -> int:
        return self._first.out_length(length)
