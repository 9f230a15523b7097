"""Types of what the packages exchange: aliases of arrays and their shapes, and the chunk of codes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Chunk", "Codes", "Samples", "States", "block_shape", "codes_in"]

Samples = npt.NDArray[np.float32]
"""Audio in [-1, 1]: [T] of one channel, [C, T] of several; or a batch [B, T] or [B, C, T]."""

Codes = npt.NDArray[np.int32]
"""Codebook entries: [n_q, frames], or a batch [B, n_q, frames]."""

States = npt.NDArray[np.float32]
"""The state of a codec: one row of floats [S] per stream, or a batch [B, S]."""


@dataclass(frozen=True)
class Chunk:
    """The codes of a chunk of a clip, [n_q, frames] or [B, n_q, frames], and the loudness that its samples were divided by.

    `scale` is the root of the mean square of the mono mix, a number or [B]; None if the model does not normalise.
    """

    codes: Any
    scale: Any = None


def codes_in(packet: Any) -> Any:
    """The codes [n_q, F] of a packet, which it is itself unless it is a `Chunk`."""
    return packet.codes if isinstance(packet, Chunk) else packet


def block_shape(samples: int, channels: int) -> tuple[int, ...]:
    """The shape of a block of so many samples: [T] of one channel, [C, T] of several."""
    return (samples,) if channels == 1 else (channels, samples)
