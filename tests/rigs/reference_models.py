"""`transformers`' models of the three published kinds, full-size and with few channels, and music for them.

Importing `transformers` takes many seconds: only a call does it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from made_up_models import fill_codebooks

from streamcodec import published

__all__ = ["FEW", "PUBLISHED", "SMALL", "music", "reference_model"]

# As `transformers` takes them.
PUBLISHED: dict[str, dict[str, Any]] = {
    name: {field: value for field, value in published.PUBLISHED[of].to_dict().items() if field != "search_beam"}
    for name, of in (("48 kHz", "encodec_48khz"), ("32 kHz", "encodec_32khz"))
}
FEW = {"num_filters": 4, "hidden_size": 16, "codebook_dim": 16, "upsampling_ratios": [8, 5]}
# The published ones with few channels and short chunks: a hop of 40, and chunks of 30 frames that overlap by three.
SMALL = {
    "48 kHz": {
        **PUBLISHED["48 kHz"],
        **FEW,
        "codebook_size": 64,
        "chunk_length_s": 0.025,
        "overlap": 0.1,
        "target_bandwidths": [14.4, 57.6],
    },
    "32 kHz": {**PUBLISHED["32 kHz"], **FEW, "codebook_size": 64, "target_bandwidths": [19.2]},
    "48 kHz, mono": {
        **PUBLISHED["48 kHz"],
        **FEW,
        "audio_channels": 1,
        "codebook_size": 64,
        "chunk_length_s": 0.025,
        "overlap": 0.1,
        "target_bandwidths": [14.4],
    },
    "causal, in chunks": {**FEW, "codebook_size": 64, "chunk_length_s": 0.05, "overlap": 0.1, "target_bandwidths": [14.4]},
}


def reference_model(seed: int = 1, **overrides: Any) -> Any:
    """`transformers.EncodecModel` with random weights."""
    from transformers import EncodecConfig, EncodecModel

    torch.manual_seed(seed)
    model = EncodecModel(EncodecConfig(**overrides)).eval()
    with torch.no_grad():
        std = float(model.encoder(torch.randn(1, model.config.audio_channels, 9_600) * 0.1).std())
        fill_codebooks([layer.codebook.embed for layer in model.quantizer.layers], std)
    return model


def music(channels: int, length: int, seed: int = 0) -> npt.NDArray[np.float32]:
    """Tones and noise [C, T] whose loudness changes, other ones on each channel."""
    rng = np.random.default_rng(seed)
    t = np.arange(length) / 48_000
    tones = np.stack([np.sin(2 * np.pi * (220 * (1 + c) + 300 * t) * t) for c in range(channels)])
    return ((0.05 + 0.4 * np.sin(7 * t) ** 2) * (tones + 0.3 * rng.standard_normal((channels, length)))).astype(np.float32)
