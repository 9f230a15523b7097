"""The search through the codebooks on a CPU, for rows of different n_q in one go: a level is searched only for the rows that use it.

A level is one small matrix product, so what surrounds it counts: norms are kept, and numpy's argmax is ten times quicker than torch's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from streamcodec.engine.contract import Codes, Samples

__all__ = ["CodebookSearch"]


class CodebookSearch:
    """Finds each residual's nearest entry, level by level, in float32; `embed` is [levels, size, dim]."""

    def __init__(self, embed: torch.Tensor) -> None:
        self._embed = embed.detach().float().contiguous()
        # |r - e|^2 is least where r.e - |e|^2 / 2 is most.
        self._offsets = -self._embed.square().sum(-1) / 2
        self._unused = embed.shape[1]

    def __call__(self, latents: Samples, n_q: Sequence[int]) -> Codes:
        """Latents [B, dim, F] -> codes [B, max(n_q), F]; row b uses its first n_q[b] codebooks, the others get an unused one's code."""
        batch, dim, frames = latents.shape
        # The rows that need the most levels first, so that each level's rows are a prefix.
        order = np.argsort(-np.asarray(n_q), kind="stable")
        residual = torch.from_numpy(np.ascontiguousarray(latents[order].transpose(0, 2, 1))).view(batch * frames, dim)
        found = np.full((max(n_q), batch, frames), self._unused, np.int32)
        for level in range(max(n_q)):
            active = sum(1 for row in order if n_q[row] > level)
            rest = residual[: active * frames]
            scores = torch.addmm(self._offsets[level], rest, self._embed[level].t())
            index = scores.numpy().argmax(axis=1)
            rest -= self._embed[level][torch.from_numpy(index)]
            found[level, :active] = index.reshape(active, frames)
        codes = np.empty((batch, max(n_q), frames), np.int32)
        codes[order] = found.transpose(1, 0, 2)
        return codes
