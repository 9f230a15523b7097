"""Models of the published kinds that code chunks or clips, full-size and with few channels, as `transformers` takes them; and music."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from benchmarks.peers.random_models import published_fields

__all__ = ["FEW", "PUBLISHED", "SMALL", "music"]

PUBLISHED = {"48 kHz": published_fields("encodec_48khz"), "32 kHz": published_fields("encodec_32khz")}
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


def music(channels: int, length: int, seed: int = 0) -> npt.NDArray[np.float32]:
    """Tones and noise [C, T] whose loudness changes, other ones on each channel."""
    rng = np.random.default_rng(seed)
    t = np.arange(length) / 48_000
    tones = np.stack([np.sin(2 * np.pi * (220 * (1 + c) + 300 * t) * t) for c in range(channels)])
    return ((0.05 + 0.4 * np.sin(7 * t) ** 2) * (tones + 0.3 * rng.standard_normal((channels, length)))).astype(np.float32)
