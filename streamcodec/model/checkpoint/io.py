"""Reads and writes checkpoints. The tensors are checked against the config before a model is built.

There are three layouts:

- `streamcodec`: one safetensors file of canonical tensors, with the config and the fingerprint in its header;
- `hf`: a folder with `config.json` and weight-normed `model.safetensors`, as `transformers` loads it;
- `meta`: a `.th` state dict with the tensor names of the package `encodec`.

The first bytes of a file decide how it is read. Its suffix decides only if they do not.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from streamcodec.config import CodecConfig
from streamcodec.errors import CheckpointError, InputError, UnsupportedModelError
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
from streamcodec.model.checkpoint.stored import NAMED_HASH, TORCH_SUFFIXES, read
from streamcodec.model.encodec import EncodecModel
from streamcodec.model.modes import building
from streamcodec.output_file import replacing, write_bytes

__all__ = ["LAYOUTS", "Layout", "load_file", "save"]

Layout = Literal["streamcodec", "hf", "meta"]
LAYOUTS: tuple[Layout, ...] = ("streamcodec", "hf", "meta")

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
        named = with_training_buffers(_stored_weights(model, tensors, WEIGHT_NORM[1]))
        config = {**model.config.to_dict(), **_HF_CONSTANTS, "norm_type": _stored_norm(model), "dtype": str(dtype).removeprefix("torch.")}
        # Neither file takes its place before both are written: old weights with a new config would be another model.
        with replacing(path / "model.safetensors", inputs) as weights, replacing(path / "config.json", inputs) as text:
            weights.write(safetensors.torch.save(named, {"format": "pt"}))
            text.write((json.dumps(config, indent=2) + "\n").encode())
    elif layout == "meta":
        inferred, config = infer_config(tensors, path).to_dict(), {**model.config.to_dict(), "norm_type": _stored_norm(model)}
        lost = [f"{field} {value!r}" for field, value in config.items() if inferred[field] != value]
        if lost:
            raise UnsupportedModelError(
                f"{path}: a .th file carries no config, so it would lose {', '.join(lost)}: use layout hf or streamcodec"
            )
        _make_folder(path.parent)
        named = with_training_buffers(_stored_weights(model, tensors, WEIGHT_NORM[0]))
        with replacing(path, inputs) as file:
            torch.save({to_meta_name(name, model.config): tensor for name, tensor in named.items()}, file)


def _stored_norm(model: EncodecModel) -> str:
    """What the layouts of other programs call the norm: they have no model without one."""
    return "weight_norm" if model.config.norm_type == "none" else model.config.norm_type


def _stored_weights(model: EncodecModel, tensors: dict[str, Tensor], spelling: tuple[str, str]) -> dict[str, Tensor]:
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
    others = TORCH_SUFFIXES if layout == "streamcodec" else (".safetensors",)
    if path.suffix in others:
        right = ".safetensors" if layout == "streamcodec" else ".th"
        raise CheckpointError(f"{path} has the suffix of another layout, expected {right} for the layout {layout}")
    if layout == "meta" and NAMED_HASH.search(path.name):
        raise CheckpointError(f"{path} names the start of a sha256, which a new file cannot match: leave out the digits")


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
