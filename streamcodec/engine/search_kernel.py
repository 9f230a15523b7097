"""The codebook search as one compiled function: 16-bit integers say which entries may be the nearest ones, and float32 decides among them.

numba compiles it for the processor that it runs on, and stores the result on disk. A search of few residuals spends its time on reading
codebooks, and one of many residuals on multiplications; integers of 16 bits halve both. So

- residuals and entries are rounded to integers, each residual and each codebook by a scale of its own;
- `_score_tile` multiplies them by vector instructions, which numba does not make of such loops, and compares the scores in registers;
- what may be among the best, by an exact bound of the rounding's error (`_margin`), is scored again in float32: a handful of a thousand.

The codes of a residual do not depend on what is searched beside it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba.core import cgutils, types

from streamcodec.engine.compiling import LANES, compiled, generated

__all__ = ["NORM", "Workspace", "search_paths"]

Floats = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.int64]
Shorts = npt.NDArray[np.int16]

_TILE = 4
"""The rows that are multiplied at once: as many as four paths need, and their sums fit into the registers."""

NORM = np.float32(32_000)
"""The Euclidean norm of rounded residuals, and of the longest rounded entry. By Cauchy and Schwarz, a sum of products fits into 32 bits."""


class Workspace(NamedTuple):
    """What a search of N residuals along `beam` paths works on. Compiled code allocates nothing: that would take seconds to compile."""

    rows: Floats  # [2, R, dim]: the paths' residuals, those of one residual side by side, and the next level's; R fills whole tiles
    rounded: Shorts  # [R, 2 * pairs]: the same as integers, with a zero behind an odd dim
    halves: Floats  # [R]: half of their squared norms
    shifts: Floats  # [R]: what the scores of a row's continuations are lowered by, so that those of several paths compare
    units: Floats  # [R]: what a one is worth in the sums of a row's integer products
    limits: Floats  # [R]: the scores that are too low for each row
    scores: Floats  # [_TILE, LANES]
    found: Numbers  # [N]: how many candidates there are
    candidates: Numbers  # [N, beam * size]: continuations that may be among the best ones, as path * size + entry
    bounds: Floats  # [N, beam * size]: what their scores are at most
    best: Floats  # [N, beam]: the best scores of a level, in descending order
    picks: Numbers  # [N, beam]: whose they are
    parents: Numbers  # [levels, N, beam]: the path that each path continues
    entries: Numbers  # [levels, N, beam]: by which entry

    @staticmethod
    def on(residuals: Floats, embed: Floats, beam: int) -> Workspace:
        """The work on residuals [N, dim], which are copied, with codebooks [levels, size, dim]."""
        count, (levels, size, dim) = len(residuals), embed.shape
        space = -(-count * beam // _TILE) * _TILE
        rows = np.zeros((2, space, dim), np.float32)
        rows[0, :count] = residuals
        rounded = np.zeros((space, -(-dim // 2) * 2), np.int16)
        halves, shifts, units, limits = np.empty((4, space), np.float32)
        scores, found = np.empty((_TILE, LANES), np.float32), np.empty(count, np.int64)
        candidates, bounds = np.empty((count, beam * size), np.int64), np.empty((count, beam * size), np.float32)
        best, picks = np.empty((count, beam), np.float32), np.empty((count, beam), np.int64)
        parents, entries = np.empty((2, levels, count, beam), np.int64)
        return Workspace(rows, rounded, halves, shifts, units, limits, scores, found, candidates, bounds, best, picks, parents, entries)


@generated
def _score_tile(
    _: Any,
    rounded: Any,
    row: Any,  # noqa: ARG001 - a name for the docstring; `generate` gets the arguments
    panels: Any,
    panel: Any,  # noqa: ARG001
    units: Any,
    offsets: Any,
    limits: Any,
    scores: Any,
) -> Any:
    """Score the entries of one panel for the `_TILE` rows from `row` on. Bit m of the result: row m has a score above its limit.

    A score is the inner product of a row of `rounded` [R, 2 * pairs] with an entry of `panels` [panels, pairs, LANES, 2], times the row's
    unit in `units` [R], plus the entry's offset in `offsets` [panels, LANES]. `limits` is [R]. The scores are written to `scores`.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        utils: Any = cgutils
        i64, i32, i16, f32 = ir.IntType(64), ir.IntType(32), ir.IntType(16), ir.FloatType()
        sums, floats = ir.VectorType(i32, LANES), ir.VectorType(f32, LANES)
        shorts, products = ir.VectorType(i16, 2 * LANES), ir.VectorType(i32, 2 * LANES)

        def array(at: int) -> Any:
            return context.make_array(signature.args[at])(context, builder, arguments[at])

        def pointer(at: int, offset: Any, number: Any) -> Any:
            return builder.gep(builder.bitcast(array(at).data, number.as_pointer()), [offset])

        def load(address: Any, vector: Any) -> Any:
            loaded = builder.load(builder.bitcast(address, vector.as_pointer()))
            loaded.align = vector.element.get_abi_alignment(context.target_data)
            return loaded

        def spread(address: Any, vector: Any) -> Any:
            """A vector of copies of the number at `address`."""
            nothing = ir.Constant(vector, ir.Undefined)
            first = builder.insert_element(nothing, builder.load(address), i32(0))
            return builder.shuffle_vector(first, nothing, ir.Constant(sums, [0] * LANES))

        def every_other(vector: Any, start: int) -> Any:
            return builder.shuffle_vector(vector, vector, ir.Constant(sums, list(range(start, 2 * LANES, 2))))

        first, panel, pairs = arguments[1], arguments[3], builder.extract_value(array(2).shape, 1)
        row_at = pointer(0, builder.mul(first, pairs), i32)  # two integers of 16 bits at once
        entries = pointer(2, builder.mul(builder.mul(panel, pairs), i64(2 * LANES)), i16)
        totals = [utils.alloca_once_value(builder, ir.Constant(sums, [0] * LANES)) for _ in range(_TILE)]
        with utils.for_range(builder, pairs) as loop:
            column = builder.sext(load(builder.gep(entries, [builder.mul(loop.index, i64(2 * LANES))]), shorts), products)
            for m, total in enumerate(totals):
                pair = spread(builder.gep(row_at, [builder.add(builder.mul(pairs, i64(m)), loop.index)]), sums)
                # Processors have one instruction for this: multiply, and add what is side by side.
                product = builder.mul(builder.sext(builder.bitcast(pair, shorts), products), column, flags=("nsw",))
                both = builder.add(every_other(product, 0), every_other(product, 1))
                builder.store(builder.add(builder.load(total), both), total)
        offset, above = load(pointer(5, builder.mul(panel, i64(LANES)), f32), floats), i64(0)
        for m, total in enumerate(totals):
            at = builder.add(first, i64(m))
            scaled = builder.fmul(builder.sitofp(builder.load(total), floats), spread(pointer(4, at, f32), floats))
            score = builder.fadd(scaled, offset)
            builder.store(score, builder.bitcast(pointer(7, i64(m * LANES), f32), floats.as_pointer())).align = 4
            lanes = builder.bitcast(builder.fcmp_ordered(">", score, spread(pointer(6, at, f32), floats)), ir.IntType(LANES))
            some = builder.icmp_unsigned("!=", lanes, ir.IntType(LANES)(0))
            above = builder.or_(above, builder.shl(builder.zext(some, i64), i64(m)))
        return above

    return types.int64(rounded, types.int64, panels, types.int64, units, offsets, limits, scores), generate


