"""The look-up in codebooks on a CPU: codes to latents."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from streamcodec.types import Codes, Samples

__all__ = ["CodebookTable"]


class CodebookTable:
    """The entries `embed` [levels, size, dim] as one table. It finds what `ResidualVQ.decode` finds."""

    def __init__(self, embed: npt.NDArray[np.float32]) -> None:
        # Each codebook gets one more row of zeros, for the "unused" code.
        self._rows = np.concatenate([embed, np.zeros_like(embed[:, :1])], axis=1).reshape(-1, embed.shape[2])
        self._size = embed.shape[1]

    def __call__(self, codes: Codes) -> Samples:
        """Codes [B, n_q, F] -> latents [B, dim, F]; the code one past the last entry means that the codebook is not used."""
        offsets = np.arange(codes.shape[1], dtype=np.int32)[:, None] * (self._size + 1)
        return np.ascontiguousarray(self._rows.take(codes + offsets, axis=0).sum(axis=1).transpose(0, 2, 1))
