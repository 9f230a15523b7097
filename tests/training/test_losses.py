"""The losses hear what they should and nothing else."""

from __future__ import annotations

import math

import pytest
import torch
from training_material import RATE, voice

from streamcodec.training.losses.spectral import BandSnrLoss, SpectralLoss, level, mel_bands, si_sdr, snr


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.from_numpy(voice(0.5, RATE, 1))[None].repeat(2, 1)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    return x + 0.01 * noise, x


def test_the_same_sound_costs_nothing(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    terms = SpectralLoss(RATE)(pair[1], pair[1])
    assert float(terms.mel) == 0.0 and float(terms.relative) < 1e-5


def test_a_level_change_costs_its_logarithm() -> None:
    x = 0.1 * torch.randn(1, 12_000, generator=torch.Generator().manual_seed(0))
    terms = SpectralLoss(RATE)(0.5 * x, x)
    assert float(terms.mel) == pytest.approx(math.log(2.0), abs=0.02)
    assert float(terms.relative) == pytest.approx(0.5, abs=0.01)


def test_noise_above_its_limit_does_not_count() -> None:
    x = 0.1 * torch.randn(1, 12_000, generator=torch.Generator().manual_seed(0))
    spectrum = torch.fft.rfft(0.1 * torch.randn(1, 12_000, generator=torch.Generator().manual_seed(1)))
    frequencies = torch.fft.rfftfreq(12_000, 1 / RATE)
    below, above = (torch.fft.irfft(spectrum * band) for band in (frequencies < 1_500, frequencies > 2_500))
    limited = SpectralLoss(RATE, noise_below=2_000.0)
    assert float(limited(x + above, x).noise) < 0.01 < 0.2 < float(limited(x + below, x).noise)
    assert float(SpectralLoss(RATE)(x + above, x).noise) > 0.2


def test_levels_are_those_of_bands_wherever_in_time_their_sound_is() -> None:
    x = 0.1 * torch.randn(1, 12_000, generator=torch.Generator().manual_seed(0))
    quieter = SpectralLoss(RATE)(0.5 * x, x)
    assert float(quieter.levels) == pytest.approx(math.log(2.0), abs=0.02)
    backwards = SpectralLoss(RATE)(x.flip(1), x)
    assert float(backwards.levels) < 0.02 < 0.2 < float(backwards.mel)


def test_silence_has_finite_losses_and_gradients() -> None:
    y = torch.zeros(1, 4096, requires_grad=True)
    x = torch.zeros(1, 4096)
    terms = SpectralLoss(RATE)(y, x)
    (terms.mel + terms.relative + terms.levels - snr(y, x).mean()).backward()  # type: ignore[no-untyped-call]
    assert y.grad is not None and torch.isfinite(y.grad).all()


def test_mel_filters_average_and_leave_out_no_band() -> None:
    for window, bands in ((256, 40), (2048, 80)):
        filters = mel_bands(RATE, window, bands)
        torch.testing.assert_close(filters.sum(dim=0), torch.ones(bands))
        assert int((filters.argmax(dim=0).diff() < 0).sum()) == 0


def test_snr_is_in_decibels() -> None:
    x = torch.randn(1, 24_000, generator=torch.Generator().manual_seed(0))
    assert float(snr(0.9 * x, x)) == pytest.approx(20.0, abs=0.01)
    assert float(snr(torch.zeros_like(x), x)) == pytest.approx(0.0, abs=0.01)


def test_the_level_is_in_decibels_and_finite_for_silence(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    assert level(0.5 * pair[1], pair[1]).numpy() == pytest.approx([-6.02, -6.02], abs=0.02)
    y = torch.zeros(1, 4096, requires_grad=True)
    level(y, torch.zeros(1, 4096)).sum().backward()  # type: ignore[no-untyped-call]
    assert y.grad is not None and torch.isfinite(y.grad).all()


def test_si_sdr_ignores_the_level_and_snr_does_not(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    y, x = pair
    torch.testing.assert_close(si_sdr(0.3 * y, x), si_sdr(y, x), rtol=0.0, atol=0.01)
    assert float(snr(0.3 * y, x).max()) < float(snr(y, x).min())


def test_an_error_costs_the_same_whatever_its_bands_level() -> None:
    white = torch.fft.rfft(torch.randn(12_000, generator=torch.Generator().manual_seed(0)))
    hertz = torch.fft.rfftfreq(12_000, 1.0 / RATE)
    loss = BandSnrLoss(RATE)

    def cost(spectrum: torch.Tensor, kept: torch.Tensor) -> float:
        x, y = (torch.fft.irfft(some)[None] for some in (spectrum, spectrum * kept))
        return float(loss(y, x))

    tilted = white * 10.0 ** (-hertz / 4000.0)  # 40 dB less at 8 kHz
    everywhere = torch.ones_like(hertz)
    assert cost(tilted, everywhere) == pytest.approx(math.log(0.03), abs=0.01)
    assert cost(tilted, 0.5 * everywhere) == pytest.approx(math.log(0.25 + 0.03), abs=0.01)
    for low, high in ((500.0, 1000.0), (4000.0, 6000.0)):
        without = ((hertz < low) | (hertz > high)).float()
        assert cost(tilted, without) == pytest.approx(cost(white, without), abs=0.1)
        assert cost(tilted, without) > math.log(0.03) + 0.3


def test_no_waveform_is_asked_for_above_the_highest_band() -> None:
    x = 0.1 * torch.randn(1, 12_000, generator=torch.Generator().manual_seed(0))
    t = torch.arange(12_000) / RATE
    loss = BandSnrLoss(RATE)
    above, below = (loss(x + 0.1 * torch.sin(2 * math.pi * hertz * t), x) - loss(x, x) for hertz in (9500.0, 7000.0))
    assert float(above) < 0.05 * float(below)


def test_rows_are_judged_alone_and_silence_has_a_finite_gradient() -> None:
    x = torch.stack([torch.zeros(4096), 0.1 * torch.randn(4096, generator=torch.Generator().manual_seed(0))])
    y = torch.zeros(2, 4096, requires_grad=True)
    rows = BandSnrLoss(RATE)(y, x)
    assert rows.tolist() == pytest.approx([math.log(1.03)] * 2, abs=0.01)
    rows.sum().backward()  # type: ignore[no-untyped-call]
    assert y.grad is not None and torch.isfinite(y.grad).all() and not y.grad[0].any() and y.grad[1].any()
