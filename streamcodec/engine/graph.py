"""A step of the model as a module with flat arrays as inputs and outputs, which engines convert; and the layout of a state in one row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from streamcodec.model.layers import ConvTranspose1d, Sequence1d, State, StreamingLayer

__all__ = ["FlatLayers", "StateLayout", "cut_before_latents", "cut_where_upsampled"]


class StateLayout:
    """The layout of a tuple of tensors [B, ...] in one array of rows [B, S]."""

    def __init__(self, shapes: Sequence[Sequence[int]]) -> None:
        self._shapes = [tuple(shape) for shape in shapes]
        self._sizes = [math.prod(shape) for shape in self._shapes]
        self.size = sum(self._sizes)

    @classmethod
    def of(cls, example: State) -> StateLayout:
        return cls([t.shape[1:] for t in example])

    def cut(self, at: int) -> tuple[StateLayout, StateLayout]:
        """The layouts of the tensors before index `at` and of the others; this layout's row is the concatenation of their rows."""
        return StateLayout(self._shapes[:at]), StateLayout(self._shapes[at:])

    def pack(self, state: State) -> Tensor:
        return torch.cat([t.reshape(t.shape[0], -1) for t in state], dim=1)

    def unpack(self, rows: Tensor) -> State:
        parts = torch.split(rows, self._sizes, dim=1)
        return tuple(part.reshape(rows.shape[0], *shape) for part, shape in zip(parts, self._shapes, strict=True))


class FlatLayers(nn.Module):
    """A step of some layers on flat arrays: x and states [B, S] in, y and new states out; x or y is [B, T] if it is audio.

    With the `indices` of a step (see `StreamingLayer.indices`), it may also be the start or the end of a stream.
    """

    def __init__(self, layers: Sequence1d, layout: StateLayout, audio_in: bool = False, audio_out: bool = False) -> None:
        super().__init__()
        self._layers = layers
        self.layout = layout
        self._audio_in = audio_in
        self._audio_out = audio_out

    def forward(self, x: Tensor, states: Tensor, *indices: Tensor) -> tuple[Tensor, Tensor]:
        x = x[:, None] if self._audio_in else x
        y, state = self._layers(x, self.layout.unpack(states), indices=iter(indices) if indices else None)
        return y[:, 0] if self._audio_out else y, self.layout.pack(state)


def cut_before_latents(encoder: Sequence1d) -> tuple[Sequence1d, Sequence1d]:
    """Split the encoder before its last activation: all layers before it, and the activation with the last conv."""
    layers = cast(Sequence[StreamingLayer], encoder.layers)
    return Sequence1d(layers[:-2]), Sequence1d(layers[-2:])


def cut_where_upsampled(decoder: Sequence1d) -> tuple[Sequence1d, Sequence1d]:
    """Split the decoder after its last transposed conv; the layers of the second part run at the sampling rate."""
    layers = cast(Sequence[StreamingLayer], decoder.layers)
    at = 1 + max(i for i, layer in enumerate(layers) if isinstance(layer, ConvTranspose1d))
    return Sequence1d(layers[:at]), Sequence1d(layers[at:])
