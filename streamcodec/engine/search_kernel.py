"""The codebook search as one compiled function: 16-bit integers say which entries may be the nearest ones, and float32 decides among them.

numba compiles it for the processor that it runs on, and stores the result on disk. A search of few residuals spends its time on reading
codebooks, and one of many residuals on multiplications; integers of 16 bits halve both. So

- residuals and entries are rounded to integers, each residual and each codebook by a scale of its own;
- the paths of a residual share their products: the residual of a path is that of an earlier path, its base, minus the entries since then,
  and the inner products of two codebooks' entries are in tables (`search_codebooks`). So only bases are multiplied with a codebook;
- what may be among the best, by a bound of all that rounding may change, is scored again in float32: a handful of a thousand.

The codes of a residual do not depend on what is searched beside it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from streamcodec.engine.compiling import LANES, TILE, compiled
from streamcodec.engine.search_arrays import NORM, REACH, Codebooks, Floats, Numbers, Shorts, Workspace
from streamcodec.engine.search_vectors import above, multiply_1, multiply_2, multiply_4, multiply_tile, prefetch, scoring

__all__ = ["search_paths"]

_ROUNDING = np.float32(4 * 2.0**-24)
"""What float32 may add to a score, as a part of half of the squared norm that it is lowered by."""


# No view of an array is made in a loop: its references are counted by atomic instructions, which cost as much as a short inner product.
# So functions take arrays with an index.


@compiled(fastmath={"reassoc", "contract"})
def _inner_product(a: Floats, i: int, j: int, b: Floats, k: int, m: int) -> Any:
    """Multiply the rows a[i, j] and b[k, m]."""
    total = np.float32(0)
    for at in range(a.shape[2]):
        total += a[i, j, at] * b[k, m, at]
    return total


@compiled()
def _round(rows: Floats, slot: int, row: int, norm: Any, rounded: Shorts, base: int) -> Any:
    """Round a residual of norm `norm` to a base, if it has a scale, and return whether it has: zeros have none, nor what is no number."""
    if np.float32(1e-18) < norm < np.float32(1e18):
        scale = NORM / norm
        for k in range(rows.shape[2]):
            rounded[base, k] = np.int32(np.rint(rows[slot, row, k] * scale))
        return True
    for k in range(rows.shape[2]):
        rounded[base, k] = 0
    return False


@compiled()
def _find_bases(level: int, reach: int, count: int, width: int, beam: int, books: Codebooks, work: Workspace) -> Any:
    """Find the bases of all paths, and return how many there are: as few as `reach` levels allow, and as late as they are that few."""
    rows, halves, rounded, units, errors, bases, depths = (
        work.rows,
        work.halves,
        work.rounded,
        work.units,
        work.errors,
        work.bases,
        work.depths,
    )
    ancestors, parents, entries, starts, places, tables = (
        work.ancestors,
        work.parents,
        work.entries,
        work.starts,
        books.places,
        books.tables,
    )
    unit, error, size, length = books.units[level], books.errors[level], books.tables.shape[1], books.tables.shape[2]
    found: Any = np.int64(0)
    for residual in range(count):
        first = residual * beam
        fewest, depth = width, 0
        for k in range(width):
            ancestors[0, k] = k
        for t in range(reach if width > 1 else 0):
            different = width
            for k in range(width):
                row = first + ancestors[t, k]
                ancestors[t + 1, k] = parents[level - 1 - t, row]
                starts[first + k, t] = (places[level, t] * size + entries[level - 1 - t, row]) * length
                for other in range(k):
                    if ancestors[t + 1, other] == ancestors[t + 1, k]:
                        different -= 1
                        break
            if different < fewest:
                fewest, depth = different, t + 1
        depths[residual] = depth
        slot = (level - depth) % (REACH + 1)
        for k in range(width):
            for t in range(depth):
                prefetch(tables, starts[first + k, t], length)
            base = found
            for other in range(k):
                if ancestors[depth, other] == ancestors[depth, k]:
                    base = bases[first + other]
                    break
            bases[first + k] = base
            if base == found:
                row = first + ancestors[depth, k]
                norm = np.sqrt(halves[slot, row] + halves[slot, row])
                units[base] = norm * unit
                # All products of a residual that is not rounded are zero. They are at most what NORM^2 units are.
                errors[base] = norm * (error if _round(rows, slot, row, norm, rounded, base) else error + NORM * NORM * unit)
                found += 1
    return found


@compiled()
def _multiply(level: int, count: int, books: Codebooks, work: Workspace) -> None:
    """Multiply `count` bases with a codebook: `work.products`."""
    rounded, units, products, panels, offsets = work.rounded, work.units, work.products, books.panels[level], books.offsets[level]
    for panel in range(len(panels)):
        row: Any = np.int64(0)
        while row + TILE <= count:
            multiply_tile(rounded, row, panels, panel, units, offsets, products)
            row += TILE
        if row + 4 <= count:
            multiply_4(rounded, row, panels, panel, units, offsets, products)
            row += 4
        if row + 2 <= count:
            multiply_2(rounded, row, panels, panel, units, offsets, products)
            row += 2
        if row < count:
            multiply_1(rounded, row, panels, panel, units, offsets, products)


_score_0, _score_1, _score_2 = (scoring(depth) for depth in range(REACH + 1))


@compiled()
def _insert(score: Any, pick: int, best: Floats, picks: Numbers, first: int, kept: int) -> None:
    """Insert a pick that is among the `kept` best ones, which are in descending order from `picks[first]` on."""
    at = kept - 1
    while at and score > best[at - 1]:
        best[at], picks[first + at] = best[at - 1], picks[first + at - 1]
        at -= 1
    best[at], picks[first + at] = score, pick


@compiled()
def _find_best(level: int, count: int, width: int, kept: int, beam: int, books: Codebooks, work: Workspace) -> None:
    """Find the `kept` best continuations of each residual's paths: `work.picks`."""
    embed, offsets, tables, step, slacks = books.embed, books.offsets, books.tables, books.steps[level], books.slacks
    rows, halves, products, bases, errors, starts = work.rows, work.halves, work.products, work.bases, work.errors, work.starts
    scores, peaks, limits, candidates, best, picks = work.scores, work.peaks, work.limits, work.candidates, work.best, work.picks
    dim: Any = embed.shape[2]
    size, panels, slot = embed.shape[1], products.shape[1] // LANES, level % (REACH + 1)
    for residual in range(count):
        first, depth = residual * beam, work.depths[residual]
        # `best` becomes what the best scores are at least: the peaks are scores of that many continuations.
        for k in range(kept):
            best[k] = -np.inf
        for k in range(width):
            path = first + k
            base = bases[path]
            # |r - e|^2 = |r|^2 - 2 r.e + |e|^2; where there is one path, |r|^2 makes no difference.
            shift = halves[slot, path] if width > 1 else np.float32(0)
            if depth == 0:
                _score_0(products, base, tables, starts, path, step, shift, scores, k, peaks)
            elif depth == 1:
                _score_1(products, base, tables, starts, path, step, shift, scores, k, peaks)
            else:
                _score_2(products, base, tables, starts, path, step, shift, scores, k, peaks)
            error = errors[base] + slacks[level, depth] + _ROUNDING * shift
            highest = np.float32(-np.inf)
            for lane in range(LANES):
                peak = peaks[k, lane]
                if peak > highest:
                    highest = peak
                if peak - error > best[kept - 1]:
                    _insert(peak - error, 0, best, picks, first, kept)
            limits[0, k], limits[1, k] = error, highest
        least, found = best[kept - 1], 0
        for k in range(width):
            limit = least - limits[0, k]
            if limits[1, k] > limit:
                for panel in range(panels):
                    lanes = above(scores, k, panel, limit)
                    pick = k * size + panel * LANES
                    while lanes:
                        if lanes & 1:
                            candidates[found] = pick
                            prefetch(embed, (level * size + pick - k * size) * dim, dim)
                            found += 1
                        lanes >>= 1
                        pick += 1
        for k in range(kept):
            best[k], picks[first + k] = -np.inf, 0
        for k in range(found):
            pick = candidates[k]
            path = pick // size
            entry, row = pick - path * size, first + path
            score = _inner_product(rows, slot, row, embed, level, entry) + offsets[level, entry]
            if width > 1:
                score -= halves[slot, row]
            if score > best[kept - 1]:
                _insert(score, pick, best, picks, first, kept)


