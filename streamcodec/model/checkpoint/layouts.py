"""Converts tensor names and shapes between the layouts, the canonical form (`streamcodec.model.canonical`) and the model's own modules."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from streamcodec.config import CodecConfig
from streamcodec.errors import CheckpointError
from streamcodec.model.canonical import embed_name, fingerprint_of_codes, fingerprint_of_weights
from streamcodec.model.encodec import EncodecModel
from streamcodec.model.layers import ConvTranspose1d

__all__ = [
    "EMBED",
    "WEIGHT_NORM",
    "canonical",
    "canonical_arrays",
    "codes_fingerprint",
    "from_canonical",
    "load_canonical",
    "to_canonical",
    "to_meta_name",
    "unfold",
    "weights_fingerprint",
    "with_training_buffers",
]

_META_NAMES = (
    (re.compile(r"^(encoder|decoder)\.model\.(\d+)\."), r"\1.layers.\2."),
    (re.compile(r"\.convtr\.convtr\."), ".conv."),
    (re.compile(r"\.conv\.conv\."), ".conv."),
    (re.compile(r"\.conv(?:tr)?\.norm\."), ".norm."),
    (re.compile(r"^quantizer\.vq\.layers\.(\d+)\._codebook\."), r"quantizer.layers.\1.codebook."),
)
WEIGHT_NORM = (("weight_g", "weight_v"), ("parametrizations.weight.original0", "parametrizations.weight.original1"))
_TRAINING_ONLY = re.compile(r"^quantizer\.layers\.\d+\.codebook\.(inited|cluster_size|embed_avg)$")
EMBED = re.compile(r"^quantizer\.layers\.(\d+)\.codebook\.embed$")


def weights_fingerprint(model: EncodecModel) -> str:
    """The identity of all of a model's weights; see `streamcodec.model.canonical`."""
    return fingerprint_of_weights(model.config, canonical_arrays(model))


def codes_fingerprint(model: EncodecModel) -> str:
    """The identity of what a model's codes mean; see `streamcodec.model.canonical`."""
    return fingerprint_of_codes(model.config, {embed_name(i): _array(embed) for i, embed in enumerate(model.quantizer.embed)})


def canonical_arrays(model: EncodecModel) -> dict[str, npt.NDArray[np.float32]]:
    """The tensors of `to_canonical` as arrays."""
    return {name: _array(tensor) for name, tensor in to_canonical(model).items()}


def _array(tensor: Tensor) -> npt.NDArray[np.float32]:
    array: npt.NDArray[np.float32] = tensor.detach().float().cpu().contiguous().numpy()
    return array


# From a file's names to canonical ones


def canonical(tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    named: dict[str, Tensor] = {}
    for original, tensor in tensors.items():
        name = original
        for pattern, replacement in _META_NAMES:
            name = pattern.sub(replacement, name)
        if name in named:
            raise CheckpointError(f"{path}: has {original}, which is {name} under another name")
        if not _TRAINING_ONLY.match(name):
            named[name] = tensor.float()
    return _fold(named, path)


def _fold(tensors: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Replace each pair (g, v) of weight norm by the weight w = g v / |v|."""
    for scale, direction in WEIGHT_NORM:
        for name in [n for n in tensors if n.endswith("." + scale)]:
            layer = name.removesuffix(scale)
            if layer + direction not in tensors:
                raise CheckpointError(f"{path}: has {name} but not {layer + direction}")
            g, v = tensors.pop(name), tensors.pop(layer + direction)
            if v.dim() == 0:
                raise CheckpointError(f"{path}: {layer + direction} has shape [], expected a kernel")
            if g.shape != (v.shape[0],) + (1,) * (v.dim() - 1):
                raise CheckpointError(f"{path}: {name} has shape {list(g.shape)}, expected {[v.shape[0]] + [1] * (v.dim() - 1)}")
            if layer + "weight" in tensors:
                raise CheckpointError(f"{path}: has {layer}weight both plain and weight-normed")
            tensors[layer + "weight"] = v * (g / torch.norm_except_dim(v, 2, 0))
    return tensors


# Between the model's own tensors and the canonical ones


def _transposed_layers(model: EncodecModel) -> dict[str, ConvTranspose1d]:
    return {f"{name}.conv.weight": layer for name, layer in model.named_modules() if isinstance(layer, ConvTranspose1d)}


def to_canonical(model: EncodecModel) -> dict[str, Tensor]:
    layers = _transposed_layers(model)
    named: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        if name == "quantizer.embed":
            named.update({embed_name(i): embed for i, embed in enumerate(tensor)})
        elif name in layers:
            named[name] = ConvTranspose1d.to_transposed(tensor, layers[name].stride)
        else:
            named[name] = tensor
    return named


def from_canonical(model: EncodecModel, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `to_canonical`: the model's own state dict."""
    transposed = _transposed_layers(model)
    state = {n: ConvTranspose1d.from_transposed(t) if n in transposed else t for n, t in tensors.items() if not EMBED.match(n)}
    state["quantizer.embed"] = torch.stack([tensors[embed_name(i)] for i in range(model.config.num_quantizers)])
    return state


def load_canonical(model: EncodecModel, tensors: Mapping[str, Tensor]) -> None:
    model.load_state_dict(from_canonical(model, tensors), assign=True)


# From canonical names to a file's


def unfold(tensors: Mapping[str, Tensor], spelling: tuple[str, str]) -> dict[str, Tensor]:
    """Write each conv weight w as a weight-norm pair v = w, g = |w|, so that folding gives back the same bits."""
    named: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name.endswith(".conv.weight"):
            layer = name.removesuffix("weight")
            norm = torch.norm_except_dim(tensor.float(), 2, 0).to(tensor.dtype)
            named[layer + spelling[0]], named[layer + spelling[1]] = norm, tensor
        else:
            named[name] = tensor
    return named


def with_training_buffers(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    for name in [n for n in tensors if EMBED.match(n)]:
        embed = tensors[name]
        prefix = name.removesuffix("embed")
        tensors[prefix + "embed_avg"] = embed.clone()
        tensors[prefix + "cluster_size"] = torch.ones(embed.shape[0], dtype=embed.dtype)
        tensors[prefix + "inited"] = torch.ones(1, dtype=embed.dtype)
    return tensors


def to_meta_name(name: str, config: CodecConfig) -> str:
    name = re.sub(r"^quantizer\.layers\.(\d+)\.codebook\.", r"quantizer.vq.layers.\1._codebook.", name)
    first_up = 3 if config.num_lstm_layers else 2
    spacing = 2 + config.num_residual_layers
    transposed = {first_up + i * spacing for i in range(len(config.upsampling_ratios))}

    in_decoder = re.match(r"^decoder\.layers\.(\d+)\.(conv|norm)\.", name)
    conv = "convtr" if in_decoder and int(in_decoder[1]) in transposed else "conv"
    name = re.sub(r"\.(conv|norm)\.", lambda m: f".{conv}.{conv if m[1] == 'conv' else 'norm'}.", name, count=1)
    return re.sub(r"^(encoder|decoder)\.layers\.", r"\1.model.", name)
