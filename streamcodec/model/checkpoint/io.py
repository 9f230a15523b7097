"""Reads and writes checkpoints. The tensors are checked against the config before a model is built.

There are three layouts:

- `streamcodec`: one safetensors file of canonical tensors, with the config and the fingerprint in its header;
- `hf`: a folder with `config.json` and weight-normed `model.safetensors`, as `transformers` loads it;
- `meta`: a `.th` state dict with the tensor names of the package `encodec`.

The first bytes of a file decide how it is read. Its suffix decides only if they do not.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from streamcodec.config import CodecConfig
from streamcodec.errors import CheckpointError, InputError, ModelNotFoundError, UnsupportedModelError
from streamcodec.model.checkpoint.infer import infer_config
from streamcodec.model.checkpoint.layouts import (
    WEIGHT_NORM,
    canonical,
    canonical_shapes,
    load_canonical,
    to_canonical,
    to_meta_name,
    unfold,
    weights_fingerprint,
    with_training_buffers,
)
from streamcodec.model.encodec import EncodecModel
from streamcodec.model.modes import building
from streamcodec.output_file import replacing, write_bytes

__all__ = ["LAYOUTS", "Layout", "load_file", "save"]

Layout = Literal["streamcodec", "hf", "meta"]
LAYOUTS: tuple[Layout, ...] = ("streamcodec", "hf", "meta")

_TORCH_SUFFIXES = (".th", ".pt")
_NAMED_HASH = re.compile(r"-([0-9a-f]{8})\.th$")
_HF_CONSTANTS = {
    "architectures": ["EncodecModel"],
    "model_type": "encodec",
    "norm_type": "weight_norm",
    "use_causal_conv": True,
    "normalize": False,
    "chunk_length_s": None,
    "overlap": None,
}


@building()
def load_file(path: Path) -> EncodecModel:
    """Load a checkpoint of any layout: a safetensors file, a folder with `config.json`, or a PyTorch state dict with any name.

    Raises `ModelNotFoundError` if nothing exists at `path`, `CheckpointError` if the checkpoint is damaged or its tensors do not match its
    config, and `UnsupportedModelError` for a model that cannot stream.
    """
    if path.is_dir():
        config = _read_config(path / "config.json")
        tensors, _ = _read_safetensors(path / "model.safetensors")
    elif not path.exists():
        raise ModelNotFoundError(f"{path}: no such file or folder")
    elif _is_safetensors(path):
        tensors, metadata = _read_safetensors(path)
        sibling = path.with_name("config.json")
        if "config" in metadata:
            config = CodecConfig.from_dict(_parse_config(metadata["config"], path))
        elif sibling.exists():
            config = _read_config(sibling)
        else:
            raise CheckpointError(f"{path}: no config in its header and no config.json beside it")
        model = _build(config, canonical(tensors, path), path)
        stored = metadata.get("fingerprint")
        if stored is not None and stored != weights_fingerprint(model):
            raise CheckpointError(
                f"{path}: its tensors have fingerprint {weights_fingerprint(model)}, its header says {stored}: the file is damaged"
            )
        return model
    else:
        tensors = _read_torch(path)
        named = canonical(tensors, path)
        return _build(infer_config(named, path), named, path)
    return _build(config, canonical(tensors, path), path)


@building()
def save(
    model: EncodecModel,
    path: Path,
    *,
    layout: Layout = "streamcodec",
    dtype: torch.dtype = torch.float32,
    inputs: Iterable[Path] = (),
) -> None:
    """Write `model` to `path`, whole or not at all: a file for the layouts `streamcodec` and `meta`, a folder for `hf`.

    Raises `CheckpointError` for a path that cannot be written, that `load_file` would refuse or that is one of `inputs`, and
    `UnsupportedModelError` for a model that the layout cannot represent.
    """
    try:
        _check_target(path, layout)
        _write(model, path, layout, dtype, tuple(inputs))
    except InputError as exc:
        raise CheckpointError(str(exc)) from exc
    except OSError as exc:
        raise CheckpointError(f"{path} cannot be written: {exc.strerror or exc}") from exc


def _write(model: EncodecModel, path: Path, layout: Layout, dtype: torch.dtype, inputs: tuple[Path, ...]) -> None:
    tensors = {name: tensor.detach().to(dtype).contiguous() for name, tensor in to_canonical(model).items()}
    if layout == "streamcodec":
        stored = EncodecModel(model.config)
        load_canonical(stored, {name: tensor.float() for name, tensor in tensors.items()})
        _make_folder(path.parent)
        metadata = {"format": "streamcodec", "config": json.dumps(model.config.to_dict()), "fingerprint": weights_fingerprint(stored)}
        write_bytes(path, safetensors.torch.save(tensors, metadata), inputs)
    elif layout == "hf":
        _make_folder(path)
        named = with_training_buffers(unfold(tensors, WEIGHT_NORM[1]))
        config = {**model.config.to_dict(), **_HF_CONSTANTS, "dtype": str(dtype).removeprefix("torch.")}
        # Neither file takes its place before both are written: old weights with a new config would be another model.
        with replacing(path / "model.safetensors", inputs) as weights, replacing(path / "config.json", inputs) as text:
            weights.write(safetensors.torch.save(named, {"format": "pt"}))
            text.write((json.dumps(config, indent=2) + "\n").encode())
    elif layout == "meta":
        inferred, config = infer_config(tensors, path).to_dict(), {**model.config.to_dict(), "norm_type": "weight_norm"}
        lost = [f"{field} {value!r}" for field, value in config.items() if inferred[field] != value]
        if lost:
            raise UnsupportedModelError(
                f"{path}: a .th file carries no config, so it would lose {', '.join(lost)}: use layout hf or streamcodec"
            )
        _make_folder(path.parent)
        named = with_training_buffers(unfold(tensors, WEIGHT_NORM[0]))
        with replacing(path, inputs) as file:
            torch.save({to_meta_name(name, model.config): tensor for name, tensor in named.items()}, file)


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError as exc:  # a file, in the place of a folder
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path)) from exc


def _check_target(path: Path, layout: str) -> None:
    if layout not in LAYOUTS:
        raise CheckpointError(f"layout is {layout!r}, expected one of {', '.join(LAYOUTS)}")
    if layout == "hf":
        if path.exists() and not path.is_dir():
            raise CheckpointError(f"{path} is a file, expected a folder for the layout hf")
        return
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder, expected a file for the layout {layout}")
    others = _TORCH_SUFFIXES if layout == "streamcodec" else (".safetensors",)
    if path.suffix in others:
        right = ".safetensors" if layout == "streamcodec" else ".th"
        raise CheckpointError(f"{path} has the suffix of another layout, expected {right} for the layout {layout}")
    if layout == "meta" and _NAMED_HASH.search(path.name):
        raise CheckpointError(f"{path} names the start of a sha256, which a new file cannot match: leave out the digits")


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
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as exc:
        raise ModelNotFoundError(f"{path.parent}: has no config.json, so it is not a model folder") from exc
    except (OSError, UnicodeDecodeError) as exc:
        raise CheckpointError(f"{path}: cannot be read: {exc}") from exc
    return CodecConfig.from_dict(_parse_config(text, path))


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    if not path.exists():
        raise ModelNotFoundError(f"{path}: no such file")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (safetensors.SafetensorError, OSError, ValueError) as exc:
        raise CheckpointError(f"{path}: not a readable safetensors file ({exc})") from exc


def _is_safetensors(path: Path) -> bool:
    """Whether to read a file as safetensors (True) or as a PyTorch state dict (False); raises `CheckpointError` if it is neither."""
    try:
        with path.open("rb") as file:
            head = file.read(9)
    except OSError as exc:
        raise CheckpointError(f"{path}: cannot be read: {exc.strerror or exc}") from exc
    if head[8:] == b"{":  # 8 bytes with the header's length, then the header as JSON
        return True
    if head.startswith((b"PK\x03\x04", b"\x80")):  # a zip file, as torch writes it, or a bare pickle
        return False
    if path.suffix not in (".safetensors", *_TORCH_SUFFIXES):
        raise CheckpointError(f"{path}: not a readable checkpoint, expected a safetensors file or a PyTorch state dict")
    return path.suffix == ".safetensors"


def _read_torch(path: Path) -> dict[str, Tensor]:
    named_hash = _NAMED_HASH.search(path.name)
    if named_hash:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if not digest.startswith(named_hash[1]):
            raise CheckpointError(f"{path}: its sha256 starts with {digest[:8]}, its name says {named_hash[1]}: the file is damaged")
    try:
        with warnings.catch_warnings(action="ignore"):
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as exc:  # a damaged pickle can make torch's restricted unpickler raise any type of error
        raise CheckpointError(f"{path}: not a readable PyTorch state dict: it is damaged, or holds more than tensors") from exc
    if isinstance(loaded, dict) and isinstance(loaded.get("best_state"), dict):
        loaded = loaded["best_state"]
    if not isinstance(loaded, dict) or not loaded or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in loaded.items()):
        raise CheckpointError(f"{path}: holds {type(loaded).__name__}, expected a state dict of named tensors")
    return loaded


def _build(config: CodecConfig, tensors: dict[str, Tensor], path: Path) -> EncodecModel:
    # The meta device allocates no memory. The config may ask for any size, so the shapes are checked before anything is allocated.
    with torch.device("meta"):
        model = EncodecModel(config)
    expected = canonical_shapes(model)
    missing, extra = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
    if missing or extra:
        problems = [f"{label} {_few(names)}" for label, names in (("lacks", missing), ("has unexpected", extra)) if names]
        raise CheckpointError(f"{path}: does not fit its config: it {' and '.join(problems)}")
    for name, shape in expected.items():
        if tuple(tensors[name].shape) != shape:
            raise CheckpointError(f"{path}: {name} has shape {list(tensors[name].shape)}, its config asks for {list(shape)}")
        if not torch.isfinite(tensors[name]).all():
            raise CheckpointError(f"{path}: {name} holds NaN or infinity")
    load_canonical(model, tensors)
    return model.eval().requires_grad_(False)


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
