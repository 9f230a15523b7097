"""What the codebook search reads instead of the codebooks: their entries as integers, and tables of the entries' inner products.

A path's residual is r - e1 - e2 - ... with its entries e1, e2, ... since an earlier residual r. Its inner product with an entry e is
r.e - e1.e - e2.e - ..., so one product of r serves all paths that come from r, and the rest is read from tables.

Integers are not exact, so each array comes with a bound of what it may change in a score.

- Rounding a residual and an entry moves each number by 1/2 at most, so a vector by q = sqrt(dim) / 2 at most. With vectors r and e of norms
  up to `NORM`, |(r + dr).(e + de) - r.e| <= |dr| |e| + |r| |de| + |dr| |de| <= q (2 NORM + q).
- A number of a table is off by 1/2 of a step.
- An inner product in float32 is off by at most dim 2^-24 |r| |e| (Higham, "Accuracy and Stability of Numerical Algorithms", 2002, 3.5).
  There are two between such a score and one that is all float32: the table's, and the other score. The few roundings of scaled sums and of
  residuals are of numbers that are no larger.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from streamcodec.engine.compiling import LANES
from streamcodec.engine.search_arrays import NORM, REACH, Codebooks, Floats

__all__ = ["SearchedCodebooks"]

log = logging.getLogger(__name__)


class SearchedCodebooks:
    """The codebooks `embed` [levels, size, dim] as the arrays of a search in `runs` of levels.

    The tables of a run, of each of its levels with up to `REACH` levels before, are made when the run is first searched. Each table of
    1,024 entries takes 2 MB. They are made on a thread of their own, and searches do without them until then: with the same result.
    """

    def __init__(self, embed: Floats, runs: Sequence[tuple[int, int]]) -> None:
        levels, size, dim = embed.shape
        self._runs, self._lock = runs, threading.Lock()
        self._made: dict[int, Future[None]] = {}
        self._maker = ThreadPoolExecutor(1, "streamcodec-tables")
        self._lengths = np.sqrt(np.square(embed).sum(-1).max(1))
        self._blur = (2 * dim + 32) * 2.0**-24
        panels, units, offsets = _panels(embed, self._lengths)
        q = 0.501 * dim**0.5
        errors = (q * (2 * float(NORM) + q) * units + self._blur * self._lengths).astype(np.float32)
        count, places = 0, np.zeros((levels, REACH), np.int64)
        for first, stop in runs:
            for level in range(first, stop):
                for t in range(min(REACH, level - first)):
                    places[level, t] = count
                    count += 1
        # Memory takes no room before something is written to it.
        tables, steps = np.empty((count, size, offsets.shape[1]), np.int16), np.zeros(levels, np.float32)
        slacks = np.repeat((self._blur * self._lengths**2).astype(np.float32)[:, None], REACH + 1, 1)
        self.arrays = Codebooks(embed, panels, units, offsets, errors, tables, places, steps, slacks)
        self.reaches = np.zeros(len(runs), np.int64)
        """By how many levels the tables of each run reach back: 0 before they are made."""

    def prepare(self, levels: int) -> None:
        """Begin to make the tables of the runs of the first `levels` codebooks, if that has not begun."""
        for run, (first, stop) in enumerate(self._runs):
            if first < levels and first + 1 < stop and run not in self._made:
                with self._lock:
                    if run not in self._made:
                        self._made[run] = self._maker.submit(self._make, run)

    def wait(self) -> None:
        """Wait until the tables that were begun are made."""
        for made in list(self._made.values()):
            made.result()

    def _make(self, run: int) -> None:
        first, stop = self._runs[run]
        try:
            for level in range(first + 1, stop):
                self._tabulate(level, range(level - 1, max(first, level - REACH) - 1, -1))
        except Exception:  # such as too little memory
            log.exception("the search of codebooks %d to %d goes on without its tables, more slowly", first + 1, stop)
        else:
            self.reaches[run] = REACH

    def _tabulate(self, level: int, befores: Sequence[int]) -> None:
        """Make the tables of a level with those `befores` it, the nearest one first."""
        embed, tables, steps, size = self.arrays.embed, self.arrays.tables, self.arrays.steps, self.arrays.embed.shape[1]
        products = [embed[before] @ embed[level].T for before in befores]
        # The sum of a row of each table fits into 16 bits.
        steps[level] = max(sum(float(np.abs(each).max()) for each in products) / (32_767 - REACH), 1e-30)
        longest = self._lengths[level]
        for t, (before, product) in enumerate(zip(befores, products, strict=True)):
            product /= steps[level]
            table = tables[self.arrays.places[level, t]]
            table[:, :size] = np.rint(product, out=product)
            table[:, size:] = 0
            longest += self._lengths[before]
            self.arrays.slacks[level, t + 1] = 0.501 * (t + 1) * steps[level] + self._blur * longest * self._lengths[level]


def _panels(embed: Floats, lengths: Floats) -> tuple[npt.NDArray[np.int16], Floats, Floats]:
    """Codebooks [levels, size, dim], whose longest entries have these lengths, as the panels, units and offsets of `Codebooks`."""
    levels, size, dim = embed.shape
    count, pairs = -(-size // LANES), -(-dim // 2)
    scales = NORM / np.maximum(lengths, np.float32(1e-18))
    rounded = np.zeros((levels, count * LANES, pairs * 2), np.int16)
    rounded[:, :size, :dim] = np.rint(embed * scales[:, None, None])
    offsets = np.full((levels, count * LANES), -np.inf, np.float32)
    offsets[:, :size] = -np.square(embed).sum(-1) / 2
    panels = np.ascontiguousarray(rounded.reshape(levels, count, LANES, pairs, 2).transpose(0, 1, 3, 2, 4))
    return panels, (1 / (scales * NORM)).astype(np.float32), offsets
