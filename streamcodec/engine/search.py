"""The codebook search on a CPU for a batch whose rows may differ in n_q: each run of levels is searched only for the rows that use it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from streamcodec.engine.compiling import LANES
from streamcodec.engine.parallel import run_together
from streamcodec.engine.search_kernel import NORM, Workspace, search_paths
from streamcodec.model.quantizer import ResidualVQ
from streamcodec.types import Codes, Samples

__all__ = ["CodebookSearch"]

_PATHS = 96  # the paths that are searched together: their rounded residuals fit into the processor's first cache


class CodebookSearch:
    """Searches the codebooks of `quantizer` and finds what `ResidualVQ.encode` finds in float32.

    Each of up to `workers` simultaneous calls runs on `threads` threads. A search is compiled at the first start on a machine, which takes
    some seconds.
    """

    def __init__(self, quantizer: ResidualVQ, threads: int = 1, workers: int = 1) -> None:
        self._made_of = quantizer, threads, workers
        self._embed = quantizer.embed.detach().float().cpu().contiguous().numpy()
        self._panels, self._units, self._offsets = _panels(self._embed)
        self._beam = quantizer.beam
        # With one path there are no runs: each level is decided by itself.
        stops = [stop for _, stop in quantizer.runs] if quantizer.beam > 1 else range(1, len(self._embed) + 1)
        self._stops = np.array(stops, np.int64)
        self._threads = threads
        self._helpers = ThreadPoolExecutor(workers * (threads - 1), "streamcodec-search") if threads > 1 else None
        self(np.zeros((1, self._embed.shape[2], 1), np.float32), [1])  # compiles now, so that no stream waits for it

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles are made anew from the quantizer: threads belong to this process."""
        return CodebookSearch, self._made_of

    def __call__(self, latents: Samples, n_q: Sequence[int]) -> Codes:
        """Latents [B, dim, F] -> codes [B, max(n_q), F]; row b uses its first n_q[b] codebooks, the others get the "unused" code."""
        batch, dim, frames = latents.shape
        used, levels = np.asarray(n_q, np.int64), max(n_q, default=0)
        # Rows are sorted by descending n_q, so that the rows of each run are the first ones.
        order = np.argsort(-used, kind="stable")
        residuals = latents[order].transpose(0, 2, 1).reshape(batch * frames, dim)
        indices = np.empty((batch * frames, len(self._embed)), np.int32)
        self._search(residuals, used[order].repeat(frames), indices)
        codes = np.empty((batch, levels, frames), np.int32)
        codes[order] = indices[:, :levels].reshape(batch, frames, levels).transpose(0, 2, 1)
        codes[np.arange(levels) >= used[:, None]] = self._embed.shape[1]
        return codes

    def _search(self, residuals: Samples, n_q: npt.NDArray[np.int64], indices: npt.NDArray[np.int32]) -> None:
        """Search residuals [N, dim], in parts that the threads share, and write their indices [N, levels]."""
        count = max(1, min(_PATHS // self._beam, -(-len(residuals) // self._threads)))
        parts = [slice(start, start + count) for start in range(0, len(residuals), count)]

        def search(share: Sequence[slice]) -> None:
            for part in share:
                work = Workspace.on(residuals[part], self._embed, self._beam)
                search_paths(n_q[part], self._embed, self._panels, self._units, self._offsets, self._stops, self._beam, work, indices[part])

        # Parts are dealt out by turns: the first ones have more levels.
        shares = [parts[i :: self._threads] for i in range(min(self._threads, len(parts)))]
        run_together([partial(search, share) for share in shares], self._helpers)


def _panels(embed: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Codebooks [levels, size, dim] as the panels, units and offsets of `search_paths`."""
    levels, size, dim = embed.shape
    count, pairs = -(-size // LANES), -(-dim // 2)
    squares = np.square(embed).sum(-1)
    longest = np.sqrt(squares.max(1))
    scales = NORM / np.maximum(longest, np.float32(1e-18))
    rounded = np.zeros((levels, count * LANES, pairs * 2), np.int16)
    rounded[:, :size, :dim] = np.rint(embed * scales[:, None, None])
    offsets = np.full((levels, count * LANES), -np.inf, np.float32)
    offsets[:, :size] = -squares / 2
    panels = np.ascontiguousarray(rounded.reshape(levels, count, LANES, pairs, 2).transpose(0, 1, 3, 2, 4))
    return panels, 1 / (scales * NORM), offsets.reshape(levels, count, LANES)
