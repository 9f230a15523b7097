"""Residual vector quantization: each codebook quantizes the residual of the codebooks before it. It has no state over time.

Follows Zeghidour et al., "SoundStream" (2021), as in facebookresearch/encodec (`encodec/quantization/core_vq.py`), inference only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from streamcodec.model.architecture import runs_of

__all__ = ["ResidualVQ", "search"]


def search(residual: Tensor, embed: Tensor, beam: int) -> tuple[Tensor, Tensor]:
    """Find for each residual [N, dim] a path through the codebooks `embed` [levels, size, dim] whose sum is close to it.

    Returns the paths as entries [N, levels], and the remaining residuals [N, dim].

    This is a beam search: it keeps the `beam` best paths at each level and returns the best path at the end. With `beam` 1 it takes the
    nearest entry at each level. Wider beams give better quality at the same bit rate (Babenko and Lempitsky, "Additive Quantization",
    2014).
    """
    paths, residuals = residual.new_zeros((len(residual), 1, 0), dtype=torch.long), residual[:, None]
    for level, entries in enumerate(embed):
        # |r - e|^2 is smallest where r.e - |e|^2 / 2 - |r|^2 / 2 is largest.
        scores = residuals @ entries.t() - entries.square().sum(-1) / 2
        if residuals.shape[1] > 1:
            scores = scores - residuals.square().sum(-1, keepdim=True) / 2
        best = _top(scores.flatten(1), 1 if level == len(embed) - 1 else beam)
        parent, index = best // len(entries), best % len(entries)
        residuals = residuals.gather(1, parent[..., None].expand(-1, -1, residuals.shape[2])) - F.embedding(index, entries)
        paths = torch.cat([paths.gather(1, parent[..., None].expand(-1, -1, level)), index[..., None]], dim=2)
    return paths[:, 0], residuals[:, 0]


def _top(scores: Tensor, count: int) -> Tensor:
    """The indices [N, count] of the `count` highest of each row's scores [N, size].

    The highest scores all lie in the `count` blocks with the highest maxima, so only those blocks are searched.
    """
    if count == 1:
        return scores.argmax(dim=1, keepdim=True)
    width = math.gcd(scores.shape[1], 32)
    blocks = scores.view(len(scores), -1, width)
    best_blocks = blocks.amax(dim=2).topk(min(count, blocks.shape[1]), dim=1).indices
    candidates = blocks.gather(1, best_blocks[..., None].expand(-1, -1, width)).flatten(1)
    position = candidates.topk(min(count, scores.shape[1]), dim=1).indices
    index: Tensor = best_blocks.gather(1, position // width) * width + position % width
    return index


class ResidualVQ(nn.Module):
    """`n_q` codebooks of `size` vectors of `dim` numbers: `embed` [n_q, size, dim].

    The code `size`, one past the last entry, means "this codebook is not used" and decodes to zeros. So the rows of a batch may differ in
    n_q. The codebooks are searched in runs that end at `stops`, ascending. Each run is a beam search that starts from the residual of the
    run before it. So the codes of fewer codebooks are the first codes of more codebooks.
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
        codes = []
        for first, stop in self.runs:
            if first >= n_q:
                break
            paths, residual = search(residual, self.embed[first:stop], self.beam)
            codes.append(paths)
        return torch.cat(codes, dim=1)[:, :n_q].reshape(batch, frames, -1).transpose(1, 2)

    def decode(self, codes: Tensor) -> Tensor:
        """Codes [B, n_q, F] -> latents [B, dim, F]: the sum of the codebook entries."""
        latents = torch.zeros(codes.shape[0], codes.shape[2], self.embed.shape[2], dtype=self.embed.dtype, device=self.embed.device)
        for embed, index in zip(self.embed, codes.unbind(1), strict=False):
            used = (index < self.size).unsqueeze(-1)
            latents = latents + F.embedding(index.clamp(max=self.size - 1), embed) * used
        return latents.transpose(1, 2)
