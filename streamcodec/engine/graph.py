"""A step of the model as a module with flat arrays in and out: what engines convert, and how a state lies in one row of floats."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from streamcodec.model.layers import CausalConvTranspose1d, Sequence1d, State, StreamingLayer

__all__ = ["FlatLayers", "StateLayout", "cut_before_latents", "cut_where_upsampled"]


class StateLayout:
    """How a tuple of tensors [B, ...] lies in one row [B, S]."""

    def __init__(self, shapes: Sequence[Sequence[int]]) -> None:
        self._shapes = [tuple(shape) for shape in shapes]
        self._sizes = [math.prod(shape) for shape in self._shapes]
        self.size = sum(self._sizes)

    @classmethod
    def of(cls, example: State) -> StateLayout:
        return cls([t.shape[1:] for t in example])

    def cut(self, at: int) -> tuple[StateLayout, StateLayout]:
        """The layouts of the tensors before `at` and of those from there on: their rows lie side by side in this one's."""
        return StateLayout(self._shapes[:at]), StateLayout(self._shapes[at:])

    def pack(self, state: State) -> Tensor:
        return torch.cat([t.reshape(t.shape[0], -1) for t in state], dim=1)

    def unpack(self, rows: Tensor) -> State:
        parts = torch.split(rows, self._sizes, dim=1)
        return tuple(part.reshape(rows.shape[0], *shape) for part, shape in zip(parts, self._shapes, strict=True))


class FlatLayers(nn.Module):
    """A step of some layers between flat arrays: x and states [B, S] in, y and new states out; of audio, x or y is [B, T]."""

    def __init__(self, layers: Sequence1d, layout: StateLayout, audio_in: bool = False, audio_out: bool = False) -> None:
        super().__init__()
        self._layers = layers
        self.layout = layout
        self._audio_in = audio_in
        self._audio_out = audio_out

    def forward(self, x: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
        y, state = self._layers(x[:, None] if self._audio_in else x, self.layout.unpack(states))
        return y[:, 0] if self._audio_out else y, self.layout.pack(state)


def cut_before_latents(encoder: Sequence1d) -> tuple[Sequence1d, Sequence1d]:
    """The encoder's layers up to the last activation, and from there on."""
    layers = cast(Sequence[StreamingLayer], encoder.layers)
    return Sequence1d(layers[:-2]), Sequence1d(layers[-2:])


def cut_where_upsampled(decoder: Sequence1d) -> tuple[Sequence1d, Sequence1d]:
    """The decoder's layers up to the last transposed conv, and those after it, which run at the sample rate."""
    layers = cast(Sequence[StreamingLayer], decoder.layers)
    at = 1 + max(i for i, layer in enumerate(layers) if isinstance(layer, CausalConvTranspose1d))
    return Sequence1d(layers[:at]), Sequence1d(layers[at:])