@compiled()
def _continue(level: int, count: int, kept: int, beam: int, books: Codebooks, work: Workspace) -> None:
    """Continue each residual's paths by its `kept` picks."""
    rows, halves, picks, parents, entries, embed, size = (
        work.rows,
        work.halves,
        work.picks,
        work.parents,
        work.entries,
        books.embed,
        books.embed.shape[1],
    )
    here, there = level % (REACH + 1), (level + 1) % (REACH + 1)
    for residual in range(count):
        for row in range(residual * beam, residual * beam + kept):
            parent = picks[row] // size
            entry, before = picks[row] - parent * size, residual * beam + parent
            parents[level, row], entries[level, row] = parent, entry
            for at in range(rows.shape[2]):
                rows[there, row, at] = rows[here, before, at] - embed[level, entry, at]
            halves[there, row] = np.float32(0.5) * _inner_product(rows, there, row, rows, there, row)


@compiled()
def search_paths(
    residuals: Floats, n_q: Numbers, stops: Numbers, reaches: Numbers, beam: int, books: Any, work: Any, codes: npt.NDArray[np.int32]
) -> None:
    """Write the codes of residuals [N, dim] to `codes` [N, levels]: each residual is searched in all runs of which it uses a level.

    - `n_q` [N]: how many levels each residual uses, in descending order.
    - `stops`: the ends of the runs of levels. In each run, the `beam` best paths are followed.
    - `reaches`: by how many levels the bases of each run's paths may lie before them, up to `REACH`: 0 for a run that has no tables.
    - `books` and `work`: the arrays of `Codebooks` and of a `Workspace` for N residuals or more, as tuples, which numba takes much faster.
    """
    books, work = Codebooks(*books), Workspace(*work)
    rows, halves = work.rows, work.halves
    count, size = len(n_q), books.embed.shape[1]
    one: Any = np.int64(1)  # a literal would be a type of its own, and be compiled for
    for residual in range(count):
        row = residual * beam
        for at in range(residuals.shape[1]):
            rows[0, row, at] = residuals[residual, at]
        halves[0, row] = np.float32(0.5) * _inner_product(rows, 0, row, rows, 0, row)
    first: Any = np.int64(0)
    for run in range(len(stops)):
        stop = stops[run]
        while count and n_q[count - 1] <= first:
            count -= 1
        width = one
        for level in range(first, stop):
            kept = one if level == stop - 1 else min(beam, width * size)
            bases = _find_bases(level, min(reaches[run], level - first), count, width, beam, books, work)
            _multiply(level, bases, books, work)
            _find_best(level, count, width, kept, beam, books, work)
            _continue(level, count, kept, beam, books, work)
            width = kept
        for residual in range(count):
            path: Any = np.int64(0)
            for level in range(stop - 1, first - 1, -1):
                codes[residual, level] = work.entries[level, residual * beam + path]
                path = work.parents[level, residual * beam + path]
        first = stop
