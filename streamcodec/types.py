"""Type aliases for the arrays that the packages exchange."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["Codes", "Samples", "States"]

Samples = npt.NDArray[np.float32]
"""Audio in [-1, 1]: mono [T], or a batch [B, T]."""

Codes = npt.NDArray[np.int32]
"""Codebook entries: [n_q, frames], or a batch [B, n_q, frames]."""

States = npt.NDArray[np.float32]
"""The state of a codec: one row of floats [S] per stream, or a batch [B, S]."""
