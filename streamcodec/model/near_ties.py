"""The rule of parity: where two encodings of one stream differ, float64 must show that float32 could not tell their entries apart.

There is no rate and no allowance: each entry that differs is proved, and so is each one behind it in its frame.

**The tolerance.** A search compares paths through the codebooks by d(a) = |z - a|^2, z the latent and a the sum of the path's entries.
In float64 both are known; a float32 encoder errs in two ways.

- Its latent is z + e. That moves d(a) - d(b) by 2 e.(b - a), at most 2 |e| |a - b| (Cauchy and Schwarz). How large |e| gets depends on the
  weights: 30 units in the last place of |z| in random models, up to 700 in a trained one, whose latents are small differences of large
  activations. So it is measured: the float32 module runs on the same samples, and |e| is taken as `ROOM` times the largest distance
  between its latents and float64's in this stream. Engines that sum in other orders erred up to 1.7 times as much, and the worst
  direction between two entries took 0.7 of |e|.
- Its distances are sums of dim products. Such a sum is off by at most `SPREAD` sqrt(dim) u times the sum of the magnitudes, u = 2^-24:
  rounding errors are as good as independent (Higham and Mary, "A new approach to probabilistic rounding error analysis", 2019). For a
  residual r and an entry x, |r|^2 - 2 r.x + |x|^2 is off by at most that times (|r| + |x|)^2. Each subtraction of an entry rounds the
  residual by at most u |r|, which is less.

Two paths whose distances differ by less than both together are a near-tie.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from streamcodec.config import Start
from streamcodec.errors import CodesError
from streamcodec.model.encodec import EncodecModel
from streamcodec.model.quantizer import ResidualVQ

__all__ = ["ROOM", "SPREAD", "Comparison", "Difference", "NearTies", "StreamTruth", "resolutions"]

ROOM = 2.0
SPREAD = 4.0
_UNIT = 2.0**-24
_CHUNK_FRAMES = 300
_MOST_BEAMS = 1024

Path = tuple[int, ...]
_Beam = tuple[dict[Path, Tensor], float]  # what each path leaves, and the largest part of a tolerance that led there


@dataclass(frozen=True)
class Difference:
    """An entry that differs from another one in its place, with the squared distances of both in float64.

    Where several paths are followed, the distances are those of the whole paths through the run of codebooks. `tolerance` is how far
    float32 may be off between them. `share` is the part of its tolerance that the deciding near-tie takes, None where no near-tie leads
    to the entry. Frames and levels count from 0.
    """

    frame: int
    level: int
    entry: int
    other: int
    distance: float
    other_distance: float
    tolerance: float
    share: float | None = None

    def __str__(self) -> str:
        told = (
            f"frame {self.frame}, level {self.level}: entry {self.entry} at a squared distance of {self.distance:.9g}, entry {self.other} "
            f"at {self.other_distance:.9g}"
        )
        if self.share is None:
            return f"{told}; they differ by {abs(self.distance - self.other_distance):.2e}, float32 is off by {self.tolerance:.2e} at most"
        return f"{told}; the near-tie takes {100 * self.share:.1f}% of its tolerance"


@dataclass(frozen=True)
class Comparison:
    """Codes against expected codes: how many entries there are and differ, the near-ties proved, and what is none of them."""

    entries: int
    differing: int
    near_ties: tuple[Difference, ...] = ()
    wrong: tuple[Difference, ...] = ()

    def __bool__(self) -> bool:
        """Whether every entry that differs is proved."""
        return not self.wrong

    def __str__(self) -> str:
        if self.wrong:
            more = f"; so do {len(self.wrong) - 1} more frames" if len(self.wrong) > 1 else ""
            return f"{self.differing} of {self.entries} entries differ, and not by a near-tie: {self.wrong[0]}{more}"
        return f"{self.differing} of {self.entries} entries differ, behind {len(self.near_ties)} near-ties"


class NearTies:
    """Compares codes that `model` gives in float32; float64 runs only where they differ."""

    def __init__(self, model: EncodecModel) -> None:
        self.model = copy.deepcopy(model).float().cpu().eval().requires_grad_(False)

    @cached_property
    def model64(self) -> EncodecModel:
        """The same model in float64."""
        return copy.deepcopy(self.model).double()

    def stream(self, samples: npt.NDArray[np.float32], start: Start = "exact") -> StreamTruth:
        """What is true of a stream of samples [T] at the model's rate; of a chunk [C, T], for a model that does not stream."""
        return StreamTruth(self, samples, start)

    def compare(
        self, codes: npt.NDArray[Any], expected: npt.NDArray[Any], samples: npt.NDArray[np.float32], start: Start = "exact"
    ) -> Comparison:
        """Compare codes [n_q, F] with expected ones, both of the stream of samples [T] from its start; see `StreamTruth.compare`."""
        return self.stream(samples, start).compare(codes, expected)


