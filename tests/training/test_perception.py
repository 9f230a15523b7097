"""The losses that hear: against the packages that measure, and where they must not break."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pesq
import pystoi
import pytest
import soxr
import torch
import visqol
from torch import Tensor
from training_material import RATE

from streamcodec.audio import bundled_clip
from streamcodec.errors import InputError
from streamcodec.training.losses.nsim import NsimLoss
from streamcodec.training.losses.pesq import PesqLoss
from streamcodec.training.losses.stoi import StoiLoss


def speech(seconds: float = 4.0) -> Tensor:
    samples, rate = bundled_clip()
    mono = np.asarray(samples, np.float32).reshape(len(samples), -1).mean(axis=1)
    return torch.from_numpy(soxr.resample(mono, rate, RATE)[: int(seconds * RATE)])[None]


def noisy(level: float) -> Callable[[Tensor], Tensor]:
    return lambda x: x + level * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))


def muffled(x: Tensor) -> Tensor:
    spectrum = torch.fft.rfft(x)
    muffled: Tensor = torch.fft.irfft(spectrum * (torch.linspace(0.0, RATE / 2, spectrum.shape[-1]) < 3000.0), n=x.shape[-1])
    return muffled


def coarse(x: Tensor) -> Tensor:
    return (x * 40.0).round() / 40.0


DAMAGES = [noisy(0.001), noisy(0.005), noisy(0.02), muffled, coarse]
LOSSES = [PesqLoss(RATE), StoiLoss(RATE), NsimLoss(RATE)]
NAMES = ["noise at -60 dB", "noise at -46 dB", "noise at -34 dB", "muffled", "coarse"]


@pytest.mark.parametrize("damage", DAMAGES, ids=NAMES)
def test_the_disturbance_is_that_of_the_reference_package(damage: Callable[[Tensor], Tensor]) -> None:
    x = speech()
    y = damage(x)
    raw = 4.5 - float(PesqLoss(RATE)(y, x))
    score = 0.999 + 4.0 / (1.0 + np.exp(-1.3669 * raw + 3.8224))  # P.862.2's mapping
    expected = pesq.pesq(16_000, *(soxr.resample(v[0].numpy(), RATE, 16_000) for v in (x, y)), "wb")
    assert score == pytest.approx(expected, abs=0.25)


@pytest.mark.parametrize("damage", DAMAGES, ids=NAMES)
def test_the_envelope_loss_equals_the_reference_package(damage: Callable[[Tensor], Tensor]) -> None:
    x = speech()
    y = damage(x)
    assert 1.0 - float(StoiLoss(RATE)(y, x)) == pytest.approx(pystoi.stoi(x[0].numpy(), y[0].numpy(), RATE), abs=0.02)


def test_what_is_lost_of_quiet_bands_counts() -> None:
    x = 0.03 * speech()
    x = x + 0.3 * torch.sin(2.0 * torch.pi * 200.0 * torch.arange(x.shape[1]) / RATE)
    y = noisy(0.0005)(x)
    assert pystoi.stoi(x[0].numpy(), y[0].numpy(), RATE) < 0.96
    assert float(StoiLoss(RATE)(y, x)) > 0.04


@pytest.mark.parametrize("loss", LOSSES, ids=["disturbance", "envelopes", "similarity"])
def test_the_same_speech_costs_nothing_whatever_its_level(loss: torch.nn.Module) -> None:
    x = speech()
    assert float(loss(x, x)) < 1e-3 and float(loss(0.5 * x, x)) < 0.01


@pytest.mark.parametrize("loss", LOSSES, ids=["disturbance", "envelopes", "similarity"])
@pytest.mark.parametrize(
    "original", [torch.zeros(2, 9600), 1e-4 * torch.ones(2, 9600), speech()[:, :2400]], ids=["silent", "constant", "short"]
)
def test_silent_input_has_finite_losses_and_gradients(loss: torch.nn.Module, original: Tensor) -> None:
    for scale in (0.0, 1.0, 100.0):
        y = (scale * original + (0.01 if scale else 0.0) * torch.randn(original.shape)).requires_grad_(True)
        value = loss(y, original)
        assert value.shape == original.shape[:1] and bool(torch.isfinite(value).all())
        value.sum().backward()
        assert y.grad is not None and bool(torch.isfinite(y.grad).all())


def test_a_band_too_quiet_is_forgiven_only_as_far_as_is_said() -> None:
    x = speech()
    costs = [float(PesqLoss(RATE, forgiven_db)(muffled(x), x)) for forgiven_db in (20.0, 10.0, 0.0)]
    assert costs == sorted(costs) and costs[0] < 0.7 * costs[2]


def test_spectrograms_are_as_alike_as_the_reference_package_says() -> None:
    api = visqol.VisqolApi()
    api.create(mode="speech")
    x = speech()
    ours, theirs = [], []
    for damage in DAMAGES:
        y = damage(x)
        pair = (soxr.resample(v[0].numpy().astype(np.float64), RATE, 16_000) for v in (x, y))
        theirs.append(api.measure_from_arrays(*pair, 16_000).vnsim)
        ours.append(1.0 - float(NsimLoss(RATE)(y, x)))
    assert ours == pytest.approx(theirs, abs=0.1)  # the reference hears active patches only
    assert np.corrcoef(ours, theirs)[0, 1] > 0.95


def test_a_rate_below_what_speech_needs_is_refused() -> None:
    with pytest.raises(InputError, match="rate is 8000 Hz, expected at least 16000"):
        NsimLoss(8_000)


def test_a_rate_without_whole_windows_is_refused() -> None:
    for rate in (8_000, 22_050):
        with pytest.raises(InputError, match=f"rate is {rate} Hz, expected"):
            PesqLoss(rate)
