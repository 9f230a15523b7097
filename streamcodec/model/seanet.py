"""SEANet, the encoder and decoder of EnCodec, as sequences of streaming layers.

The layers have the same indices as in the reference, so the tensor names in a checkpoint identify the layers.
"""

from __future__ import annotations

from typing import TypedDict

from streamcodec.config import CodecConfig
from streamcodec.model.layers import (
    LSTM,
    Conv1d,
    ConvTranspose1d,
    Elu,
    ResidualBlock,
    Sequence1d,
    StreamingLayer,
)

__all__ = ["build_decoder", "build_encoder"]


def build_encoder(config: CodecConfig) -> Sequence1d:
    """The encoder: samples [B, audio_channels, T] -> latents [B, hidden_size, ceil(T / hop)]."""
    channels, options = config.num_filters, _conv_options(config)
    layers: list[StreamingLayer] = [Conv1d(config.audio_channels, channels, config.kernel_size, pad_mode=config.pad_mode, **options)]
    for stride in reversed(config.upsampling_ratios):
        layers += _residual_blocks(config, channels)
        layers += [Elu(), Conv1d(channels, channels * 2, 2 * stride, stride=stride, pad_mode=config.pad_mode, **options)]
        channels *= 2
    if config.num_lstm_layers:
        layers.append(LSTM(channels, config.num_lstm_layers))
    layers += [Elu(), Conv1d(channels, config.hidden_size, config.last_kernel_size, pad_mode=config.pad_mode, **options)]
    return Sequence1d(layers)


def build_decoder(config: CodecConfig) -> Sequence1d:
    """The decoder: latents [B, hidden_size, F] -> samples [B, audio_channels, F * hop]."""
    channels, options = config.lstm_size, _conv_options(config)
    layers: list[StreamingLayer] = [Conv1d(config.hidden_size, channels, config.kernel_size, pad_mode=config.pad_mode, **options)]
    if config.num_lstm_layers:
        layers.append(LSTM(channels, config.num_lstm_layers))
    for stride in config.upsampling_ratios:
        layers += [Elu(), ConvTranspose1d(channels, channels // 2, stride, trim_right_ratio=config.trim_right_ratio, **options)]
        channels //= 2
        layers += _residual_blocks(config, channels)
    layers += [Elu(), Conv1d(channels, config.audio_channels, config.last_kernel_size, pad_mode=config.pad_mode, **options)]
    return Sequence1d(layers)


class _ConvOptions(TypedDict):
    """What all convolutions of a model have in common."""

    causal: bool
    norm: bool


def _conv_options(config: CodecConfig) -> _ConvOptions:
    return {"causal": config.use_causal_conv, "norm": config.norm_type == "time_group_norm"}


def _residual_blocks(config: CodecConfig, channels: int) -> list[StreamingLayer]:
    return [
        ResidualBlock(
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
