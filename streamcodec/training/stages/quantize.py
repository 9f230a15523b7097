"""Codebooks that learn: they follow the latents by moving averages and take no gradient.

Follows van den Oord et al., "Neural Discrete Representation Learning" (2017, appendix A.1), and for the revival of dead codes and the
dropout of quantizers Zeghidour et al., "SoundStream" (2021).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from streamcodec.model.architecture import runs_of
from streamcodec.model.quantizer import search
from streamcodec.training.side_by_side import side_by_side

__all__ = ["LearningRVQ", "as_vectors", "kmeans", "perplexity", "refitted"]

_AT_ONCE = 8192  # points whose distances are held at a time


def kmeans(points: Tensor, count: int, iterations: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Lloyd's algorithm: points [N, D] -> centres [count, D] and how many points each has [count]; empty ones restart at a random point."""
    centres = (
        _draw(points, count, generator).clone() if len(points) < count else points[torch.randperm(len(points), generator=generator)[:count]]
    )
    sizes = torch.zeros(count)
    for _ in range(iterations):
        centres, sizes = _moved(points, centres, _draw(points, count, generator))
    return centres, sizes


def _moved(points: Tensor, centres: Tensor, where_empty: Tensor) -> tuple[Tensor, Tensor]:
    """One iteration of Lloyd's: the means [count, D] of the points nearest to each centre, and how many these were [count]."""
    index = _nearest(points, centres)
    sizes = torch.bincount(index, minlength=len(centres)).float()
    sums = torch.zeros_like(centres).index_add_(0, index, points)
    return torch.where(sizes[:, None] > 0, sums / sizes[:, None].clamp(min=1.0), where_empty), sizes


def _draw(points: Tensor, count: int, generator: torch.Generator) -> Tensor:
    return points[torch.randint(len(points), (count,), generator=generator)]


def _nearest(points: Tensor, centres: Tensor) -> Tensor:
    # argmin |p - c|^2 = argmax p.c - |c|^2 / 2
    half, turned = -0.5 * centres.square().sum(-1), centres.t()
    return torch.cat([torch.addmm(half, some, turned).argmax(dim=-1) for some in torch.split(points, _AT_ONCE)])


@torch.no_grad()
def refitted(embed: Tensor, latents: Tensor, iterations: int) -> Tensor:
    """Residual codebooks [n_q, size, dim] moved on by Lloyd's algorithm, one after the other, to fit latents [N, dim].

    A training step moves codebooks by the few vectors of its batch, so that they follow the last ones heard; this fits them to as many as
    there are. An entry that no vector needs stays where it is.
    """
    residual, moved = latents.clone(), embed.clone()
    for codebook in moved:
        for _ in range(iterations):
            codebook.copy_(_moved(residual, codebook, codebook)[0])
        residual -= F.embedding(_nearest(residual, codebook), codebook)
    return moved


def as_vectors(latents: Tensor) -> Tensor:
    """Latents [B, dim, F] -> one vector a row [B * F, dim], float32."""
    return latents.transpose(1, 2).reshape(-1, latents.shape[1]).float()


def perplexity(codes: Tensor, size: int) -> Tensor:
    """How many entries each codebook uses in effect: codes [B, n_q, F] -> exp of the entropy of their histogram [n_q]."""
    histograms = torch.stack([torch.bincount(c.reshape(-1), minlength=size) for c in codes.unbind(1)]).double()
    p = histograms / histograms.sum(-1, keepdim=True)
    return torch.exp(-(p * p.clamp(min=1e-12).log()).sum(-1)).float()


