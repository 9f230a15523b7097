"""Residual vector quantization: each codebook codes what the ones before it left over. It has no state in time.

Follows Zeghidour et al., "SoundStream" (2021), as in facebookresearch/encodec (`encodec/quantization/core_vq.py`), inference only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["ResidualVQ", "runs_of", "search"]


def runs_of(stops: Sequence[int]) -> list[tuple[int, int]]:
    """The runs of levels [first, stop) that end at `stops`."""
    return list(zip([0, *stops[:-1]], stops, strict=True))


def search(residual: Tensor, embed: Tensor, beam: int) -> tuple[Tensor, Tensor]:
    """Residuals [N, dim] -> a path whose sum comes near each, through codebooks `embed` [levels, size, dim], and what it leaves.

    The path is entries [N, levels], what it leaves [N, dim].

    A beam search: from level to level the `beam` best paths are followed, and the best one at the end is taken. With 1 it is the nearest
    entry, level by level. Wider beams code better in the same bits (Babenko and Lempitsky, "Additive Quantization", 2014).
    """
    paths, left = residual.new_zeros((len(residual), 1, 0), dtype=torch.long), residual[:, None]
    for level, entries in enumerate(embed):
        # |r - e|^2 is least where r.e - |e|^2 / 2 - |r|^2 / 2 is most.
        scores = left @ entries.t() - entries.square().sum(-1) / 2
        if left.shape[1] > 1:
            scores = scores - left.square().sum(-1, keepdim=True) / 2
        best = _top(scores.flatten(1), 1 if level == len(embed) - 1 else beam)
        parent, index = best // len(entries), best % len(entries)
        left = left.gather(1, parent[..., None].expand(-1, -1, left.shape[2])) - F.embedding(index, entries)
        paths = torch.cat([paths.gather(1, parent[..., None].expand(-1, -1, level)), index[..., None]], dim=2)
    return paths[:, 0], left[:, 0]


def _top(scores: Tensor, count: int) -> Tensor:
    """Where each row's `count` highest scores [N, size] are: in as many of its blocks, those of the highest maxima."""
    if count == 1:
        return scores.argmax(dim=1, keepdim=True)
    width = math.gcd(scores.shape[1], 32)
    blocks = scores.view(len(scores), -1, width)
    chosen = blocks.amax(dim=2).topk(min(count, blocks.shape[1]), dim=1).indices
    inside = blocks.gather(1, chosen[..., None].expand(-1, -1, width)).flatten(1).topk(min(count, scores.shape[1]), dim=1).indices
    where: Tensor = chosen.gather(1, inside // width) * width + inside % width
    return where


class ResidualVQ(nn.Module):
    """`n_q` codebooks of `size` vectors of `dim` numbers: `embed` [n_q, size, dim].

    A code of `size`, one past the last, stands for "this codebook is not used" and decodes to zeros, so rows of a batch may differ in n_q.
    The codebooks are searched in runs that end at `stops`, ascending, each by a beam search from where the run before it ended: so whoever
    takes fewer codebooks has the first ones of all.
    """

    embed: Tensor

    def __init__(self, n_q: int, size: int, dim: int, beam: int = 1, stops: Sequence[int] = ()) -> None:
        super().__init__()
        self.size = size
        self.beam = beam
        self.runs = runs_of(stops or [n_q])
        self.register_buffer("embed", torch.zeros(n_q, size, dim))

    def encode(self, latents: Tensor, n_q: int) -> Tensor:
        """Latents [B, dim, F] -> codes [B, n_q, F], int64: see `search`."""
        batch, dim, frames = latents.shape
        residual = latents.transpose(1, 2).reshape(-1, dim)
        found = []
        for first, stop in self.runs:
            if first >= n_q:
                break
            paths, residual = search(residual, self.embed[first:stop], self.beam)
            found.append(paths)
        return torch.cat(found, dim=1)[:, :n_q].reshape(batch, frames, -1).transpose(1, 2)

    def decode(self, codes: Tensor) -> Tensor:
        """Codes [B, n_q, F] -> latents [B, dim, F]: the sum of the entries they name."""
        latents = torch.zeros(codes.shape[0], codes.shape[2], self.embed.shape[2], dtype=self.embed.dtype, device=self.embed.device)
        for embed, index in zip(self.embed, codes.unbind(1), strict=False):
            used = (index < self.size).unsqueeze(-1)
            latents = latents + F.embedding(index.clamp(max=self.size - 1), embed) * used
        return latents.transpose(1, 2)
