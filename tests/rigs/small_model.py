"""A model of the published architecture with few channels and random weights, made without a reference package, which loads slowly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from streamcodec.config import CodecConfig
from streamcodec.model.checkpoint import save
from streamcodec.model.encodec import EncodecModel

__all__ = ["save_small_model", "small_model"]


def small_model(**fields: Any) -> EncodecModel:
    """The model; `fields` change its config."""
    config = CodecConfig.from_dict({"num_filters": 2, "hidden_size": 8, "codebook_size": 256, "target_bandwidths": [1.2, 4.8], **fields})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = EncodecModel(config)
        for tensor in model.state_dict().values():
            tensor.copy_(torch.randn(tensor.shape) * 0.3)
    return model.eval().requires_grad_(False)


def save_small_model(path: Path, **fields: Any) -> Path:
    """Write the model to a file."""
    save(small_model(**fields), path)
    return path
