"""Residual vector quantization: each codebook codes what the ones before it left over. It has no state in time.

Follows Zeghidour et al., "SoundStream" (2021), as in facebookresearch/encodec (`encodec/quantization/core_vq.py`), inference only.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["ResidualVQ"]


class ResidualVQ(nn.Module):
    """`n_q` codebooks of `size` vectors of `dim` numbers: `embed` [n_q, size, dim].

    A code of `size`, one past the last, stands for "this codebook is not used" and decodes to zeros, so rows of a batch may differ in n_q.
    """

    embed: Tensor

    def __init__(self, n_q: int, size: int, dim: int) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("embed", torch.zeros(n_q, size, dim))

    def encode(self, latents: Tensor, n_q: int) -> Tensor:
        """Latents [B, dim, F] -> codes [B, n_q, F], int64: each codebook's nearest entry to the residual that the ones before it left."""
        residual = latents.transpose(1, 2)  # [B, F, dim]
        codes = []
        for embed in self.embed[:n_q]:
            # argmin |r - e|^2 = argmax r.e - |e|^2 / 2
            scores = residual @ embed.t() - embed.square().sum(-1) / 2
            index = scores.argmax(dim=-1)
            residual = residual - F.embedding(index, embed)
            codes.append(index)
        return torch.stack(codes, dim=1)

    def decode(self, codes: Tensor) -> Tensor:
        """Codes [B, n_q, F] -> latents [B, dim, F]: the sum of the entries they name."""
        latents = torch.zeros(codes.shape[0], codes.shape[2], self.embed.shape[2], dtype=self.embed.dtype, device=self.embed.device)
        for embed, index in zip(self.embed, codes.unbind(1), strict=False):
            used = (index < self.size).unsqueeze(-1)
            latents = latents + F.embedding(index.clamp(max=self.size - 1), embed) * used
        return latents.transpose(1, 2)
