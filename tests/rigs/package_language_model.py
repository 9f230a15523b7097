"""The package `encodec`'s language model with random weights, and its checkpoint."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch

from benchmarks.harness.imports import without_torchaudio

__all__ = ["package_language_model", "saved"]


def package_language_model(codebooks: int = 32, *, past_frames: int = 262, dim: int = 200, layers: int = 5, seed: int = 0) -> Any:
    """`encodec.model.LMModel`; by default as the package builds it for 24 kHz. Its predictions are as uneven as a trained model's."""
    with without_torchaudio(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from encodec.model import LMModel

    torch.manual_seed(seed)
    model = LMModel(codebooks, 1024, dim=dim, num_layers=layers, past_context=past_frames).eval()
    with torch.no_grad():
        for head in model.linears:
            head.weight.mul_(4)
    return model


def saved(model: Any, folder: Path) -> Path:
    """Write the model's state dict, as it is published."""
    path = folder / "lm.th"
    torch.save(model.state_dict(), path)
    return path
