"""The gradient at the latents: what a quantizer's rounding says of the loss, and nothing of what it only seems to say."""

from __future__ import annotations

import torch
from torch import Tensor

from streamcodec.training.stages.quantize import LearningRVQ
from streamcodec.training.stages.straight import StraightThrough

DIM = 6


def coded() -> tuple[Tensor, Tensor]:
    """Latents [B, dim, F] of different loudness, and what a codebook of their centroids makes of them."""
    chance = torch.Generator().manual_seed(0)
    z = torch.randn(8, DIM, 500, generator=chance) * torch.linspace(0.2, 2.0, DIM)[:, None]
    rvq = LearningRVQ(1, 64, DIM).eval()
    rvq.start(z.transpose(1, 2).reshape(-1, DIM), 4000, chance, iterations=100)
    return z, rvq(z, torch.full((8,), 1))[0]


def passed(gradient: Tensor, straight: StraightThrough, z: Tensor, q: Tensor) -> Tensor:
    """What arrives at the latents of a gradient at the quantized latents."""
    z = z.clone().requires_grad_(True)
    output = straight(z, q)
    torch.testing.assert_close(output.detach(), q)
    return torch.autograd.grad(output, z, gradient)[0]


def linear_part(gradient: Tensor, z: Tensor) -> Tensor:
    """How the gradient goes with the latents [dim, dim]: along which linear maps they would drift."""
    rows = z.transpose(1, 2).reshape(-1, DIM)
    return gradient.transpose(1, 2).reshape(-1, DIM).t() @ rows / len(rows)


def test_what_is_coded_as_well_as_it_can_be_does_not_drift() -> None:
    """Centroids leave a squared error that no linear map betters; uncorrected, its gradient asks for more of every latent."""
    z, q = coded()
    uncorrected = 2.0 * (q - z)
    corrected = passed(uncorrected, StraightThrough(DIM, 0.01), z, q)
    assert linear_part(uncorrected, z).diagonal().max() < -0.01
    assert linear_part(corrected, z).abs().max() < 0.02 * linear_part(uncorrected, z).abs().max()


def test_the_part_of_the_gradient_that_codes_explain_still_passes() -> None:
    """A loss that wants what is coded twice as loud still says so."""
    z, q = coded()
    corrected = passed(-2.0 * q, StraightThrough(DIM, 0.01), z, q)
    torch.testing.assert_close(linear_part(corrected, z), linear_part(-2.0 * q, q), rtol=0.05, atol=0.02)


def test_a_gradient_that_has_nothing_to_do_with_the_latents_passes_unchanged() -> None:
    z, q = coded()
    gradient = torch.randn(z.shape, generator=torch.Generator().manual_seed(1))
    arrived = passed(gradient, StraightThrough(DIM, 0.01), z, q)
    assert float((arrived - gradient).norm()) < 0.1 * float(gradient.norm())


def test_averages_weigh_the_first_batches_alike_and_later_ones_by_their_share() -> None:
    z, q = coded()
    straight = StraightThrough(DIM, 0.25)
    power = straight.own.diagonal()
    for _ in range(4):
        passed(q, straight, z, q)
    expected = z.square().mean(dim=(0, 2))
    torch.testing.assert_close(power, expected)
    passed(q, straight, 2.0 * z, q)
    torch.testing.assert_close(power, expected * (0.75 + 0.25 * 4.0))
