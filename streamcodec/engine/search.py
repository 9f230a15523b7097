"""The codebook search on a CPU for a batch whose rows may differ in n_q: each run of levels is searched only for the rows that use it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from streamcodec.engine.parallel import run_together
from streamcodec.engine.search_arrays import Workspace
from streamcodec.engine.search_codebooks import SearchedCodebooks
from streamcodec.engine.search_kernel import search_paths
from streamcodec.model.quantizer import ResidualVQ
from streamcodec.types import Codes, Samples

__all__ = ["CodebookSearch"]

_PATHS = 96  # the paths that are searched together: their rounded residuals fit into the processor's first cache


class CodebookSearch:
    """Searches the codebooks of `quantizer` and finds what `ResidualVQ.encode` finds in float32.

    Each of up to `workers` simultaneous calls runs on `threads` threads; they share all that is made of the codebooks. A search is compiled
    at the first start on a machine, which takes some seconds.
    """

    def __init__(self, quantizer: ResidualVQ, threads: int = 1, workers: int = 1) -> None:
        self._made_of = quantizer, threads, workers
        embed = quantizer.embed.detach().float().cpu().contiguous().numpy()
        self._levels, self._size, dim = embed.shape
        self._beam = quantizer.beam
        # With one path there are no runs: each level is decided by itself.
        runs = quantizer.runs if quantizer.beam > 1 else [(level, level + 1) for level in range(self._levels)]
        self._stops = np.array([stop for _, stop in runs], np.int64)
        self._codebooks = SearchedCodebooks(embed, runs)
        # A tuple of arrays: see `search_paths`.
        self._arrays = tuple(self._codebooks.arrays)
        self._count = max(1, _PATHS // self._beam)
        self._workspaces: list[tuple[Any, ...]] = []  # of the searches that are done
        self._threads = threads
        self._helpers = ThreadPoolExecutor(workers * (threads - 1), "streamcodec-search") if threads > 1 else None
        self(np.zeros((1, dim, 1), np.float32), [1])  # compiles now, so that no stream waits for it
        self._codebooks.wait()

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles are made anew from the quantizer: threads belong to this process."""
        return CodebookSearch, self._made_of

    def __call__(self, latents: Samples, n_q: Sequence[int]) -> Codes:
        """Latents [B, dim, F] -> codes [B, max(n_q), F]; row b uses its first n_q[b] codebooks, the others get the "unused" code."""
        batch, dim, frames = latents.shape
        used, levels = np.asarray(n_q, np.int64), max(n_q, default=0)
        self._codebooks.prepare(levels)
        if batch == 1:  # what follows takes as long as a tenth of this search
            indices = np.empty((frames, self._levels), np.int32)
            self._search(np.ascontiguousarray(latents[0].T), used.repeat(frames), indices)
            return np.ascontiguousarray(indices[:, :levels].T)[None]
        # Rows are sorted by descending n_q, so that the rows of each run are the first ones.
        order = np.argsort(-used, kind="stable")
        residuals = latents[order].transpose(0, 2, 1).reshape(batch * frames, dim)
        indices = np.empty((batch * frames, self._levels), np.int32)
        self._search(residuals, used[order].repeat(frames), indices)
        codes = np.empty((batch, levels, frames), np.int32)
        codes[order] = indices[:, :levels].reshape(batch, frames, levels).transpose(0, 2, 1)
        codes[np.arange(levels) >= used[:, None]] = self._size
        return codes

    def _search(self, residuals: Samples, n_q: npt.NDArray[np.int64], indices: npt.NDArray[np.int32]) -> None:
        """Search residuals [N, dim], in parts that the threads share, and write their indices [N, levels]."""
        count = max(1, min(self._count, -(-len(residuals) // self._threads)))
        parts = [slice(start, start + count) for start in range(0, len(residuals), count)]

        def search(share: Sequence[slice]) -> None:
            try:
                work = self._workspaces.pop()
            except IndexError:
                work = tuple(Workspace.of(self._count, self._codebooks.arrays.embed, self._beam))
            reaches = self._codebooks.reaches
            for part in share:
                search_paths(residuals[part], n_q[part], self._stops, reaches, self._beam, self._arrays, work, indices[part])
            self._workspaces.append(work)

        # Parts are dealt out by turns: the first ones have more levels.
        shares = [parts[i :: self._threads] for i in range(min(self._threads, len(parts)))]
        run_together([partial(search, share) for share in shares], self._helpers)
