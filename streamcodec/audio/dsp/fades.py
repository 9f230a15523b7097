"""Linear fades: gains that sum to one with their reverse, so that a cross-fade of equal signals changes nothing."""

from __future__ import annotations

import numpy as np

from streamcodec.types import Samples

__all__ = ["fade_in"]


def fade_in(samples: int) -> Samples:
    """Gains [samples] from 0 to 1, both excluded; reversed they fade out."""
    return ((np.arange(samples) + 1) / (samples + 1)).astype(np.float32)
