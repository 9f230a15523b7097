"""The search through the codebooks on a CPU, for rows of different n_q in one go: a level is searched only for the rows that use it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from streamcodec.engine.contract import Codes, Samples

__all__ = ["CodebookSearch"]


class CodebookSearch:
    """Finds each residual's nearest entry, level by level, in float32; `embed` is [levels, size, dim].

    Levels are searched in runs that end at `stops`, ascending, the last of them the number of levels: the values that n_q usually has.
    """

    def __init__(self, embed: torch.Tensor, stops: Sequence[int]) -> None:
        self._embed = embed.detach().float().contiguous()
        # |r - e|^2 is least where r.e - |e|^2 / 2 is most.
        self._offsets = -self._embed.square().sum(-1) / 2
        self._unused = embed.shape[1]
        self._runs = list(zip([0, *stops[:-1]], stops, strict=True))

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
            stop = min(stop, int(wanted[0]))
            index, rest = self._search(first, stop, rest[: active * frames])
            found[first:stop, :active] = index[:, : stop - first].T.reshape(stop - first, active, frames)
        found[np.arange(len(found))[:, None] >= wanted] = self._unused
        codes = np.empty((batch, max(n_q), frames), np.int32)
        codes[order] = found.transpose(1, 0, 2)
        return codes

    def _search(self, first: int, stop: int, rest: Samples) -> tuple[npt.NDArray[np.int32], Samples]:
        """Residuals [N, dim] -> the nearest entries at levels `first` to `stop` [N, levels or more], and what they leave [N, dim]."""
        residual = torch.from_numpy(rest)
        found = np.empty((len(rest), stop - first), np.int32)
        for level in range(first, stop):
            # numpy's argmax is ten times quicker than torch's.
            index = torch.addmm(self._offsets[level], residual, self._embed[level].t()).numpy().argmax(axis=1)
            residual -= self._embed[level][torch.from_numpy(index)]
            found[:, level - first] = index
        return found, rest
