"""From a run's checkpoint to a model that anyone can load: the averaged weights, in float16 where that changes no codes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch

from streamcodec.config import CodecConfig
from streamcodec.errors import ModelNotFoundError
from streamcodec.model import checkpoint
from streamcodec.model.encodec import EncodecModel
from streamcodec.training.recipe import Recipe
from streamcodec.training.rundir import latest_checkpoint, load_checkpoint

__all__ = ["averaged", "export"]


def averaged(run: Path) -> EncodecModel:
    """The averaged model of a run's latest checkpoint; raises `ModelNotFoundError` where there is none."""
    return _averaged(_latest(run))


def _latest(run: Path) -> dict[str, Any]:
    path = latest_checkpoint(run)
    if path is None:
        raise ModelNotFoundError(f"{run}: no checkpoint in this folder")
    return load_checkpoint(path)


def _averaged(saved: dict[str, Any]) -> EncodecModel:
    model = EncodecModel(CodecConfig.from_dict(saved["config"]))
    model.load_state_dict(saved["learner"]["average"])
    return model.eval()


def export(run: Path, target: Path, layout: Literal["hf", "streamcodec"] = "hf") -> EncodecModel:
    """Write a run's averaged model to `target`: a folder that `transformers` loads (`hf`) or one file; returns it as stored.

    Weights are stored in float16, but in float32 where the run tuned the decoder of a model whose codes that would change.
    """
    saved = _latest(run)
    model = _averaged(saved)
    kept = [*model.encoder.parameters(), model.quantizer.embed]
    rounded = Recipe.from_dict(saved["recipe"]).decoder_only and any(not torch.equal(t, t.half().float()) for t in kept)
    checkpoint.save(model, target, layout=layout, dtype=torch.float32 if rounded else torch.float16)
    return checkpoint.load_file(target)
