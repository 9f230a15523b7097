"""The codebook search as one compiled function: scores are compared in the processor's registers, and paths stay in its first cache.

numba compiles it for the processor that it runs on, and stores the result on disk. A search of few residuals spends its time on reading
codebooks, and one of many residuals on multiplications. So codebooks are stored in half precision where that is exact, each part of a
codebook is read once for all paths, and `_score_tile` multiplies by vector instructions, which numba does not make of loops like these.

Each score is summed in the order of the dimensions. So the codes of a residual do not depend on what is searched beside it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba.core import cgutils, types

from streamcodec.engine.compiling import LANES, TILE, compiled, generated

__all__ = ["Workspace", "search_paths"]

Floats = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.int64]
Panels = npt.NDArray[np.float32] | npt.NDArray[np.uint16]


class Workspace(NamedTuple):
    """What a search of N residuals along `beam` paths works on. Compiled code allocates nothing: that would take seconds to compile."""

    rows: Floats  # [2, R, dim]: the paths' residuals, those of one residual side by side, and the next level's; R fills whole tiles
    halves: Floats  # [R]: half of their squared norms
    limits: Floats  # [R]: the scores that are too low for each row
    scores: Floats  # [TILE, LANES]
    best: Floats  # [N, beam]: the best scores of a level, in descending order
    picks: Numbers  # [N, beam]: whose they are, path * size + entry
    parents: Numbers  # [levels, N, beam]: the path that each path continues
    entries: Numbers  # [levels, N, beam]: by which entry

    @staticmethod
    def on(residuals: Floats, levels: int, beam: int) -> Workspace:
        """The work on residuals [N, dim], which are copied."""
        count, dim = residuals.shape
        space = -(-count * beam // TILE) * TILE
        rows = np.zeros((2, space, dim), np.float32)
        rows[0, :count] = residuals
        halves, limits = np.empty((2, space), np.float32)
        best, picks = np.empty((count, beam), np.float32), np.empty((count, beam), np.int64)
        parents, entries = np.empty((2, levels, count, beam), np.int64)
        return Workspace(rows, halves, limits, np.empty((TILE, LANES), np.float32), best, picks, parents, entries)


@generated
def _score_tile(_: Any, rows: Any, row: Any, panels: Any, panel: Any, offsets: Any, limits: Any, scores: Any) -> Any:  # noqa: ARG001
    """Score the entries of one panel for the `TILE` rows from `row` on. Bit m of the result: row m has a score above its limit.

    A score is the inner product of a row of `rows` [R, dim] with an entry of `panels` [panels, dim, LANES], plus the entry's offset in
    `offsets` [panels, LANES]. `limits` is [R]. The scores are written to `scores` [TILE, LANES].
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        utils: Any = cgutils
        i64, i32, f32 = ir.IntType(64), ir.IntType(32), ir.FloatType()
        vector, undefined = ir.VectorType(f32, LANES), ir.Constant(ir.VectorType(f32, LANES), ir.Undefined)
        stored = ir.HalfType() if panels.dtype == types.uint16 else f32

        def array(at: int) -> Any:
            return context.make_array(signature.args[at])(context, builder, arguments[at])

        def pointer(at: int, offset: Any, number: Any = f32) -> Any:
            return builder.gep(builder.bitcast(array(at).data, number.as_pointer()), [offset])

        def load(address: Any, number: Any = f32) -> Any:
            loaded = builder.load(builder.bitcast(address, ir.VectorType(number, LANES).as_pointer()))
            loaded.align = number.get_abi_alignment(context.target_data)
            return loaded if number is f32 else builder.fpext(loaded, vector)

        def spread(address: Any) -> Any:
            first = builder.insert_element(undefined, builder.load(address), i32(0))
            return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(i32, LANES), [0] * LANES))

        first, panel, dim = arguments[1], arguments[3], builder.extract_value(array(0).shape, 1)
        row_at, entries = pointer(0, builder.mul(first, dim)), pointer(2, builder.mul(builder.mul(panel, dim), i64(LANES)), stored)
        sums = [utils.alloca_once_value(builder, load(pointer(4, builder.mul(panel, i64(LANES))))) for _ in range(TILE)]
        multiply_add = ir.FunctionType(vector, [vector] * 3)
        multiply_add = utils.get_or_insert_function(builder.module, multiply_add, f"llvm.fmuladd.v{LANES}f32")
        with utils.for_range(builder, dim) as loop:
            column = load(builder.gep(entries, [builder.mul(loop.index, i64(LANES))]), stored)
            for m, total in enumerate(sums):
                number = spread(builder.gep(row_at, [builder.add(builder.mul(dim, i64(m)), loop.index)]))
                builder.store(builder.call(multiply_add, [number, column, builder.load(total)]), total)
        above = i64(0)
        for m, total in enumerate(sums):
            score, limit = builder.load(total), spread(pointer(5, builder.add(first, i64(m))))
            builder.store(score, builder.bitcast(pointer(6, i64(m * LANES)), vector.as_pointer())).align = 4
            lanes = builder.bitcast(builder.fcmp_ordered(">", score, limit), ir.IntType(LANES))
            some = builder.icmp_unsigned("!=", lanes, ir.IntType(LANES)(0))
            above = builder.or_(above, builder.shl(builder.zext(some, i64), i64(m)))
        return above

    return types.int64(rows, types.int64, panels, types.int64, offsets, limits, scores), generate


