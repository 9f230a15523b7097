"""Infers the config of a state dict that has none."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from streamcodec.config import CodecConfig
from streamcodec.errors import CheckpointError
from streamcodec.model.checkpoint.layouts import EMBED
from streamcodec.published import PUBLISHED

__all__ = ["infer_config"]

_SHAPES_32K = ("upsampling_ratios", "codebook_size", "use_conv_shortcut")


def infer_config(tensors: Mapping[str, Tensor], path: Path) -> CodecConfig:
    """Infer the config of a state dict from the shapes of its tensors.

    Fields that the shapes do not determine have the values of a published model: of the 48 kHz one if there are group-norm layers, of the
    32 kHz one if the shapes have its ratios and codebooks and no shortcut is a convolution, else of the 24 kHz one. `path` is only used in
    error messages. Raises `CheckpointError` for tensors that are not an EnCodec model.
    """

    def shape_of(name: str, axes: int) -> tuple[int, ...]:
        shape = tuple(tensors[name].shape)
        if len(shape) != axes or 0 in shape:
            raise CheckpointError(f"{path}: {name} has shape {list(shape)}, expected {axes} axes, none empty")
        return shape

    try:
        first = shape_of("encoder.layers.0.conv.weight", 3)
        numbers = sorted(int(m[1]) for n in tensors if (m := re.match(r"^encoder\.layers\.(\d+)\.conv\.weight$", n)))
        convs = [shape_of(f"encoder.layers.{number}.conv.weight", 3) for number in numbers]
        strides = [kernel // 2 for _, _, kernel in convs[1:-1]]
        blocks = {int(m[1]) for n in tensors if (m := re.match(r"^encoder\.layers\.(\d+)\.block\.", n))}
        residual = shape_of(f"encoder.layers.{min(blocks)}.block.1.conv.weight", 3) if blocks else None
        codebooks = [n for n in tensors if EMBED.match(n)]
        codebook = shape_of("quantizer.layers.0.codebook.embed", 2)
        told: dict[str, Any] = {
            "audio_channels": first[1],
            "num_filters": first[0],
            "upsampling_ratios": tuple(reversed(strides)),
            "hidden_size": convs[-1][0],
            "num_lstm_layers": sum(1 for n in tensors if re.match(r"^encoder\.layers\.\d+\.lstm\.weight_ih_l\d+$", n)),
            "num_residual_layers": len(blocks) // max(1, len(strides)),
            "kernel_size": first[2],
            "last_kernel_size": convs[-1][2],
            "residual_kernel_size": 3 if residual is None else residual[2],
            "compress": 2 if residual is None else residual[1] // residual[0],
            "use_conv_shortcut": any(".shortcut." in n for n in tensors),
            "codebook_size": codebook[0],
            "codebook_dim": codebook[1],
        }
    except KeyError as exc:
        raise CheckpointError(f"{path}: not an EnCodec state dict: {exc} is missing among {len(tensors)} tensors") from exc
    published = _published(tensors, told)
    draft = replace(published, **told)
    highest = draft.bandwidth_of(len(codebooks))
    lower = [kbps for kbps in published.target_bandwidths if kbps < highest - 1e-6]
    return CodecConfig.from_dict({**draft.to_dict(), "target_bandwidths": [*lower, highest]})


def _published(tensors: Mapping[str, Tensor], told: Mapping[str, Any]) -> CodecConfig:
    """The published model that the tensors resemble, for all that their shapes do not tell."""
    if any(".norm." in name for name in tensors):
        return PUBLISHED["encodec_48khz"]
    small = PUBLISHED["encodec_32khz"]
    return small if all(told[field] == getattr(small, field) for field in _SHAPES_32K) else PUBLISHED["encodec_24khz"]