class StreamTruth:
    """The latents of one stream in float64; made by `NearTies.stream`, computed as far as a comparison needs them, and kept."""

    def __init__(self, rule: NearTies, samples: npt.NDArray[np.float32], start: Start) -> None:
        self._rule = rule
        self._samples = samples
        self._start = start
        self._latents = torch.empty(0, rule.model.config.codebook_dim, dtype=torch.float64)
        self._error = 0.0

    def compare(self, codes: npt.NDArray[Any], expected: npt.NDArray[Any]) -> Comparison:
        """Compare codes [n_q, F] with expected ones: each frame that differs must be on both sides what the search may give in float32.

        Raises `CodesError` where shapes or entries are none of this stream's.
        """
        codes, expected = np.asarray(codes), np.asarray(expected)
        self._check(codes, expected)
        differ = codes != expected
        frames = np.flatnonzero(differ.any(axis=0))
        if not frames.size:
            return Comparison(codes.size, 0)
        latents, error = self._latents_of(int(frames[-1]) + 1)
        found = []
        for frame in map(int, frames):
            sides = tuple(codes[:, frame].tolist()), tuple(expected[:, frame].tolist())
            found.append(_judge(self._rule.model64.quantizer, frame, latents[frame], error, *sides))
        near_ties, wrong = (tuple(one for one in found if (one.share is None) == bad) for bad in (False, True))
        return Comparison(codes.size, int(differ.sum()), near_ties, wrong)

    def _check(self, codes: npt.NDArray[Any], expected: npt.NDArray[Any]) -> None:
        config = self._rule.model.config
        most = math.ceil(self._samples.shape[-1] / config.hop_length)
        if codes.shape != expected.shape or codes.ndim != 2 or len(codes) > config.num_quantizers or codes.shape[1] > most:
            raise CodesError(
                f"codes {list(codes.shape)} and expected codes {list(expected.shape)}: expected one shape, [n_q, frames], of at most "
                f"{config.num_quantizers} codebooks and {most} frames"
            )
        for name, side in (("codes", codes), ("expected codes", expected)):
            if side.size and not 0 <= side.min() <= side.max() < config.codebook_size:
                raise CodesError(f"{name} range from {side.min()} to {side.max()}, expected 0 to {config.codebook_size - 1}")

    def _latents_of(self, frames: int) -> tuple[Tensor, float]:
        """The latents [frames or more, dim] in float64, and how far those of float32 may be from them."""
        if len(self._latents) < frames:
            self._latents = self._encode(self._rule.model64, frames)
            apart = self._encode(self._rule.model, frames).double() - self._latents
            self._error = ROOM * float(apart.norm(dim=1).max())
        return self._latents, self._error

    def _encode(self, model: EncodecModel, frames: int) -> Tensor:
        hop, rate = model.config.hop_length, model.config.sampling_rate
        if model.config.granularity != "frames":
            with torch.inference_mode():
                chunk = torch.from_numpy(np.atleast_2d(self._samples)).to(model.quantizer.embed.dtype)
                latents: Tensor = model.encoder(chunk[None], None, final=True)[0]
            return latents[0].t()
        lead = -(-rate // hop) if self._start == "primed" else 0
        samples = torch.from_numpy(np.concatenate([np.zeros(lead * hop, np.float32), self._samples])).to(model.quantizer.embed.dtype)
        # Nothing behind a frame changes it, except in an opening that looks ahead.
        wanted = max(lead + frames, model.encoder_start_frames) * hop
        final, samples = wanted >= len(samples), samples[:wanted]
        size = max(_CHUNK_FRAMES, model.encoder_start_frames) * hop
        parts, state = [], None
        with torch.inference_mode():
            for at in range(0, len(samples), size):
                chunk = samples[None, None, at : at + size]
                latents, state = model.encoder(chunk, state, final and at + size >= len(samples))
                parts.append(latents[0].t())
        return torch.cat(parts)[lead:]


def _judge(quantizer: ResidualVQ, frame: int, latent: Tensor, error: float, found: Path, expected: Path) -> Difference:
    """The near-tie that decides a frame whose entries differ, or the first entry of either side that no near-tie leads to."""
    decided: Difference | None = None
    sides = [(latent, found), (latent, expected)]
    for first, stop in quantizer.runs:
        embed, paths = quantizer.embed[first:stop], [path[first:stop] for _, path in sides]
        if decided is not None or paths[0] != paths[1]:
            shares = []
            for (residual, _), path in zip(sides, paths, strict=True):
                possible = resolutions(residual, embed, quantizer.beam, error)
                leading = [share for other, share in possible.items() if other[: len(path)] == path]
                if not leading:
                    nearest = max(possible, key=lambda other, path=path: _common(other, path))  # type: ignore[misc]
                    return _difference(quantizer, (first, stop), frame, residual, error, path, nearest, None)
                shares.append(min(leading))
            if decided is None:
                decided = _difference(quantizer, (first, stop), frame, sides[0][0], error, paths[0], paths[1], max(shares))
        sides = [(residual - _sum(embed, path), whole) for (residual, whole), path in zip(sides, paths, strict=True)]
        if stop >= len(found):
            break
    assert decided is not None, "the frame differs"
    return decided


def resolutions(residual: Tensor, embed: Tensor, beam: int, error: float) -> dict[Path, float]:
    """Each path that `quantizer.search` may take from residual [dim] through `embed` [levels, size, dim], whichever way near-ties fall.

    With it comes the largest part of a tolerance that a near-tie takes on the way: 0 for float64's own path, at most 1. `residual` and
    `embed` are float64; `error` is how far the residual may be off. Raises `CodesError` where over a thousand sets of paths would have to
    be followed: no codebooks that tell their entries apart have so many near-ties in one place.
    """
    beams: list[_Beam] = [({(): residual}, 0.0)]
    for level, entries in enumerate(embed):
        kept = 1 if level == len(embed) - 1 else beam
        following: dict[frozenset[Path], _Beam] = {}
        for paths, before in beams:
            for chosen, share in _choices(paths, entries, kept, error):
                key, share = frozenset(chosen), max(before, share)
                if key not in following or share < following[key][1]:
                    following[key] = chosen, share
            if len(following) > _MOST_BEAMS:
                raise CodesError(f"over {_MOST_BEAMS} sets of paths at level {level}: too many entries are equally near")
        beams = list(following.values())
    return {path: share for paths, share in beams for path in paths}


def _choices(paths: dict[Path, Tensor], entries: Tensor, kept: int, error: float) -> Iterator[_Beam]:
    """Each set of `kept` continuations of `paths` that may be the nearest ones, and the largest part of a tolerance that it takes."""
    before = torch.stack(list(paths.values()))
    left = (before[:, None] - entries).flatten(0, 1)
    distances = left.square().sum(1)
    blur = _blur(before[:, None], entries).flatten()
    kept = min(kept, len(distances))

    def tolerance(some: Tensor, others: Tensor) -> Tensor:
        apart = torch.cdist(left[some], left[others], compute_mode="donot_use_mm_for_euclid_dist")
        return (2 * error * apart + blur[some][:, None] + blur[others]).clamp(min=1e-300)  # never 0 / 0, even for zeros

    everyone = torch.arange(len(distances))
    nearest = distances.topk(kept, largest=False).indices
    # Who is surely behind each of the nearest ones is out; `shares` [i, j] is what it takes of the tolerance to have i before j.
    pool = everyone[(distances - distances[nearest][:, None] <= tolerance(nearest, everyone)).any(0)]
    shares = (distances[pool][:, None] - distances[pool]) / tolerance(pool, pool)
    sure = (shares >= -1.0).sum(1) <= kept  # itself, and fewer others than `kept` that may be before it
    certain, rest = sure.nonzero().flatten().tolist(), (~sure).nonzero().flatten().tolist()
    if math.comb(len(rest), kept - len(certain)) > _MOST_BEAMS:
        raise CodesError(f"{len(rest)} continuations of a path are equally near: too many to follow")
    names = list(paths)
    for more in itertools.combinations(rest, kept - len(certain)):
        chosen, out = [*certain, *more], [i for i in rest if i not in more]
        share = max(0.0, float(shares[chosen][:, out].max())) if out else 0.0
        if share <= 1.0:
            yield {(*names[i // len(entries)], i % len(entries)): left[i] for i in pool[chosen].tolist()}, share


def _blur(residual: Tensor, entry: Tensor) -> Tensor:
    """How far float32 may be off in the squared distances of entries [..., dim] from residuals [..., dim]."""
    share = SPREAD * math.sqrt(entry.shape[-1]) * _UNIT
    blur: Tensor = share * (torch.linalg.vector_norm(residual, dim=-1) + torch.linalg.vector_norm(entry, dim=-1)).square()
    return blur


def _difference(
    quantizer: ResidualVQ, run: tuple[int, int], frame: int, residual: Tensor, error: float, path: Path, other: Path, share: float | None
) -> Difference:
    """How `path` and `other` of a run compare, at the level where they part or, where several are followed, at their ends."""
    embed, level = quantizer.embed[slice(*run)], _common(path, other)
    last = level if quantizer.beam == 1 else len(path) - 1
    before = torch.stack([residual - _sum(embed, side[:last]) for side in (path, other)])
    entries = embed[last, [path[last], other[last]]]
    after = before - entries
    tolerance = 2 * error * float((after[0] - after[1]).norm()) + float(_blur(before, entries).sum())
    distance, other_distance = after.square().sum(1).tolist()
    return Difference(frame, run[0] + level, path[level], other[level], distance, other_distance, tolerance, share)


def _sum(embed: Tensor, path: Path) -> Tensor:
    """The sum of a path's entries [dim]."""
    return embed[torch.arange(len(path)), torch.tensor(path, dtype=torch.long)].sum(0)


def _common(path: Sequence[int], other: Sequence[int]) -> int:
    """At how many levels two paths are one."""
    return next((level for level, (a, b) in enumerate(zip(path, other, strict=False)) if a != b), min(len(path), len(other)))
