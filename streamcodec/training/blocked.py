"""A model's layers on blocks of steps, channels last: the same sums as `streamcodec.model.layers` makes, in shapes that processors like.

A layer of 16 channels keeps a processor's matrix unit at a few percent of its pace. Eight steps of 16 channels are one block of 128, and a
convolution over steps is a product with blocks, whose matrix holds the layer's weight once for every step of a block, shifted, and zeros:

    x1 x2 | x3 x4 x5 x6        a window: what the first step needs of the block before, and a block of 4
        w0 w1 w2  .  .         output x3      (kernel 3)
         .  .  . w0 w1 w2      output x6

With channels last a block is a view of its steps. For training only: whole crops of whole frames, of models that pad with zeros.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from streamcodec.config import CodecConfig
from streamcodec.model.encodec import EncodecModel
from streamcodec.model.layers import LSTM, CausalConv1d, CausalConvTranspose1d, Elu, ResidualBlock, StreamingLayer

__all__ = ["Blocked", "can_be_blocked"]

_WIDTH = 128  # values of a block
_LAST_STEPS = 32  # a block of the last layer, which is computed in float32


def can_be_blocked(config: CodecConfig) -> bool:
    """Whether a model of this configuration starts with zeros and never looks ahead, as blocks do."""
    return config.pad_mode == "constant" and config.trim_right_ratio == 1.0


class Blocked:
    """Encoder and decoder of a model as blocks; the parameters are the model's own, so gradients reach them."""

    def __init__(self, model: EncodecModel) -> None:
        self._encoder = _parts(model.encoder.layers, model.config.hop_length)  # type: ignore[arg-type]
        self._decoder = _parts(model.decoder.layers, 1)  # type: ignore[arg-type]

    def encode(self, x: Tensor, dtype: torch.dtype = torch.bfloat16) -> Tensor:
        """Samples [B, 1, T] of whole frames -> latents [B, hidden_size, F], float32, computed in `dtype`."""
        return _run(self._encoder, x.transpose(1, 2).to(dtype)).float().transpose(1, 2)

    def decode(self, latents: Tensor, dtype: torch.dtype = torch.bfloat16) -> Tensor:
        """Latents [B, hidden_size, F] -> samples [B, F * hop], computed in `dtype`, the last layer in float32.

        Samples rounded to the 8 bits of bfloat16 would be heard by the losses in quiet bands.
        """
        *parts, last = self._decoder
        samples: Tensor = _run([last], _run(parts, latents.transpose(1, 2).to(dtype)).float())[..., 0]
        return samples


class _Conv:
    """A convolution, or a transposed one as its polyphase form, over blocks."""

    def __init__(self, layer: CausalConv1d | CausalConvTranspose1d, steps: int, wide: bool = False) -> None:
        conv = layer.conv
        self.conv = conv
        self.inputs, self.phases = conv.in_channels, 1
        stride, dilation, kernel = 1, 1, 2
        if isinstance(layer, CausalConvTranspose1d):
            self.past, self.phases = 1, layer.stride
        else:
            stride, dilation, kernel, self.past = layer.stride, conv.dilation[0], conv.kernel_size[0], layer.history
        self.outputs = conv.out_channels // self.phases
        self.block = 1
        for count in range(1, steps // stride + 1):
            fits = count <= _LAST_STEPS if wide else count * max(stride * self.inputs, self.outputs) <= _WIDTH
            if (steps // stride) % count == 0 and fits:
                self.block = count
        self.steps = self.block * stride
        place = torch.zeros(self.block, self.past + self.steps, kernel)  # output step, step of the window, tap
        for step in range(self.block):
            for tap in range(kernel):
                place[step, step * stride + tap * dilation, tap] = 1.0
        self.place = place

    def __call__(self, x: Tensor) -> Tensor:
        """x [B, T, in] -> [B, T', out]."""
        rows = x.shape[0]
        blocks = x.reshape(rows, -1, self.steps * self.inputs)
        weight = self.conv.weight.to(x.dtype).view(self.outputs, self.phases, self.inputs, -1)
        matrix = torch.einsum("owj,cpij->opcwi", self.place.to(x.dtype), weight).reshape(self.block * self.phases * self.outputs, -1)
        assert self.conv.bias is not None
        bias = self.conv.bias.to(x.dtype).repeat(self.block * self.phases)
        return F.linear(self._windows(blocks), matrix, bias).view(rows, -1, self.outputs)

    def _windows(self, blocks: Tensor) -> Tensor:
        left, parts = self.past, [blocks]
        while left > 0:
            before, width = len(parts), min(left, self.steps) * self.inputs
            parts.append(F.pad(blocks[:, : blocks.shape[1] - before, blocks.shape[2] - width :], (0, 0, before, 0))[:, : blocks.shape[1]])
            left -= self.steps
        return torch.cat(parts[::-1], dim=2) if self.past else blocks


class _Lstm:
    def __init__(self, layer: LSTM) -> None:
        self.lstm = layer.lstm

    def __call__(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=x.dtype is torch.bfloat16):
            y: Tensor = self.lstm(x)[0]
        return x + y


class _Residual:
    def __init__(self, layer: ResidualBlock, steps: int) -> None:
        first, second = layer.block[1], layer.block[3]
        assert isinstance(first, CausalConv1d) and isinstance(second, CausalConv1d)
        self.first, self.second = _Conv(first, steps), _Conv(second, steps)
        self.shortcut = None if layer.shortcut is None else _Conv(layer.shortcut, steps)

    def __call__(self, x: Tensor) -> Tensor:
        y = self.second(F.elu(self.first(F.elu(x))))
        return (x if self.shortcut is None else self.shortcut(x)) + y


_Part = _Conv | _Lstm | _Residual | nn.ELU


def _parts(layers: Iterable[StreamingLayer], steps: int) -> list[_Part]:
    """What computes each of the layers, the first of which takes `steps` steps a frame."""
    parts: list[_Part] = []
    all_layers = list(layers)
    for layer in all_layers:
        if isinstance(layer, CausalConv1d):
            parts.append(_Conv(layer, steps, wide=layer is all_layers[-1] and layer.conv.out_channels == 1))
            steps //= layer.stride
        elif isinstance(layer, CausalConvTranspose1d):
            parts.append(_Conv(layer, steps))
            steps *= layer.stride
        elif isinstance(layer, ResidualBlock):
            parts.append(_Residual(layer, steps))
        elif isinstance(layer, LSTM):
            parts.append(_Lstm(layer))
        else:
            assert isinstance(layer, Elu)
            parts.append(nn.ELU())
    return parts


def _run(parts: Iterable[_Part], x: Tensor) -> Tensor:
    for part in parts:
        x = part(x)
    return x
