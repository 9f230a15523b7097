"""Linear fades. A fade and its reverse sum to one, so a cross-fade between equal signals changes nothing."""

from __future__ import annotations

import numpy as np

from streamcodec.types import Samples

__all__ = ["fade_in"]


def fade_in(samples: int) -> Samples:
    """Gains [samples] that rise from 0 to 1, both excluded; the reverse is a fade-out."""
    return ((np.arange(samples) + 1) / (samples + 1)).astype(np.float32)
