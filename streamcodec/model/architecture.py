"""The layers of EnCodec's encoder and decoder, as values: what each layer is and what it remembers, without tensors.

The torch modules (`streamcodec.model.seanet`) and the ONNX graphs (`streamcodec.engine.onnx`) are built from these. The layers have the
same indices as in the reference (facebookresearch/encodec, `encodec/modules/seanet.py`), so an index is also a checkpoint's name for a
layer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

from streamcodec.config import CodecConfig, Start

__all__ = [
    "ConvSpec",
    "ConvTransposeSpec",
    "EluSpec",
    "LayerSpec",
    "LstmSpec",
    "ResidualSpec",
    "Shape",
    "decoder_layers",
    "default_live_start",
    "encoder_layers",
    "runs_of",
    "start_frames",
]

Shape = tuple[int, ...]


@dataclass(frozen=True)
class EluSpec:
    """ELU; it has no state."""

    state_shapes: tuple[Shape, ...] = ()

    def out_length(self, length: int) -> int:
        return length


@dataclass(frozen=True)
class ConvSpec:
    """A convolution that reads `history` time steps before its input and, if it is not `causal`, `lookahead` steps after it.

    `pad_mode` is "reflect", or "constant" for zeros. With `norm`, the output is normalised over channels and time.
    """

    in_channels: int
    out_channels: int
    kernel_size: int
    stride: int = 1
    dilation: int = 1
    pad_mode: str = "reflect"
    causal: bool = True
    norm: bool = False

    @property
    def padding(self) -> int:
        """The time steps that are added to an input of whole strides."""
        return (self.kernel_size - 1) * self.dilation + 1 - self.stride

    @property
    def lookahead(self) -> int:
        return 0 if self.causal else self.padding // 2

    @property
    def history(self) -> int:
        return self.padding - self.lookahead

    @property
    def state_shapes(self) -> tuple[Shape, ...]:
        return ((self.in_channels, self.history),) if self.history else ()

    def out_length(self, length: int) -> int:
        if self.pad_mode == "reflect" and length <= self.history:
            return 0
        return length // self.stride


@dataclass(frozen=True)
class ConvTransposeSpec:
    """A transposed convolution with kernel 2 * stride, of whose output `trim_left` samples are removed at a stream's start."""

    in_channels: int
    out_channels: int
    stride: int
    trim_right_ratio: float = 1.0
    causal: bool = True
    norm: bool = False

    @property
    def trim_left(self) -> int:
        return self.stride - (math.ceil(self.stride * self.trim_right_ratio) if self.causal else self.stride // 2)

    @property
    def trims(self) -> bool:
        """Whether a step computes samples of its ends that it then removes."""
        return self.trim_left > 0 or self.norm

    @property
    def state_shapes(self) -> tuple[Shape, ...]:
        return ((self.in_channels, 1),)

    def out_length(self, length: int) -> int:
        return length * self.stride - self.trim_left


@dataclass(frozen=True)
class LstmSpec:
    """A residual LSTM of `num_layers` layers; its state is h and c."""

    channels: int
    num_layers: int

    @property
    def state_shapes(self) -> tuple[Shape, ...]:
        return ((self.num_layers, self.channels),) * 2

    def out_length(self, length: int) -> int:
        return length


@dataclass(frozen=True)
class ResidualSpec:
    """SEANet's residual unit: ELU, `first`, ELU, `second`, plus the input or its `shortcut`. Only `first` has a state."""

    first: ConvSpec
    second: ConvSpec
    shortcut: ConvSpec | None

    @classmethod
    def of(
        cls,
        channels: int,
        kernel_size: int,
        dilation: int,
        *,
        compress: int,
        pad_mode: str,
        conv_shortcut: bool,
        causal: bool = True,
        norm: bool = False,
    ) -> ResidualSpec:
        """A unit of `channels` channels, and `channels` / `compress` inside; with `conv_shortcut`, the shortcut is a convolution."""
        hidden = channels // compress
        return cls(
            ConvSpec(channels, hidden, kernel_size, dilation=dilation, pad_mode=pad_mode, causal=causal, norm=norm),
            ConvSpec(hidden, channels, 1, pad_mode=pad_mode, causal=causal, norm=norm),
            ConvSpec(channels, channels, 1, pad_mode=pad_mode, causal=causal, norm=norm) if conv_shortcut else None,
        )

    @property
    def state_shapes(self) -> tuple[Shape, ...]:
        return self.first.state_shapes

    def out_length(self, length: int) -> int:
        return self.first.out_length(length)


LayerSpec = EluSpec | ConvSpec | ConvTransposeSpec | LstmSpec | ResidualSpec


def default_live_start(config: CodecConfig) -> Start:
    """The default start of a live stream: "exact" for zero-padded models, "primed" for reflect-padded ones. Neither adds a delay."""
    return "primed" if config.pad_mode == "reflect" and config.granularity == "frames" else "exact"


def runs_of(stops: Sequence[int]) -> list[tuple[int, int]]:
    """The runs of codebooks [first, stop) that end at `stops`; a run is searched as a whole."""
    return list(zip([0, *stops[:-1]], stops, strict=True))


def encoder_layers(config: CodecConfig) -> list[LayerSpec]:
    """The encoder: samples [B, audio_channels, T] -> latents [B, hidden_size, ceil(T / hop)]."""
    channels, mode, options = config.num_filters, config.pad_mode, _conv_options(config)
    layers: list[LayerSpec] = [ConvSpec(config.audio_channels, channels, config.kernel_size, pad_mode=mode, **options)]
    for stride in reversed(config.upsampling_ratios):
        layers += _residual_blocks(config, channels)
        layers += [EluSpec(), ConvSpec(channels, channels * 2, 2 * stride, stride, pad_mode=mode, **options)]
        channels *= 2
    if config.num_lstm_layers:
        layers.append(LstmSpec(channels, config.num_lstm_layers))
    return [*layers, EluSpec(), ConvSpec(channels, config.hidden_size, config.last_kernel_size, pad_mode=mode, **options)]


def decoder_layers(config: CodecConfig) -> list[LayerSpec]:
    """The decoder: latents [B, hidden_size, F] -> samples [B, audio_channels, F * hop]."""
    channels, mode, options = config.lstm_size, config.pad_mode, _conv_options(config)
    layers: list[LayerSpec] = [ConvSpec(config.hidden_size, channels, config.kernel_size, pad_mode=mode, **options)]
    if config.num_lstm_layers:
        layers.append(LstmSpec(channels, config.num_lstm_layers))
    for stride in config.upsampling_ratios:
        layers += [EluSpec(), ConvTransposeSpec(channels, channels // 2, stride, config.trim_right_ratio, **options)]
        channels //= 2
        layers += _residual_blocks(config, channels)
    return [*layers, EluSpec(), ConvSpec(channels, config.audio_channels, config.last_kernel_size, pad_mode=mode, **options)]


def start_frames(layers: Sequence[LayerSpec], steps_per_frame: int) -> int:
    """The frames that must come together to start a stream exactly, where a frame is `steps_per_frame` steps of the first layer's input."""
    frames = 1
    while True:
        length = frames * steps_per_frame
        for layer in layers:
            length = layer.out_length(length)
            if length <= 0:
                break
        else:
            return frames
        frames += 1


class _ConvOptions(TypedDict):
    """What all convolutions of a model have in common."""

    causal: bool
    norm: bool


def _conv_options(config: CodecConfig) -> _ConvOptions:
    return {"causal": config.use_causal_conv, "norm": config.norm_type == "time_group_norm"}


def _residual_blocks(config: CodecConfig, channels: int) -> list[LayerSpec]:
    return [
        ResidualSpec.of(
            channels,
            config.residual_kernel_size,
            config.dilation_growth_rate**j,
            compress=config.compress,
            pad_mode=config.pad_mode,
            conv_shortcut=config.use_conv_shortcut,
            **_conv_options(config),
        )
        for j in range(config.num_residual_layers)
    ]
