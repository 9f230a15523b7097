"""SEANet, the encoder and decoder of EnCodec, as sequences of streaming layers.

The layers have the same indices as in the reference, so the tensor names in a checkpoint identify the layers.
"""

from __future__ import annotations

from collections.abc import Iterable

from streamcodec.config import CodecConfig
from streamcodec.model import architecture
from streamcodec.model.layers import (
    LSTM,
    Conv1d,
    ConvTranspose1d,
    Elu,
    ResidualBlock,
    Sequence1d,
    StreamingLayer,
)

__all__ = ["build_decoder", "build_encoder", "modules_of"]


def build_encoder(config: CodecConfig) -> Sequence1d:
    """The encoder: samples [B, audio_channels, T] -> latents [B, hidden_size, ceil(T / hop)]."""
    return modules_of(architecture.encoder_layers(config))


def build_decoder(config: CodecConfig) -> Sequence1d:
    """The decoder: latents [B, hidden_size, F] -> samples [B, audio_channels, F * hop]."""
    return modules_of(architecture.decoder_layers(config))


def modules_of(layers: Iterable[architecture.LayerSpec]) -> Sequence1d:
    """These layers in sequence, with random weights."""
    return Sequence1d(_module(layer) for layer in layers)


def _module(layer: architecture.LayerSpec) -> StreamingLayer:
    match layer:
        case architecture.EluSpec():
            return Elu()
        case architecture.ConvSpec():
            return Conv1d(layer)
        case architecture.ConvTransposeSpec():
            return ConvTranspose1d(layer)
        case architecture.LstmSpec():
            return LSTM(layer.channels, layer.num_layers)
        case architecture.ResidualSpec():
            return ResidualBlock(layer)
