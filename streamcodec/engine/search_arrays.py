"""The arrays of the codebook search: what it reads, and what it works on."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from streamcodec.engine.compiling import LANES

__all__ = ["NORM", "REACH", "Codebooks", "Floats", "Numbers", "Shorts", "Workspace"]

Floats = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.int64]
Shorts = npt.NDArray[np.int16]

NORM = np.float32(32_000)
"""The Euclidean norm of rounded residuals, and of the longest rounded entry. By Cauchy and Schwarz, a sum of products fits into 32 bits."""

REACH = 2
"""By how many levels a base may lie before its path. Four paths through the embedded model have 2.5 different residuals one level before
them, 1.9 two levels before and 1.5 three levels before, but the tables of three levels are 40% more and gain 1 to 10% of the time."""


class Codebooks(NamedTuple):
    """What is searched: `levels` codebooks of `size` entries, in panels of `LANES` entries side by side."""

    embed: Floats  # [levels, size, dim]
    panels: Shorts  # [levels, panels, pairs, LANES, 2]: the same as integers
    units: Floats  # [levels]: their scales, for residuals of norm 1
    offsets: Floats  # [levels, panels * LANES]: -|e|^2 / 2 of each entry, -inf of what fills the last panel
    errors: Floats  # [levels]: by how much the products of a base of norm 1 may be off
    tables: Shorts  # [tables, size, panels * LANES]: inner products of the entries of two levels
    places: Numbers  # [levels, REACH]: the table of this level's entries with those of 1, 2, ... levels before
    steps: Floats  # [levels]: what a one is worth in the tables of this level
    slacks: Floats  # [levels, REACH + 1]: by how much the sums of 0, 1, ... rows of tables may be off


class Workspace(NamedTuple):
    """What a search of N residuals along `beam` paths works on. Compiled code allocates nothing: that would take seconds to compile.

    Path k of residual n is row n * beam + k, R = N * beam.
    """

    rows: Floats  # [REACH + 1, R, dim]: the paths' residuals at this level and at those before, by the level modulo REACH + 1
    halves: Floats  # [REACH + 1, R]: half of their squared norms
    rounded: Shorts  # [R, 2 * pairs]: the bases' residuals as integers, with a zero behind an odd dim
    units: Floats  # [R]: what a one is worth in the sums of a base's integer products
    errors: Floats  # [R]: by how much a base's products may be off
    products: Floats  # [R, panels * LANES]: the scores of the entries for each base
    bases: Numbers  # [R]: each path's base
    depths: Numbers  # [N]: by how many levels the bases of a residual's paths lie before them
    ancestors: Numbers  # [REACH + 1, beam]: the paths that one residual's paths continue
    starts: Numbers  # [R, REACH]: where in the tables the rows of a path's last entries begin
    scores: Floats  # [beam, panels * LANES]: of the continuations of one residual's paths
    peaks: Floats  # [beam, LANES]: the highest ones of each lane
    limits: Floats  # [2, beam]: by how much a path's scores may be off, and what they are at most
    candidates: Numbers  # [beam * size]: continuations that may be among the best ones, as path * size + entry
    best: Floats  # [beam]: the best scores of a level, in descending order
    picks: Numbers  # [R]: each residual's best continuations
    parents: Numbers  # [levels, R]: the path that each path continues
    entries: Numbers  # [levels, R]: by which entry

    @staticmethod
    def of(count: int, embed: Floats, beam: int) -> Workspace:
        """The work on up to `count` residuals, with codebooks [levels, size, dim]."""
        (levels, size, dim), space = embed.shape, count * beam
        width = -(-size // LANES) * LANES

        def floats(*shape: int) -> Floats:
            return np.zeros(shape, np.float32)

        def numbers(*shape: int) -> Numbers:
            return np.zeros(shape, np.int64)

        return Workspace(
            rows=floats(REACH + 1, space, dim),
            halves=floats(REACH + 1, space),
            rounded=np.zeros((space, -(-dim // 2) * 2), np.int16),
            units=floats(space),
            errors=floats(space),
            products=floats(space, width),
            bases=numbers(space),
            depths=numbers(count),
            ancestors=numbers(REACH + 1, beam),
            starts=numbers(space, REACH),
            scores=floats(beam, width),
            peaks=floats(beam, LANES),
            limits=floats(2, beam),
            candidates=numbers(beam * size),
            best=floats(beam),
            picks=numbers(space),
            parents=numbers(levels, space),
            entries=numbers(levels, space),
        )
