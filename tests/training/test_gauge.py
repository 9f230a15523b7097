"""What holds an encoder whose codebooks follow it anywhere."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from streamcodec.training.gauge import Gauge
from streamcodec.training.quantize import LearningRVQ

DIM = 6


def coded() -> tuple[Tensor, Tensor]:
    """Latents [B, dim, F] of different loudness, and what a codebook of their centroids makes of them."""
    chance = torch.Generator().manual_seed(0)
    z = torch.randn(8, DIM, 500, generator=chance) * torch.linspace(0.2, 2.0, DIM)[:, None]
    rvq = LearningRVQ(1, 64, DIM).eval()
    rvq.start(z.transpose(1, 2).reshape(-1, DIM), 4000, chance, iterations=100)
    return z, rvq(z, torch.full((8,), 1))[0].detach()


def linear_part(gradient: Tensor, z: Tensor) -> Tensor:
    """How the gradient goes with the latents [dim, dim]: where a linear map of them would drift."""
    rows = z.transpose(1, 2).reshape(-1, DIM)
    return gradient.transpose(1, 2).reshape(-1, DIM).t() @ rows / len(rows)


def test_what_is_coded_as_well_as_it_can_be_does_not_drift() -> None:
    """Centroids leave a squared error that no linear map betters; the gradient that passed straight through says otherwise."""
    z, q = coded()
    straight = 2.0 * (q - z)
    corrected = Gauge(DIM, 1.0, 0.01).correction(z, q)(straight)
    assert linear_part(straight, z).diagonal().max() < -0.01  # louder, every one of them
    assert linear_part(corrected, z).abs().max() < 0.02 * linear_part(straight, z).abs().max()


def test_what_codes_do_tell_of_the_loss_still_passes() -> None:
    """A loss that wants the coded latents twice as loud still says so."""
    z, q = coded()
    corrected = Gauge(DIM, 1.0, 0.01).correction(z, q)(2.0 * (q - 2.0 * q))
    wanted = linear_part(-2.0 * q, q)
    torch.testing.assert_close(linear_part(corrected, z), wanted, rtol=0.05, atol=0.02)


def test_averages_weigh_the_first_batches_alike_and_later_ones_by_their_share() -> None:
    z, q = coded()
    gauge = Gauge(DIM, 1.0, 0.25)
    for scale in (1.0, 1.0, 1.0, 1.0):
        gauge.correction(scale * z, scale * q)(q)
    power = float(z.square().mean())
    assert float(gauge.power) == pytest.approx(power, rel=1e-4)
    gauge.correction(2.0 * z, 2.0 * q)(q)
    assert float(gauge.power) == pytest.approx(power * (0.75 + 0.25 * 4.0), rel=1e-4)


def test_the_last_layer_is_brought_back_to_the_wanted_power() -> None:
    z, q = coded()
    gauge, layer = Gauge(DIM, 0.25 * float(z.square().mean()), 1.0), nn.Conv1d(DIM, DIM, 1)
    before = layer.weight.detach().clone()
    gauge.correction(z, q)(q)
    gauge.hold(layer, 0.5)
    torch.testing.assert_close(layer.weight.detach(), before * 0.25**0.25)
