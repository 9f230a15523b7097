"""What keeps an encoder in its place whose codebooks follow it anywhere.

Codebooks and decoder can undo any linear map of the latents, so training must not drift along such maps. The gradient that passes straight
through the quantizer does. Let z be latents, q = z - e what is coded, and g the loss's gradient at q. If the encoder maps z to z + A z and
the codebooks follow, q moves by A q and the loss by <g q', A>. Passed straight through, g meets z, and the loss seems to move by
<g z', A> = <g q', A> + <g e', A>. Adding what was lost always seems to help, so the encoder shouts, loudest what is coded worst.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

__all__ = ["Gauge"]


class Gauge(nn.Module):
    """Moving averages over batches by which the gradient at the latents is corrected and their power held.

    `share` is the weight of the newest batch, more in the first ones; `power` is the latents' mean square and `wanted` what it is held at.
    """

    cross: Tensor
    own: Tensor
    power: Tensor
    batches: Tensor

    def __init__(self, dim: int, wanted: float, share: float) -> None:
        super().__init__()
        self.wanted, self.share = wanted, share
        self.register_buffer("cross", torch.zeros(dim, dim))  # of the gradient with what is lost
        self.register_buffer("own", torch.zeros(dim, dim))  # of the latents with themselves
        self.register_buffer("power", torch.tensor(wanted))
        self.register_buffer("batches", torch.tensor(0))

    @torch.no_grad()
    def correction(self, latents: Tensor, quantized: Tensor) -> Callable[[Tensor], Tensor]:
        """A hook that corrects the gradient at `latents` [B, dim, F], which passed straight through from `quantized`."""
        z, lost = _rows(latents), _rows(latents - quantized)

        def corrected(gradient: Tensor) -> Tensor:
            g = _rows(gradient)
            share = max(self.share, 1.0 / (1.0 + float(self.batches)))
            self.batches += 1
            self.cross.lerp_(g.t() @ lost / len(g), share)
            self.own.lerp_(z.t() @ z / len(g), share)
            self.power.lerp_(z.square().mean(), max(0.1, share))  # or `hold` would act on what is long past, and overshoot
            own = self.own + (1e-3 * self.own.diagonal().mean() + 1e-12) * torch.eye(len(self.own))
            g = g - z @ torch.linalg.solve(own, self.cross.t())
            shaped: Tensor = g.view(len(gradient), gradient.shape[2], -1).transpose(1, 2)
            return shaped

        return corrected

    @torch.no_grad()
    def hold(self, layer: nn.Conv1d, pull: float) -> None:
        """Bring the power of what `layer`, the encoder's last, puts out closer to the wanted one: by `pull` of the way in decibels."""
        factor = (self.power / self.wanted).clamp(1e-3, 1e3) ** (-0.5 * pull)
        for parameter in layer.parameters():
            parameter.mul_(factor)


def _rows(values: Tensor) -> Tensor:
    """[B, dim, F] -> [B * F, dim]."""
    return values.detach().transpose(1, 2).reshape(-1, values.shape[1]).float()