class LearningRVQ(nn.Module):
    """Residual codebooks in training: `embed` [n_q, size, dim] is `sums / counts`, both decaying averages.

    They are searched as `ResidualVQ` does. A code whose count falls under `dead` times the mean is revived: it moves to a residual drawn
    from the batch at hand.
    """

    embed: Tensor
    sums: Tensor
    counts: Tensor

    def __init__(
        self, n_q: int, size: int, dim: int, *, decay: float = 0.99, dead: float = 0.1, beam: int = 1, stops: Sequence[int] = ()
    ) -> None:
        super().__init__()
        self.beam = beam
        self.runs = runs_of(stops or [n_q])
        self.decay = decay
        self.dead = dead
        self.register_buffer("embed", torch.zeros(n_q, size, dim))
        self.register_buffer("sums", torch.zeros(n_q, size, dim))
        self.register_buffer("counts", torch.zeros(n_q, size))

    @property
    def n_q(self) -> int:
        """The number of codebooks."""
        return self.embed.shape[0]

    @torch.no_grad()
    def start(self, latents: Tensor, per_step: int, generator: torch.Generator, iterations: int = 10) -> None:
        """Fit the codebooks one after the other to latents [N, dim] by k-means; a training step will bring `per_step` vectors."""
        residual = latents.clone()
        for i in range(self.n_q):
            self.embed[i], sizes = kmeans(residual, self.embed.shape[1], iterations, generator)
            self.counts[i] = (sizes * (per_step / len(latents))).clamp(min=1e-3)
            residual -= F.embedding(_nearest(residual, self.embed[i]), self.embed[i])
        self.sums.copy_(self.embed * self.counts[..., None])

    @torch.no_grad()
    def adopt(self, embed: Tensor, latents: Tensor, per_step: int) -> None:
        """Go on from codebooks `embed` as latents [N, dim] use them; a training step will bring `per_step` vectors."""
        self.embed.copy_(embed)
        residual = latents.clone()
        for i in range(self.n_q):
            index = _nearest(residual, self.embed[i])
            used = torch.bincount(index, minlength=self.embed.shape[1])
            self.counts[i] = (used * (per_step / len(latents))).clamp(min=1e-3)
            residual -= F.embedding(index, self.embed[i])
        self.sums.copy_(self.embed * self.counts[..., None])

    def forward(self, latents: Tensor, n_q: Tensor, threads: int = 1) -> tuple[Tensor, Tensor, Tensor]:
        """Quantize latents [B, dim, F], row b with its first `n_q[b]` codebooks; `threads` share the search.

        Returns the quantized latents [B, dim, F], without a gradient; the commitment: the squared distance from the latents to what each
        used codebook reached, relative to their power and averaged over codebooks; and the codes [B, n_q, F] of all codebooks.
        """
        z = latents.transpose(1, 2).float()  # [B, F, dim]
        reached, codes = self._descend(z.detach(), threads)
        deepest = reached[n_q - 1, torch.arange(len(n_q), device=n_q.device)]
        used = torch.arange(self.n_q, device=n_q.device)[:, None] < n_q  # [n_q, B]
        distance = (z - reached).square().mean(dim=(2, 3))  # [n_q, B]
        power = z.detach().square().mean() + 1e-8
        commitment = ((distance * used).sum(0) / n_q).mean() / power
        return deepest.transpose(1, 2), commitment, codes

    @torch.no_grad()
    def _descend(self, z: Tensor, threads: int) -> tuple[Tensor, Tensor]:
        # All codebooks see all vectors, whatever the dropout: the upper ones would otherwise learn from a few per step.
        residual = z.reshape(-1, z.shape[-1])
        sums, reached, codes = torch.zeros_like(residual), [], []
        for first, stop in self.runs:
            searches = [partial(search, part, self.embed[first:stop], self.beam) for part in residual.chunk(threads)]
            found = torch.cat([codes for codes, _ in side_by_side(searches, threads)])
            for i, index in zip(range(first, stop), found.unbind(1), strict=True):
                if self.training:
                    self._follow(i, residual, index)
                step = F.embedding(index, self.embed[i])
                residual, sums = residual - step, sums + step
                reached.append(sums)
                codes.append(index)
        return torch.stack(reached).view(self.n_q, *z.shape), torch.stack(codes).view(self.n_q, *z.shape[:2]).transpose(0, 1)

    def _follow(self, i: int, residual: Tensor, index: Tensor) -> None:
        size = self.counts.shape[1]
        self.counts[i].mul_(self.decay).add_(torch.bincount(index, minlength=size), alpha=1.0 - self.decay)
        self.sums[i].mul_(self.decay).index_add_(0, index, residual, alpha=1.0 - self.decay)

    @torch.no_grad()
    def settle(self) -> None:
        """Move every entry to its average; once after each forward in training, so that a batch is coded by one set of codebooks."""
        self.embed.copy_(self.sums / self.counts[..., None].clamp(min=1e-6))

    @torch.no_grad()
    def revive(self, latents: Tensor, generator: torch.Generator) -> Tensor:
        """Move dead codes to residuals of latents [B, dim, F]; returns which codes moved [n_q, size]."""
        residual = as_vectors(latents)
        moved = self.counts < self.dead * self.counts.mean(dim=1, keepdim=True)
        for i in range(self.n_q):
            nearest = _nearest(residual, self.embed[i])
            dead = moved[i].nonzero().squeeze(1)
            if len(dead):
                self.embed[i, dead] = _draw(residual, len(dead), generator)
                self.counts[i, dead] = self.counts[i].mean()
                self.sums[i, dead] = self.embed[i, dead] * self.counts[i, dead, None]
            residual = residual - F.embedding(nearest, self.embed[i])
        return moved
