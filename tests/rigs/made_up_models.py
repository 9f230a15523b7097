"""Models with random weights and few channels, where no reference is compared with.

`transformers` takes many seconds to import, in each process that makes a model with it.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from streamcodec.config import CodecConfig
from streamcodec.model.checkpoint import save
from streamcodec.model.encodec import EncodecModel

__all__ = ["FEW_CHANNELS", "FEW_LAYERS", "fill_codebooks", "save_made_up_model", "small_model"]

# The published architecture's rates and bandwidths, padded by reflection.
FEW_CHANNELS = {"num_filters": 4, "hidden_size": 16, "codebook_dim": 16}

# Two strides and one LSTM layer, at the same rates: a step and a conversion take much less time.
FEW_LAYERS = {**FEW_CHANNELS, "num_lstm_layers": 1, "upsampling_ratios": [20, 16]}


def fill_codebooks(embeds: Iterable[torch.Tensor], latent_std: float) -> None:
    """Random codebooks on the scale of the residuals they meet, as trained ones are: made-up models begin with zeros."""
    generator = torch.Generator().manual_seed(5)
    for i, embed in enumerate(embeds):
        embed.copy_(torch.randn(embed.shape, generator=generator) * latent_std * 0.9**i)


def save_made_up_model(folder: Path, seed: int = 0, **overrides: Any) -> Path:
    """Write a model as `transformers` would into `folder`; the full-size 24 kHz architecture unless `overrides` say otherwise."""
    torch.manual_seed(seed)
    config = CodecConfig.from_dict(overrides)
    model = EncodecModel(config).eval()
    with torch.no_grad():
        samples = torch.randn(1, config.audio_channels, 24_000) * 0.1
        latents, _ = model.encoder(samples, None, config.granularity != "frames")
        mean = latents.mean(dim=2)
        fill_codebooks(model.quantizer.embed, float((latents - mean[..., None]).std()))
        model.quantizer.embed[0] += mean
    save(model, folder, layout="hf")
    return folder


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    folder = tempfile.TemporaryDirectory()
    save_made_up_model(Path(folder.name), seed=3, **FEW_LAYERS)
    return folder


def small_model() -> str:
    """A folder with a model of few channels and layers that all tests of a process share."""
    return _folder().name
