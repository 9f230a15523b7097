"""Models with random weights and few channels, where no reference is compared with.

`transformers` takes many seconds to import, in each process that makes a model with it.
"""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks.peers.random_models import fill_codebooks
from streamcodec.config import CodecConfig
from streamcodec.model.checkpoint import save
from streamcodec.model.encodec import EncodecModel

__all__ = ["FEW_CHANNELS", "FEW_LAYERS", "STEREO", "save_made_up_model", "small_model", "stereo_model"]

# The published architecture's rates and bandwidths, padded by reflection.
FEW_CHANNELS = {"num_filters": 4, "hidden_size": 16, "codebook_dim": 16}

# Two strides and one LSTM layer, at the same rates: a step and a conversion take much less time.
FEW_LAYERS = {**FEW_CHANNELS, "num_lstm_layers": 1, "upsampling_ratios": [20, 16]}

# The published 48 kHz model with few channels and short chunks: 120 frames of 40 samples, which begin 4,320 samples apart.
STEREO = {
    **FEW_CHANNELS,
    "codebook_size": 256,
    "upsampling_ratios": [8, 5],
    "use_causal_conv": False,
    "sampling_rate": 48_000,
    "audio_channels": 2,
    "norm_type": "time_group_norm",
    "normalize": True,
    "chunk_length_s": 0.1,
    "overlap": 0.1,
    "target_bandwidths": [19.2, 38.4, 76.8],
}


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


_SHARED: dict[str, tuple[int, dict[str, Any]]] = {"small": (3, FEW_LAYERS), "stereo": (2, STEREO)}


@functools.cache
def _folder(name: str) -> tempfile.TemporaryDirectory[str]:
    folder = tempfile.TemporaryDirectory()
    seed, overrides = _SHARED[name]
    save_made_up_model(Path(folder.name), seed, **overrides)
    return folder


def small_model() -> str:
    """A folder with a model of few channels and layers that all tests of a process share."""
    return _folder("small").name


def stereo_model() -> str:
    """The same with a stereo model in chunks."""
    return _folder("stereo").name