@compiled()
def _margin(dim: int) -> Any:
    """By how many units an integer score may be off.

    Rounding moves each number by 1/2 at most, so a vector by q = sqrt(dim) / 2 at most. With vectors r and e of norms up to `NORM`,
    |(r + dr).(e + de) - r.e| <= |dr| |e| + |r| |de| + |dr| |de| <= q (2 NORM + q). What float32 adds is less than what is added here.
    """
    q = np.float32(0.51) * np.sqrt(np.float32(dim))
    return q * (NORM + NORM + q) + np.float32(1024)


# These functions take arrays with an index: a view of an array costs as much as they do.


@compiled(fastmath={"reassoc", "contract"})
def _inner_product(a: Floats, i: int, b: Floats, j: int) -> Any:
    """Multiply row i of `a` with row j of `b`."""
    total = np.float32(0)
    for k in range(a.shape[1]):
        total += a[i, k] * b[j, k]
    return total


@compiled()
def _round(rows: Floats, row: int, work: Workspace) -> None:
    """Write `work.rounded` and `work.halves` of a row."""
    half = np.float32(0.5) * _inner_product(rows, row, rows, row)
    norm = np.sqrt(half + half)
    work.halves[row] = half
    if np.float32(1e-18) < norm < np.float32(1e18):
        scale = NORM / norm
        for k in range(rows.shape[1]):
            work.rounded[row, k] = np.int32(np.rint(rows[row, k] * scale))
    else:  # zeros have no scale, and what is no number is no integer
        work.rounded[row] = 0


@compiled()
def _insert(score: Any, pick: int, best: Floats, picks: Numbers, residual: int, kept: int) -> None:
    """Insert a pick among the `kept` best ones of a residual, which are in descending order, if it is one of them."""
    at = kept
    while at and score > best[residual, at - 1]:
        at -= 1
    for k in range(kept - 1, at, -1):
        best[residual, k], picks[residual, k] = best[residual, k - 1], picks[residual, k - 1]
    if at < kept:
        best[residual, at], picks[residual, at] = score, pick


