"""Reads what a checkpoint holds, tensors and config, from a file or a folder of any program; it builds no model.

The first bytes of a file decide how it is read. Its suffix decides only if they do not.
"""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from streamcodec.config import CodecConfig
from streamcodec.errors import CheckpointError, ModelNotFoundError, UnsupportedModelError
from streamcodec.model.checkpoint.audiocraft import audiocraft_config

__all__ = ["NAMED_HASH", "TORCH_SUFFIXES", "Stored", "read"]

TORCH_SUFFIXES = (".th", ".pt", ".bin")
NAMED_HASH = re.compile(r"-([0-9a-f]{8})\.th$")

_CONFIG = "config.json"
# What a folder's weights may be called, best first. An index names the files among which the tensors are divided.
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
_SHARD = re.compile(r"-\d{5}-of-\d{5}\.(safetensors|bin)$")

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Stored:
    """The tensors of a checkpoint by the names in it, its config (None: it has none) and the fingerprint that it claims."""

    tensors: Tensors
    config: CodecConfig | None = None
    fingerprint: str | None = None


def read(path: Path) -> Stored:
    """Read a file or a folder.

    Raises `ModelNotFoundError` if nothing is there, `CheckpointError` for a damaged file, `UnsupportedModelError` for a config that cannot
    run here.
    """
    try:
        if path.is_dir():
            return Stored(*_read_folder(path))
        if not path.exists():
            raise ModelNotFoundError(f"{path}: no such file or folder")
        return _read_file(path)
    except OSError as exc:
        raise CheckpointError(f"{path}: cannot be read: {exc.strerror or exc}") from exc


def _read_folder(path: Path) -> tuple[Tensors, CodecConfig]:
    if not (path / _CONFIG).exists():
        raise ModelNotFoundError(f"{path}: has no config.json, so it is not a model folder{_instead(path)}")
    config = _read_config(path / _CONFIG)
    for name in _WEIGHTS:
        if not (path / name).exists():
            continue
        if name.endswith(".json"):
            return _read_shards(path / name), config
        return _read_tensors(path / name), config
    raise ModelNotFoundError(f"{path}: has a config.json, but none of {', '.join(_WEIGHTS)}{_instead(path)}")


def _instead(folder: Path) -> str:
    """What of a folder could be given instead of it."""
    found = sorted(entry.name for entry in folder.iterdir() if entry.suffix in (".safetensors", *TORCH_SUFFIXES))
    return f": give one of its files ({', '.join(found[:3])})" if found else ""


