"""A model's architecture and weights as arrays, for engines that need no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from streamcodec.config import CodecConfig

__all__ = ["StoredWeights", "load_weights"]


@dataclass(frozen=True)
class StoredWeights:
    """The config of a model, its tensors by their canonical names, and the fingerprints of its codes and of all its weights."""

    config: CodecConfig
    tensors: Mapping[str, npt.NDArray[np.float32]]
    codes_fingerprint: str
    weights_fingerprint: str


def load_weights(name_or_path: str | Path) -> StoredWeights:
    """Load the weights of a model by embedded name, path or hub id; raises what `load_model` raises."""
    from streamcodec.model.checkpoint import codes_fingerprint, weights_fingerprint
    from streamcodec.model.checkpoint.layouts import to_canonical
    from streamcodec.model.hub import load_model

    model = load_model(name_or_path)
    tensors = {name: tensor.detach().numpy() for name, tensor in to_canonical(model).items()}
    return StoredWeights(model.config, tensors, codes_fingerprint(model), weights_fingerprint(model))
