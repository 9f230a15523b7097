"""Random codes in chunks, as a model of some config would give them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from streamcodec.config import CodecConfig
from streamcodec.types import Codes

__all__ = ["random_chunks"]


def random_chunks(config: CodecConfig, n_q: int, frames: Sequence[int], seed: int = 0) -> list[tuple[Codes, float | None]]:
    """Chunks of so many frames each: codes [n_q, frames], and scales if the model normalises."""
    rng = np.random.default_rng(seed)
    scales = [float(np.float32(rng.uniform(1e-8, 1))) if config.normalize else None for _ in frames]
    return [(rng.integers(0, config.codebook_size, (n_q, count), np.int32), scale) for count, scale in zip(frames, scales, strict=True)]
