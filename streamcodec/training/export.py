"""From a run's checkpoint to a model that anyone can load: the averaged weights, in float16."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

from streamcodec.config import CodecConfig
from streamcodec.errors import ModelNotFoundError
from streamcodec.model import checkpoint
from streamcodec.model.encodec import EncodecModel
from streamcodec.training.rundir import latest_checkpoint, load_checkpoint

__all__ = ["averaged", "export"]


def averaged(run: Path) -> EncodecModel:
    """The averaged model of a run's latest checkpoint; raises `ModelNotFoundError` where there is none."""
    path = latest_checkpoint(run)
    if path is None:
        raise ModelNotFoundError(f"{run}: no checkpoint in this folder")
    saved = load_checkpoint(path)
    model = EncodecModel(CodecConfig.from_dict(saved["config"]))
    model.load_state_dict(saved["learner"]["average"])
    return model.eval()


def export(run: Path, target: Path, layout: Literal["hf", "streamcodec"] = "hf") -> EncodecModel:
    """Write a run's averaged model to `target`: a folder that `transformers` loads (`hf`) or one file; returns it as stored."""
    checkpoint.save(averaged(run), target, layout=layout, dtype=torch.float16)
    return checkpoint.load_file(target)
