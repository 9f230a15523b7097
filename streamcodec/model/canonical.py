"""The canonical form of a model's weights: their names and shapes, and the fingerprints that follow from them; without torch.

The names are those of `transformers`' EncodecModel with weight norm folded (`encoder.layers.0.conv.weight`). Transposed convolutions have
PyTorch's own layout.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from streamcodec.config import CodecConfig
from streamcodec.errors import CheckpointError
from streamcodec.model.architecture import (
    ConvSpec,
    ConvTransposeSpec,
    EluSpec,
    LayerSpec,
    LstmSpec,
    ResidualSpec,
    Shape,
    decoder_layers,
    encoder_layers,
)

__all__ = ["Tensors", "canonical_shapes", "check_tensors", "embed_name", "fingerprint_of_codes", "fingerprint_of_weights"]

Tensors = Mapping[str, npt.NDArray[np.float32]]
"""The weights of a model by their canonical names."""


def embed_name(level: int) -> str:
    """The name of a codebook's entries."""
    return f"quantizer.layers.{level}.codebook.embed"


def canonical_shapes(config: CodecConfig) -> dict[str, Shape]:
    """The shapes of all tensors of a model, by their names."""
    shapes = dict[str, Shape]()
    for half, layers in (("encoder", encoder_layers(config)), ("decoder", decoder_layers(config))):
        for i, layer in enumerate(layers):
            shapes.update(_layer_shapes(f"{half}.layers.{i}", layer))
    for level in range(config.num_quantizers):
        shapes[embed_name(level)] = config.codebook_size, config.codebook_dim
    return shapes


def _layer_shapes(name: str, layer: LayerSpec) -> Iterator[tuple[str, Shape]]:
    match layer:
        case EluSpec():
            pass
        case ConvSpec():
            yield from _conv_shapes(name, layer, (layer.out_channels, layer.in_channels, layer.kernel_size))
        case ConvTransposeSpec():
            yield from _conv_shapes(name, layer, (layer.in_channels, layer.out_channels, 2 * layer.stride))
        case LstmSpec():
            gates = 4 * layer.channels
            for i in range(layer.num_layers):
                for part in ("ih", "hh"):
                    yield f"{name}.lstm.weight_{part}_l{i}", (gates, layer.channels)
                    yield f"{name}.lstm.bias_{part}_l{i}", (gates,)
        case ResidualSpec():
            for part, conv in (("block.1", layer.first), ("block.3", layer.second), ("shortcut", layer.shortcut)):
                if conv is not None:
                    yield from _layer_shapes(f"{name}.{part}", conv)


def _conv_shapes(name: str, conv: ConvSpec | ConvTransposeSpec, weight: Shape) -> Iterator[tuple[str, Shape]]:
    yield f"{name}.conv.weight", weight
    yield f"{name}.conv.bias", (conv.out_channels,)
    if conv.norm:
        yield f"{name}.norm.weight", (conv.out_channels,)
        yield f"{name}.norm.bias", (conv.out_channels,)


def check_tensors(config: CodecConfig, tensors: Mapping[str, Any], is_finite: Callable[[Any], bool], path: Path) -> None:
    """Raise `CheckpointError` unless the tensors are those of a model with this config; `path` is what the message names.

    `is_finite` says whether a tensor holds finite numbers only.
    """
    expected = canonical_shapes(config)
    missing, extra = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
    if missing or extra:
        problems = [f"{label} {_few(names)}" for label, names in (("lacks", missing), ("has unexpected", extra)) if names]
        raise CheckpointError(f"{path}: does not fit its config: it {' and '.join(problems)}")
    for name, shape in expected.items():
        if tuple(tensors[name].shape) != shape:
            raise CheckpointError(f"{path}: {name} has shape {list(tensors[name].shape)}, its config asks for {list(shape)}")
        if not is_finite(tensors[name]):
            raise CheckpointError(f"{path}: {name} holds NaN or infinity")


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def fingerprint_of_weights(config: CodecConfig, tensors: Tensors) -> str:
    """The identity of all of a model's weights: 32 hexadecimal digits.

    It is a hash of the folded weights as float32 and of the config, except the fields that do not affect decoding: how the weights are
    stored (`norm_type`) and how wide the encoder's search is (`search_beam`). Fields that are younger than the first fingerprints count
    where they are not what every model had then.
    """
    values, plain = config.to_dict(), CodecConfig()
    for field in ("norm_type", "search_beam"):
        del values[field]
    for field in ("use_causal_conv", "normalize", "chunk_length_s", "overlap"):
        if values[field] == getattr(plain, field):
            del values[field]
    return _digest(values, tensors)


def fingerprint_of_codes(config: CodecConfig, tensors: Tensors) -> str:
    """The identity of what a model's codes mean, which client and server compare: 32 hexadecimal digits.

    It is a hash of the codebooks as float32 and of the rates. Models whose codebooks are equal read each other's codes: one whose decoder
    alone was trained on, or whose encoder was rounded, has the fingerprint that it had. Training that moves latents moves codebooks too.
    """
    rates = {"sampling_rate": config.sampling_rate, "hop_length": config.hop_length}
    names = [embed_name(level) for level in range(config.num_quantizers)]
    return _digest(rates, {name: tensors[name] for name in names})


def _digest(values: Mapping[str, Any], tensors: Tensors) -> str:
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {list(tensor.shape)}".encode())
        digest.update(np.ascontiguousarray(tensor).astype("<f4", copy=False).tobytes())
    return digest.hexdigest()[:32]
