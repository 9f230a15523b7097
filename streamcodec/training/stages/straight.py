"""The gradient that passes straight through a quantizer, without what it gets wrong.

Let z be latents, q = z - e what is coded, and g the loss's gradient at q. If the encoder maps z to z + A z and the codebooks follow, q
moves by A q and the loss by <g q', A>. Passed straight through, g meets z instead, and the loss seems to move by

    <g z', A> = <g q', A> + <g e', A>.

Adding what was lost always seems to help, so the encoder shouts, loudest what is coded worst, and codebooks follow it for ever.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from streamcodec.training.stages.quantize import as_vectors

__all__ = ["StraightThrough"]


class StraightThrough(nn.Module):
    """Moving averages over batches by which the gradient is corrected; `share` is the weight of the newest, more in the first ones."""

    cross: Tensor
    own: Tensor
    batches: Tensor

    def __init__(self, dim: int, share: float) -> None:
        super().__init__()
        self.share = share
        self.register_buffer("cross", torch.zeros(dim, dim))  # of the gradient with what is lost
        self.register_buffer("own", torch.zeros(dim, dim))  # of the latents with themselves
        self.register_buffer("batches", torch.tensor(0))

    def forward(self, latents: Tensor, quantized: Tensor) -> Tensor:
        """`quantized` [B, dim, F], whose gradient passes to `latents` [B, dim, F] less its part <g e', A>."""
        straight = latents.clone()
        z, lost = as_vectors(latents.detach()), as_vectors((latents - quantized).detach())

        @torch.no_grad()
        def corrected(gradient: Tensor) -> Tensor:
            g = as_vectors(gradient)
            share = max(self.share, 1.0 / (1.0 + float(self.batches)))
            self.batches += 1
            self.cross.lerp_(g.t() @ lost / len(g), share)
            self.own.lerp_(z.t() @ z / len(g), share)
            own = self.own + (1e-3 * self.own.diagonal().mean() + 1e-12) * torch.eye(len(self.own), device=self.own.device)
            g = g - z @ torch.linalg.solve(own, self.cross.t())
            shaped: Tensor = g.view(len(gradient), gradient.shape[2], -1).transpose(1, 2)
            return shaped

        straight.register_hook(corrected)  # type: ignore[no-untyped-call]
        return straight + (quantized - latents).detach()
