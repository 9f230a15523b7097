"""The search through the codebooks on a CPU, for rows of different n_q in one go: a level is searched only for the rows that use it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from streamcodec.model.quantizer import ResidualVQ, search
from streamcodec.types import Codes, Samples

__all__ = ["CodebookSearch"]


class CodebookSearch:
    """Searches the codebooks of `quantizer` in float32, in its runs, as its `encode` does."""

    def __init__(self, quantizer: ResidualVQ) -> None:
        self._embed = quantizer.embed.detach().float().cpu().contiguous()
        # |r - e|^2 is least where r.e - |e|^2 / 2 is most.
        self._offsets = -self._embed.square().sum(-1) / 2
        self._unused = quantizer.size
        self._beam = quantizer.beam
        self._runs = quantizer.runs

    def __call__(self, latents: Samples, n_q: Sequence[int]) -> Codes:
        """Latents [B, dim, F] -> codes [B, max(n_q), F]; row b uses its first n_q[b] codebooks, the others get an unused one's code."""
        batch, dim, frames = latents.shape
        # The rows that need the most levels first, so that each run's rows are a prefix.
        order = np.argsort(-np.asarray(n_q), kind="stable")
        wanted = np.asarray(n_q)[order]
        rest = np.ascontiguousarray(latents[order].transpose(0, 2, 1)).reshape(batch * frames, dim)
        found = np.full((max(n_q), batch, frames), self._unused, np.int32)
        for first, stop in self._runs:
            active = int((wanted > first).sum())
            if not active:
                break
            used = min(stop, len(found))
            # Where paths are followed, what a level gets depends on the levels after it: then all of a run is searched.
            index, rest = self._search(first, used if self._beam == 1 else stop, rest[: active * frames])
            found[first:used, :active] = index[:, : used - first].T.reshape(used - first, active, frames)
        found[np.arange(len(found))[:, None] >= wanted] = self._unused
        codes = np.empty((batch, max(n_q), frames), np.int32)
        codes[order] = found.transpose(1, 0, 2)
        return codes

    def _search(self, first: int, stop: int, rest: Samples) -> tuple[npt.NDArray[np.int32], Samples]:
        """Residuals [N, dim] -> the entries found at levels `first` to `stop` [N, levels or more], and what they leave [N, dim]."""
        residual = torch.from_numpy(rest)
        if self._beam > 1:
            paths, left = search(residual, self._embed[first:stop], self._beam)
            return paths.int().numpy(), left.numpy()
        found = np.empty((len(rest), stop - first), np.int32)
        for level in range(first, stop):
            # numpy's argmax is ten times quicker than torch's.
            index = torch.addmm(self._offsets[level], residual, self._embed[level].t()).numpy().argmax(axis=1)
            residual -= self._embed[level][torch.from_numpy(index)]
            found[:, level - first] = index
        return found, rest