@compiled(fastmath={"reassoc", "contract"})
def _subtract(row: Floats, entry: Floats, left: Floats) -> Any:
    """Write `row` minus `entry` to `left`, and return half of its squared norm."""
    total = np.float32(0)
    for k in range(len(row)):
        left[k] = row[k] - entry[k]
        total += left[k] * left[k]
    return total * np.float32(0.5)


@compiled()
def _insert(score: Any, pick: int, best: Floats, picks: Numbers, kept: int) -> None:
    """Insert a pick among the `kept` best ones, which are in descending order, if it is one of them."""
    at = kept
    while at and score > best[at - 1]:
        at -= 1
    for k in range(kept - 1, at, -1):
        best[k], picks[k] = best[k - 1], picks[k - 1]
    if at < kept:
        best[at], picks[at] = score, pick


@compiled()
def _find_best(rows: Floats, count: int, width: int, kept: int, size: int, panels: Panels, offsets: Floats, work: Workspace) -> None:
    """Find the `kept` best continuations of the paths of `count` residuals; each one's `width` paths are consecutive `rows` [R, dim].

    Writes `work.best` and `work.picks`.
    """
    best, picks, halves, limits, scores = work.best, work.picks, work.halves, work.limits, work.scores
    best[:count, :kept] = -np.inf
    picks[:count, :kept] = 0
    # A row's limit is the score that the last of its residual's best ones has. The rows that fill the last tile have none above theirs.
    limits[: count * width] = -np.inf
    limits[count * width :] = np.inf
    for panel in range(len(panels)):
        for tile in range(0, count * width, TILE):
            above = _score_tile(rows, tile, panels, panel, offsets, limits, scores)
            if not above:
                continue
            for row in range(tile, tile + TILE):
                if not above >> (row - tile) & 1:
                    continue
                residual, path = divmod(row, width)
                for lane in range(LANES):
                    score = scores[row - tile, lane]
                    if score > limits[row]:
                        # |r - e|^2 = |r|^2 - 2 r.e + |e|^2
                        _insert(score - halves[row], path * size + panel * LANES + lane, best[residual], picks[residual], kept)
                        for each in range(residual * width, (residual + 1) * width):
                            limits[each] = best[residual, kept - 1] + halves[each]


@compiled()
def search_paths(
    n_q: Numbers, embed: Floats, panels: Panels, offsets: Floats, stops: Numbers, beam: int, work: Workspace, codes: npt.NDArray[np.int32]
) -> None:
    """Write the codes of the residuals in `work` to `codes` [N, levels]: each residual is searched in all runs of which it uses a level.

    - `n_q` [N]: how many levels each residual uses, in descending order.
    - `embed` [levels, size, dim]: the codebooks; `panels` [levels, panels, dim, LANES]: the same, `LANES` entries side by side, as float32
      or as the bits of halves; `offsets` [levels, panels, LANES]: -|e|^2 / 2 of each entry, -inf of what fills the last panel.
    - `stops`: the ends of the runs of levels. In each run, the `beam` best paths are followed.
    """
    rows, left = work.rows[0], work.rows[1]
    picks, halves, parents, entries = work.picks, work.halves, work.parents, work.entries
    count, size = len(n_q), embed.shape[1]
    one: Any = np.int64(1)  # a literal would be a type of its own, and be compiled for
    first = 0
    for stop in stops:
        while count and n_q[count - 1] <= first:
            count -= 1
        width = one
        halves[:count] = 0.0  # where there is one path, its norm makes no difference
        for level in range(first, stop):
            kept = one if level == stop - 1 else min(beam, width * size)
            _find_best(rows, count, width, kept, size, panels[level], offsets[level], work)
            for residual in range(count):
                for k in range(kept):
                    parent, entry = divmod(picks[residual, k], size)
                    parents[level, residual, k], entries[level, residual, k] = parent, entry
                    row = residual * kept + k
                    halves[row] = _subtract(rows[residual * width + parent], embed[level, entry], left[row])
            rows, left, width = left, rows, kept
        for residual in range(count):
            path: Any = np.int64(0)
            for level in range(stop - 1, first - 1, -1):
                codes[residual, level] = entries[level, residual, path]
                path = parents[level, residual, path]
        first = stop
