"""The codebook search on a CPU for a batch whose rows may differ in n_q: each level is searched only for the rows that use it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from streamcodec.model.quantizer import ResidualVQ, search
from streamcodec.types import Codes, Samples

__all__ = ["CodebookSearch"]


class CodebookSearch:
    """Searches the codebooks of `quantizer` in float32; it uses the same runs of levels as `ResidualVQ.encode`."""

    def __init__(self, quantizer: ResidualVQ) -> None:
        self._embed = quantizer.embed.detach().float().cpu().contiguous()
        # |r - e|^2 is smallest where r.e - |e|^2 / 2 is largest.
        self._offsets = -self._embed.square().sum(-1) / 2
        self._unused = quantizer.size
        self._beam = quantizer.beam
        self._runs = quantizer.runs

    def __call__(self, latents: Samples, n_q: Sequence[int]) -> Codes:
        """Latents [B, dim, F] -> codes [B, max(n_q), F]; row b uses its first n_q[b] codebooks, the others get the "unused" code."""
        batch, dim, frames = latents.shape
        # Rows are sorted by descending n_q, so that the rows of each run are a prefix.
        order = np.argsort(-np.asarray(n_q), kind="stable")
        sorted_n_q = np.asarray(n_q)[order]
        residuals = np.ascontiguousarray(latents[order].transpose(0, 2, 1)).reshape(batch * frames, dim)
        indices = np.full((max(n_q), batch, frames), self._unused, np.int32)
        for first, stop in self._runs:
            active = int((sorted_n_q > first).sum())
            if not active:
                break
            used = min(stop, len(indices))
            # In a beam search the entry of a level depends on the levels after it, so the whole run must be searched.
            index, residuals = self._search(first, used if self._beam == 1 else stop, residuals[: active * frames])
            indices[first:used, :active] = index[:, : used - first].T.reshape(used - first, active, frames)
        indices[np.arange(len(indices))[:, None] >= sorted_n_q] = self._unused
        codes = np.empty((batch, max(n_q), frames), np.int32)
        codes[order] = indices.transpose(1, 0, 2)
        return codes

    def _search(self, first: int, stop: int, residuals: Samples) -> tuple[npt.NDArray[np.int32], Samples]:
        """Residuals [N, dim] -> entries at levels `first` to `stop` [N, levels or more], and the remaining residuals [N, dim]."""
        residual = torch.from_numpy(residuals)
        if self._beam > 1:
            paths, remaining = search(residual, self._embed[first:stop], self._beam)
            return paths.int().numpy(), remaining.numpy()
        indices = np.empty((len(residuals), stop - first), np.int32)
        for level in range(first, stop):
            # numpy's argmax is ten times as fast as torch's.
            index = torch.addmm(self._offsets[level], residual, self._embed[level].t()).numpy().argmax(axis=1)
            # In place: `residuals` shares this tensor's memory.
            residual -= self._embed[level][torch.from_numpy(index)]
            indices[:, level - first] = index
        return indices, residuals
