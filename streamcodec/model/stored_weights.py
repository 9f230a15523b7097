"""A model's architecture and weights as arrays, for an engine that needs no torch.

Files of streamcodec's own layout are read without torch. Files of other programs are converted by torch, where that is installed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from streamcodec.config import CodecConfig
from streamcodec.errors import CheckpointError, MissingDependencyError
from streamcodec.model.canonical import Tensors, check_tensors, fingerprint_of_codes, fingerprint_of_weights
from streamcodec.model.hub import locate

__all__ = ["StoredWeights", "load_weights"]


@dataclass(frozen=True)
class StoredWeights:
    """The config of a model, its tensors by their canonical names, and the fingerprints of its codes and of all its weights."""

    config: CodecConfig
    tensors: Tensors
    codes_fingerprint: str
    weights_fingerprint: str

    @classmethod
    def of(cls, config: CodecConfig, tensors: Tensors) -> StoredWeights:
        return cls(config, tensors, fingerprint_of_codes(config, tensors), fingerprint_of_weights(config, tensors))


def load_weights(name_or_path: str | Path) -> StoredWeights:
    """Load the weights of a model by embedded name, path or hub id; see `streamcodec.model.hub.locate`.

    Raises what `load_model` raises, and `MissingDependencyError` for a file of another program's where torch is not installed.
    """
    path = locate(name_or_path)
    if path.is_file() and (metadata := _own_metadata(path)) is not None:
        return _read(path, metadata)
    try:
        from streamcodec.model.checkpoint import load_file
        from streamcodec.model.checkpoint.layouts import canonical_arrays
    except ImportError as exc:
        raise MissingDependencyError(
            f"{path}: reading this layout needs {exc.name}: pip install 'streamcodec[codec]', or convert the file where that is installed"
        ) from exc
    model = load_file(path)
    return StoredWeights.of(model.config, canonical_arrays(model))


def _own_metadata(path: Path) -> Mapping[str, str] | None:
    """What a file says about itself, if it is of streamcodec's own layout."""
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            if size > path.stat().st_size:
                return None
            header = json.loads(file.read(size))
        metadata = header["__metadata__"]
        return metadata if metadata["format"] == "streamcodec" and "config" in metadata else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None  # whatever it is, the reader of all layouts says what is wrong with it


def _read(path: Path, metadata: Mapping[str, str]) -> StoredWeights:
    try:
        import safetensors.numpy
    except ImportError as exc:
        raise MissingDependencyError("reading a model needs safetensors: pip install 'streamcodec[play]'") from exc
    try:
        config = CodecConfig.from_dict(json.loads(metadata["config"]))
        stored = safetensors.numpy.load(path.read_bytes())
        tensors = {name: tensor.astype(np.float32) for name, tensor in stored.items()}
    except (safetensors.SafetensorError, OSError, ValueError, TypeError, AttributeError, KeyError, RecursionError) as exc:
        raise CheckpointError(f"{path}: not a readable safetensors file ({exc})") from exc
    check_tensors(config, tensors, lambda tensor: bool(np.isfinite(tensor).all()), path)
    weights = StoredWeights.of(config, tensors)
    if metadata.get("fingerprint", weights.weights_fingerprint) != weights.weights_fingerprint:
        raise CheckpointError(
            f"{path}: its tensors have fingerprint {weights.weights_fingerprint}, its header says {metadata['fingerprint']}: "
            "the file is damaged"
        )
    return weights