def _read_shards(index: Path) -> Tensors:
    try:
        names = set(json.loads(index.read_text(encoding="utf-8-sig"))["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise CheckpointError(f"{index}: not an index of shards: {exc!r}") from exc
    tensors: Tensors = {}
    for name in sorted(map(str, names)):
        # A name with a folder in it could lead anywhere.
        if Path(name).name != name:
            raise CheckpointError(f"{index}: names the file {name!r}, expected one beside it")
        tensors.update(_read_tensors(index.with_name(name)))
    return tensors


def _read_tensors(path: Path) -> Tensors:
    if not path.exists():
        raise ModelNotFoundError(f"{path}: no such file")
    return _read_safetensors(path)[0] if path.suffix == ".safetensors" else _state_dict(_read_torch(path), path)


def _read_file(path: Path) -> Stored:
    if _SHARD.search(path.name):
        raise CheckpointError(f"{path}: is one of several files of a model: give their folder")
    if _is_safetensors(path):
        tensors, metadata = _read_safetensors(path)
        if "config" in metadata:
            config: CodecConfig | None = CodecConfig.from_dict(_parse_config(metadata["config"], path))
        else:
            config = _config_beside(path, whosever=True)
            if config is None:
                raise CheckpointError(f"{path}: no config in its header and no config.json beside it")
        return Stored(tensors, config, metadata.get("fingerprint"))
    loaded = _read_torch(path)
    tensors = _state_dict(loaded, path)
    if isinstance(loaded, dict) and "xp.cfg" in loaded:
        return Stored(tensors, audiocraft_config(loaded["xp.cfg"], path))
    return Stored(tensors, _config_beside(path, whosever=path.name in _WEIGHTS))


def _config_beside(path: Path, *, whosever: bool) -> CodecConfig | None:
    """The config in the `config.json` beside a file.

    It may be another model's, in a folder of downloads: without `whosever` it counts only if it says that it is EnCodec's.
    """
    beside = path.with_name(_CONFIG)
    if not beside.exists():
        return None
    if not whosever:
        try:
            if json.loads(beside.read_text(encoding="utf-8-sig")).get("model_type") != "encodec":
                return None
        except (ValueError, AttributeError, RecursionError, OSError):
            return None
    return _read_config(beside)


def _parse_config(text: str, path: Path) -> Mapping[str, Any]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise CheckpointError(f"{path}: the config is not JSON: {exc}") from exc
    if not isinstance(values, dict):
        raise CheckpointError(f"{path}: the config is a {type(values).__name__}, expected an object")
    kind = values.get("model_type", "encodec")
    if kind != "encodec":
        raise UnsupportedModelError(f"{path}: model_type is {kind!r}, expected 'encodec'")
    return values


def _read_config(path: Path) -> CodecConfig:
    try:
        # Some editors begin a file with a byte order mark.
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as exc:
        raise CheckpointError(f"{path}: cannot be read: {exc}") from exc
    return CodecConfig.from_dict(_parse_config(text, path))


def _read_safetensors(path: Path) -> tuple[Tensors, dict[str, str]]:
    try:
        try:
            str(path).encode()
        except UnicodeEncodeError:
            # safetensors opens no name that is not UTF-8.
            data = path.read_bytes()
            header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
            return safetensors.torch.load(data), dict(header.get("__metadata__", {}))
        with safetensors.safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (safetensors.SafetensorError, OSError, ValueError) as exc:
        raise CheckpointError(f"{path}: not a readable safetensors file ({exc})") from exc


def _is_safetensors(path: Path) -> bool:
    """Whether to read a file as safetensors (True) or as a PyTorch state dict (False); raises `CheckpointError` if it is neither."""
    with path.open("rb") as file:
        head = file.read(9)
    if head[8:] == b"{":  # 8 bytes with the header's length, then the header as JSON
        return True
    if head.startswith((b"PK\x03\x04", b"\x80")):  # a zip file, as torch writes it, or a bare pickle
        return False
    if path.suffix not in (".safetensors", *TORCH_SUFFIXES):
        raise CheckpointError(f"{path}: not a readable checkpoint, expected a safetensors file or a PyTorch state dict")
    return path.suffix == ".safetensors"


def _read_torch(path: Path) -> Any:
    named_hash = NAMED_HASH.search(path.name)
    if named_hash:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if not digest.startswith(named_hash[1]):
            raise CheckpointError(f"{path}: its sha256 starts with {digest[:8]}, its name says {named_hash[1]}: the file is damaged")
    try:
        with warnings.catch_warnings(action="ignore"):
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as exc:  # a damaged pickle can make torch's restricted unpickler raise any type of error
        raise CheckpointError(f"{path}: not a readable PyTorch state dict: it is damaged, or holds more than tensors") from exc


def _state_dict(loaded: Any, path: Path) -> Tensors:
    """The tensors of a state dict, which programs that train wrap in others: {best_state: {model: ...}}."""
    if isinstance(loaded, dict):
        if "learner" in loaded:
            raise CheckpointError(f"{path}: is a checkpoint of a training run, expected a model: streamcodec train export RUN makes one")
        if isinstance(loaded.get("pretrained"), str):
            raise UnsupportedModelError(f"{path}: only names the pretrained model {loaded['pretrained']!r}: give a file of that model")
    for key in ("best_state", "model", "state_dict"):
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    if not isinstance(loaded, dict) or not loaded or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in loaded.items()):
        raise CheckpointError(f"{path}: holds {type(loaded).__name__}, expected a state dict of named tensors")
    return loaded
