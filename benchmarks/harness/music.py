"""Sound that is made up, for models that code music."""

from __future__ import annotations

import numpy as np

from streamcodec.types import Samples

__all__ = ["music"]

_CHORD_HZ = (220, 277, 330)


def music(channels: int, length: int, seed: int = 0, *, rate: int = 48_000) -> Samples:
    """Chords that glide, with noise, louder and softer, other ones on each channel: [C, T] at `rate` Hz, of 16-bit values."""
    rng = np.random.default_rng(seed)
    t = np.arange(length) / rate
    pitch = (1 + 0.3 * np.arange(channels)[:, None] + 0.002 * t) * t
    chord = sum(np.sin(2 * np.pi * (hz * pitch + rng.uniform(size=(channels, 1)))) for hz in _CHORD_HZ) / len(_CHORD_HZ)
    x = (0.05 + 0.4 * np.sin(9 * t) ** 2) * (chord + 0.2 * rng.standard_normal((channels, length)))
    return (np.rint(np.clip(x, -1, 1) * 32_767) / 32_768).astype(np.float32)
