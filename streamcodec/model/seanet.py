"""SEANet, the encoder and decoder of EnCodec, as sequences of streaming layers.

The layers have the same indices as in the reference, so the tensor names in a checkpoint identify the layers.
"""

from __future__ import annotations

from streamcodec.config import CodecConfig
from streamcodec.model.layers import (
    LSTM,
    CausalConv1d,
    CausalConvTranspose1d,
    Elu,
    ResidualBlock,
    Sequence1d,
    StreamingLayer,
)

__all__ = ["build_decoder", "build_encoder"]


def build_encoder(config: CodecConfig) -> Sequence1d:
    """The encoder: samples [B, 1, T] -> latents [B, hidden_size, ceil(T / hop)]."""
    channels = config.num_filters
    layers: list[StreamingLayer] = [CausalConv1d(1, channels, config.kernel_size, pad_mode=config.pad_mode)]
    for stride in reversed(config.upsampling_ratios):
        layers += _residual_blocks(config, channels)
        layers += [Elu(), CausalConv1d(channels, channels * 2, 2 * stride, stride=stride, pad_mode=config.pad_mode)]
        channels *= 2
    if config.num_lstm_layers:
        layers.append(LSTM(channels, config.num_lstm_layers))
    layers += [Elu(), CausalConv1d(channels, config.hidden_size, config.last_kernel_size, pad_mode=config.pad_mode)]
    return Sequence1d(layers)


def build_decoder(config: CodecConfig) -> Sequence1d:
    """The decoder: latents [B, hidden_size, F] -> samples [B, 1, F * hop]."""
    channels = config.lstm_size
    layers: list[StreamingLayer] = [CausalConv1d(config.hidden_size, channels, config.kernel_size, pad_mode=config.pad_mode)]
    if config.num_lstm_layers:
        layers.append(LSTM(channels, config.num_lstm_layers))
    for stride in config.upsampling_ratios:
        layers += [Elu(), CausalConvTranspose1d(channels, channels // 2, stride, trim_right_ratio=config.trim_right_ratio)]
        channels //= 2
        layers += _residual_blocks(config, channels)
    layers += [Elu(), CausalConv1d(channels, 1, config.last_kernel_size, pad_mode=config.pad_mode)]
    return Sequence1d(layers)


def _residual_blocks(config: CodecConfig, channels: int) -> list[StreamingLayer]:
    return [
        ResidualBlock(
            channels,
            config.residual_kernel_size,
            config.dilation_growth_rate**j,
            compress=config.compress,
            pad_mode=config.pad_mode,
            conv_shortcut=config.use_conv_shortcut,
        )
        for j in range(config.num_residual_layers)
    ]