@compiled()
def _find_candidates(count: int, width: int, kept: int, size: int, margin: Any, panels: Shorts, offsets: Floats, work: Workspace) -> None:
    """Find the continuations of each residual's `width` paths that may be among the `kept` best ones: `work.candidates`, `work.bounds`.

    A score may be off by `margin` units.
    """
    found, candidates, bounds, best, picks = work.found, work.candidates, work.bounds, work.best, work.picks
    shifts, units, limits, scores = work.shifts, work.units, work.limits, work.scores
    found[:count] = 0
    # `best` are what the best scores are at least. A row's limit is what cannot reach the last of them any more; the rows that fill the
    # last tile reach nothing.
    best[:count, :kept] = -np.inf
    limits[: count * width] = -np.inf
    limits[count * width :] = np.inf
    for panel in range(len(panels)):
        for tile in range(0, count * width, _TILE):
            above = _score_tile(work.rounded, tile, panels, panel, units, offsets, limits, scores)
            if not above:
                continue
            for row in range(tile, tile + _TILE):
                if not above >> (row - tile) & 1:
                    continue
                residual, path = divmod(row, width)
                error = margin * units[row]
                for lane in range(LANES):
                    if scores[row - tile, lane] > limits[row]:
                        score, pick = scores[row - tile, lane] - shifts[row], path * size + panel * LANES + lane
                        candidates[residual, found[residual]], bounds[residual, found[residual]] = pick, score + error
                        found[residual] += 1
                        _insert(score - error, pick, best, picks, residual, kept)
                        for each in range(residual * width, (residual + 1) * width):
                            limits[each] = best[residual, kept - 1] + shifts[each] - margin * units[each]


@compiled()
def _find_best(
    rows: Floats, count: int, width: int, kept: int, embed: Floats, panels: Shorts, unit: Any, offsets: Floats, work: Workspace
) -> None:
    """Find the `kept` best continuations of the paths of `count` residuals: `work.picks`.

    Each residual's `width` paths are consecutive `rows` [R, dim].
    """
    candidates, bounds, best, picks, shifts = work.candidates, work.bounds, work.best, work.picks, work.shifts
    size, dim = embed.shape
    for row in range(count * width):
        work.units[row] = np.sqrt(work.halves[row] + work.halves[row]) * unit
        # |r - e|^2 = |r|^2 - 2 r.e + |e|^2; where there is one path, |r|^2 makes no difference.
        shifts[row] = work.halves[row] if width > 1 else np.float32(0)
    _find_candidates(count, width, kept, size, _margin(dim), panels, offsets, work)
    for residual in range(count):
        least = best[residual, kept - 1]
        best[residual, :kept] = -np.inf
        picks[residual, :kept] = 0
        for k in range(work.found[residual]):
            if bounds[residual, k] >= least:
                path, entry = divmod(candidates[residual, k], size)
                row = residual * width + path
                score = _inner_product(rows, row, embed, entry) + offsets[entry // LANES, entry % LANES] - shifts[row]
                _insert(score, candidates[residual, k], best, picks, residual, kept)


@compiled()
def search_paths(
    n_q: Numbers,
    embed: Floats,
    panels: Shorts,
    units: Floats,
    offsets: Floats,
    stops: Numbers,
    beam: int,
    work: Workspace,
    codes: npt.NDArray[np.int32],
) -> None:
    """Write the codes of the residuals in `work` to `codes` [N, levels]: each residual is searched in all runs of which it uses a level.

    - `n_q` [N]: how many levels each residual uses, in descending order.
    - `embed` [levels, size, dim]: the codebooks; `panels` [levels, panels, pairs, LANES, 2]: the same as integers, `LANES` entries side by
      side; `units` [levels]: their scales, for residuals of norm 1.
    - `offsets` [levels, panels, LANES]: -|e|^2 / 2 of each entry, -inf of what fills the last panel.
    - `stops`: the ends of the runs of levels. In each run, the `beam` best paths are followed.
    """
    rows, left = work.rows[0], work.rows[1]
    picks, parents, entries = work.picks, work.parents, work.entries
    count, size = len(n_q), embed.shape[1]
    one: Any = np.int64(1)  # a literal would be a type of its own, and be compiled for
    for residual in range(count):
        _round(rows, residual, work)
    first = 0
    for stop in stops:
        while count and n_q[count - 1] <= first:
            count -= 1
        width = one
        for level in range(first, stop):
            kept = one if level == stop - 1 else min(beam, width * size)
            _find_best(rows, count, width, kept, embed[level], panels[level], units[level], offsets[level], work)
            for residual in range(count):
                for k in range(kept):
                    parent, entry = divmod(picks[residual, k], size)
                    parents[level, residual, k], entries[level, residual, k] = parent, entry
                    row = residual * kept + k
                    for at in range(rows.shape[1]):
                        left[row, at] = rows[residual * width + parent, at] - embed[level, entry, at]
                    _round(left, row, work)
            rows, left, width = left, rows, kept
        for residual in range(count):
            path: Any = np.int64(0)
            for level in range(stop - 1, first - 1, -1):
                codes[residual, level] = entries[level, residual, path]
                path = parents[level, residual, path]
        first = stop
