"""Reads and writes checkpoints. The tensors are checked against the config before a model is built.

There are four layouts:

- `streamcodec`: one safetensors file of canonical tensors, with the config and the fingerprint in its header;
- `hf`: a folder with `config.json`, weight-normed `model.safetensors` and `preprocessor_config.json`, as `transformers` loads it;
- `meta`: a `.th` state dict with the tensor names of the package `encodec`;
- `audiocraft`: such a state dict with audiocraft's configuration beside it, as audiocraft exports a compression model.

The first bytes of a file decide how it is read. Its suffix decides only if they do not.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from streamcodec.config import CodecConfig
from streamcodec.errors import CheckpointError, InputError, UnsupportedModelError
from streamcodec.model.canonical import check_tensors
from streamcodec.model.checkpoint.audiocraft import xp_cfg
from streamcodec.model.checkpoint.infer import infer_config
from streamcodec.model.checkpoint.layouts import (
    WEIGHT_NORM,
    canonical,
    load_canonical,
    to_canonical,
    to_meta_name,
    unfold,
    weights_fingerprint,
    with_training_buffers,
)
from streamcodec.model.checkpoint.stored import NAMED_HASH, TORCH_SUFFIXES, read
from streamcodec.model.encodec import EncodecModel
from streamcodec.model.modes import building
from streamcodec.output_file import replacing, write_bytes

__all__ = ["LAYOUTS", "PREPROCESSOR_FILE", "Layout", "files_written", "load_file", "preprocessor_config", "save"]

Layout = Literal["streamcodec", "hf", "meta", "audiocraft"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)

Tensors = dict[str, Tensor]

PREPROCESSOR_FILE = "preprocessor_config.json"
_HF_FILES = ("model.safetensors", "config.json", PREPROCESSOR_FILE)
_HF_CONSTANTS = {"architectures": ["EncodecModel"], "model_type": "encodec"}


@building()
def load_file(path: Path) -> EncodecModel:
    """Load a checkpoint of any layout: a safetensors file, a PyTorch state dict with any name, or a folder with `config.json`.

    The config is the one that the checkpoint carries (a safetensors header, audiocraft's `xp.cfg`) or that lies beside it (`config.json`).
    Only a bare state dict has none: its shapes then tell what they can, and the rest is as in the published 24 kHz model.

    Raises `ModelNotFoundError` if nothing exists at `path`, `CheckpointError` if the checkpoint is damaged or its tensors do not match its
    config, and `UnsupportedModelError` for a model of another kind.
    """
    stored = read(path)
    named = canonical(stored.tensors, path)
    config = infer_config(named, path) if stored.config is None else stored.config
    model = _build(config, named, path)
    if stored.fingerprint is not None and stored.fingerprint != weights_fingerprint(model):
        raise CheckpointError(
            f"{path}: its tensors have fingerprint {weights_fingerprint(model)}, its header says {stored.fingerprint}: the file is damaged"
        )
    return model


@building()
def save(
    model: EncodecModel,
    path: Path,
    *,
    layout: Layout = "streamcodec",
    dtype: torch.dtype = torch.float32,
    inputs: Iterable[Path] = (),
) -> None:
    """Write `model` to `path`, whole or not at all: a folder for the layout `hf`, a file for the others.

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


def files_written(path: Path, layout: Layout) -> list[Path]:
    """The files that `save` writes to `path`."""
    return [path / name for name in _HF_FILES] if layout == "hf" else [path]


def _write(model: EncodecModel, path: Path, layout: Layout, dtype: torch.dtype, inputs: tuple[Path, ...]) -> None:
    tensors = {name: tensor.detach().to(dtype).contiguous() for name, tensor in to_canonical(model).items()}
    _WRITERS[layout](model, tensors, path, inputs)


def _write_streamcodec(model: EncodecModel, tensors: Tensors, path: Path, inputs: tuple[Path, ...]) -> None:
    stored = EncodecModel(model.config)
    load_canonical(stored, {name: tensor.float() for name, tensor in tensors.items()})
    _make_folder(path.parent)
    metadata = {"format": "streamcodec", "config": json.dumps(model.config.to_dict()), "fingerprint": weights_fingerprint(stored)}
    write_bytes(path, safetensors.torch.save(tensors, metadata), inputs)


def _write_hf(model: EncodecModel, tensors: Tensors, path: Path, inputs: tuple[Path, ...]) -> None:
    _make_folder(path)
    named = with_training_buffers(_stored_weights(model, tensors, WEIGHT_NORM[1]))
    dtype = str(next(iter(tensors.values())).dtype).removeprefix("torch.")
    config = {**model.config.to_dict(), **_HF_CONSTANTS, "norm_type": _stored_norm(model), "dtype": dtype}
    content = safetensors.torch.save(named, {"format": "pt"}), _json(config), _json(preprocessor_config(model.config))
    with contextlib.ExitStack() as stack:
        # No file takes its place before all are written: old weights with a new config would be another model.
        for file, data in zip([stack.enter_context(replacing(path / name, inputs)) for name in _HF_FILES], content, strict=True):
            file.write(data)


def _write_meta(model: EncodecModel, tensors: Tensors, path: Path, inputs: tuple[Path, ...]) -> None:
    inferred, config = infer_config(tensors, path).to_dict(), {**model.config.to_dict(), "norm_type": _stored_norm(model)}
    lost = [f"{field} {value!r}" for field, value in config.items() if inferred[field] != value]
    if lost:
        raise UnsupportedModelError(
            f"{path}: a .th file carries no config, so it would lose {', '.join(lost)}: use layout audiocraft, hf or streamcodec"
        )
    _write_torch(_state_dict(model, tensors), path, inputs)


def _write_audiocraft(model: EncodecModel, tensors: Tensors, path: Path, inputs: tuple[Path, ...]) -> None:
    cfg = xp_cfg(replace(model.config, norm_type=_stored_norm(model)))
    _write_torch({"best_state": _state_dict(model, tensors), "xp.cfg": cfg, "exported": True}, path, inputs)


_WRITERS: dict[Layout, Callable[[EncodecModel, Tensors, Path, tuple[Path, ...]], None]] = {
    "streamcodec": _write_streamcodec,
    "hf": _write_hf,
    "meta": _write_meta,
    "audiocraft": _write_audiocraft,
}


def _write_torch(content: dict[str, Any], path: Path, inputs: tuple[Path, ...]) -> None:
    _make_folder(path.parent)
    with replacing(path, inputs) as file:
        torch.save(content, file)


def _state_dict(model: EncodecModel, tensors: Tensors) -> Tensors:
    """The tensors by the names that the package `encodec` and audiocraft give them."""
    named = with_training_buffers(_stored_weights(model, tensors, WEIGHT_NORM[0]))
    return {to_meta_name(name, model.config): tensor for name, tensor in named.items()}


def preprocessor_config(config: CodecConfig) -> dict[str, Any]:
    """What `transformers`' EncodecFeatureExtractor is made of."""
    return {
        "chunk_length_s": config.chunk_length_s,
        "feature_extractor_type": "EncodecFeatureExtractor",
        "feature_size": config.audio_channels,
        "overlap": config.overlap,
        "padding_side": "right",
        "padding_value": 0.0,
        "return_attention_mask": True,
        "sampling_rate": config.sampling_rate,
    }


def _json(values: dict[str, Any]) -> bytes:
    return (json.dumps(values, indent=2) + "\n").encode()


def _stored_norm(model: EncodecModel) -> str:
    """What the layouts of other programs call the norm: they have no model without one."""
    return "weight_norm" if model.config.norm_type == "none" else model.config.norm_type


def _stored_weights(model: EncodecModel, tensors: Tensors, spelling: tuple[str, str]) -> Tensors:
    return unfold(tensors, spelling) if _stored_norm(model) == "weight_norm" else dict(tensors)


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
    right, others = (".safetensors", TORCH_SUFFIXES) if layout == "streamcodec" else (".th", (".safetensors",))
    if path.suffix in others:
        raise CheckpointError(f"{path} has the suffix of another layout, expected {right} for the layout {layout}")
    if layout != "streamcodec" and NAMED_HASH.search(path.name):
        raise CheckpointError(f"{path} names the start of a sha256, which a new file cannot match: leave out the digits")


def _build(config: CodecConfig, tensors: Tensors, path: Path) -> EncodecModel:
    # The meta device allocates no memory. The config may ask for any size, so the shapes are checked before anything is allocated.
    with torch.device("meta"):
        model = EncodecModel(config)
    check_tensors(config, tensors, lambda tensor: bool(torch.isfinite(tensor).all()), path)
    load_canonical(model, tensors)
    return model.eval().requires_grad_(False)
