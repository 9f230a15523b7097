"""What the autoencoder is told about its output: how it looks to the ear at several resolutions, and how far the waveform is off.

All losses take reconstruction and original as [B, T] float32 and are means over the batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

__all__ = ["BandSnrLoss", "SpectralLoss", "SpectralTerms", "level", "mel_bands", "si_sdr", "snr"]


def mel_bands(rate: int, window: int, bands: int) -> Tensor:
    """Triangular mel filters [window // 2 + 1, bands], each averaging over its band; HTK's mel scale, 0 Hz to half the rate.

    Filters narrower than a bin (low bands of short windows) take the nearest bin.
    """

    def to_mel(hertz: float) -> float:
        return 2595.0 * math.log10(1.0 + hertz / 700.0)

    mels = torch.linspace(0.0, to_mel(rate / 2), bands + 2, dtype=torch.float64)
    edges = 700.0 * (10.0 ** (mels / 2595.0) - 1.0)
    bins = torch.linspace(0.0, rate / 2, window // 2 + 1, dtype=torch.float64)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    filters = torch.minimum(rising, falling).clamp(min=0.0)
    nearest = (bins - edges[1:-1]).abs().argmin(dim=0)
    filters[nearest, torch.arange(bands)] = filters[nearest, torch.arange(bands)].clamp(min=1e-3)
    return (filters / filters.sum(dim=0)).float()


class SpectralTerms(NamedTuple):
    """What `SpectralLoss` finds.

    `mel`: mean |difference| of log-mel in nepers. `relative`: error of the magnitudes relative to the original's. `noise`: see there.
    `levels`: mean |difference| of the bands' levels, each over a whole row, in nepers of amplitude.
    """

    mel: Tensor
    relative: Tensor
    noise: Tensor
    levels: Tensor


class SpectralLoss(nn.Module):
    """L1 of log-mel and relative spectral error, averaged over STFTs of several windows at a quarter-window hop.

    Spectra are normalised so that white noise has the same level in each; `floor` is the amplitude under which nothing is heard.
    The relative error is the spectral convergence of Arik et al. (2018).

    Noise is that of the waveform in bands of `noise_window`, each on its own: r / (r + 0.3), r being the error's power over the original's,
    averaged over bands (those above 6 kHz count ever less) and frames. An SNR of the whole is that of the loudest octave; this asks for
    some 10 dB everywhere and for little more anywhere, which is how noise is least heard. Bands above `noise_below` Hz do not count: where
    no waveform is coded, silence is nearer to it than sound of the right level.

    The levels of the same bands ask for no place in time. A distance between frames does: where those are uncertain, its best answer is
    their median, which has less power than what was said.
    """

    def __init__(
        self,
        rate: int,
        windows: Sequence[int] = (256, 512, 1024, 2048),
        bands: Sequence[int] = (40, 56, 72, 80),
        floor: float = 1e-4,
        noise_window: int = 512,
        noise_below: float = math.inf,
    ) -> None:
        super().__init__()
        self.windows = tuple(windows)
        self.floor = floor
        self.noise_window = noise_window
        for window, count in zip(windows, bands, strict=True):
            hann = torch.hann_window(window)
            self.register_buffer(f"window_{window}", hann / hann.square().sum().sqrt(), persistent=False)
            self.register_buffer(f"mel_{window}", mel_bands(rate, window, count), persistent=False)
        bands_at = self.get_buffer(f"mel_{noise_window}").t() @ torch.linspace(0.0, rate / 2, noise_window // 2 + 1)
        weight = (bands_at <= noise_below) / (1.0 + (bands_at / 6000.0).square())
        self.register_buffer("noise_weight", weight / weight.sum(), persistent=False)

    def log_mels(self, x: Tensor) -> list[Tensor]:
        """The logarithm of each window's mel spectrum of `x` [B, T]: [B, frames, bands], one a window."""
        return [mel for _, mel, _ in self._spectra(x)]

    def _spectra(self, x: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        spectra = []
        for window in self.windows:
            stft = torch.stft(x, window, window // 4, window=self.get_buffer(f"window_{window}"), return_complex=True)
            power = stft.real.square() + stft.imag.square()
            magnitude = (power + 1e-10).sqrt().transpose(1, 2)  # [B, frames, bins]
            mel = magnitude @ self.get_buffer(f"mel_{window}")
            spectra.append((magnitude, (mel + self.floor).log(), stft))
        return spectra

    def forward(self, y: Tensor, x: Tensor) -> SpectralTerms:
        with torch.no_grad():
            originals = self._spectra(x)
        mels, relatives, noise, levels = [], [], torch.zeros(()), torch.zeros(())
        for window, (magnitude, mel, stft), (original, original_mel, original_stft) in zip(
            self.windows, self._spectra(y), originals, strict=True
        ):
            mels.append((mel - original_mel).abs().mean())
            error = ((magnitude - original).square().sum(dim=(1, 2)) + 1e-10).sqrt()  # the root's slope at zero is infinite
            relatives.append((error / (original.square().sum(dim=(1, 2)).sqrt() + 1e-3)).mean())
            if window == self.noise_window:
                noise = self._noise(stft - original_stft, original)
                levels = self._levels(magnitude, original)
        return SpectralTerms(torch.stack(mels).mean(), torch.stack(relatives).mean(), noise, levels)

    def _levels(self, magnitude: Tensor, original: Tensor) -> Tensor:
        filters = self.get_buffer(f"mel_{self.noise_window}")
        ours, theirs = ((side.square().mean(dim=1) @ filters + self.floor**2).log() for side in (magnitude, original))  # [B, bands]
        return 0.5 * (ours - theirs).abs().mean()

    def _noise(self, error: Tensor, original: Tensor) -> Tensor:
        filters = self.get_buffer(f"mel_{self.noise_window}")
        wrong = (error.real.square() + error.imag.square()).transpose(1, 2) @ filters  # [B, frames, bands]
        power = original.square() @ filters
        # What is 30 dB below a band's mean is heard by nobody.
        power = power + 1e-3 * power.mean(dim=1, keepdim=True) + self.floor**2
        return (wrong / (wrong + 0.3 * power) @ self.get_buffer("noise_weight")).mean()


_QUIET = 1e-7  # sounds under -70 dBFS count as silence, so no ratio is infinite
_INAUDIBLE = 1e-8  # power per bin, where white noise has the same in each


class BandSnrLoss(nn.Module):
    """How far the waveform is off in each band up to `highest` Hz, whatever the band's level: rows [B, T] -> [B], in nepers of power.

    It is the mean over mel bands of log(r + `enough`), r being the error's power over the original's, each over the whole row. A quiet band
    pulls as hard as a loud one. Where r is below `enough` (an SNR above 15 dB), what is left is hardly heard, and the band pulls less.
    """

    def __init__(self, rate: int, highest: float = 8000.0, window: int = 512, bands: int = 72, enough: float = 0.03) -> None:
        super().__init__()
        self.window, self.enough = window, enough
        hann = torch.hann_window(window)
        filters = mel_bands(rate, window, bands)
        centres = torch.linspace(0.0, rate / 2, window // 2 + 1) @ filters
        self.register_buffer("hann", hann / hann.square().sum().sqrt(), persistent=False)
        self.register_buffer("filters", filters[:, centres <= highest], persistent=False)

    def forward(self, y: Tensor, x: Tensor) -> Tensor:
        ratio = (self._power(y - x) + _INAUDIBLE) / (self._power(x) + _INAUDIBLE)
        return (ratio + self.enough).log().mean(dim=1)

    def _power(self, x: Tensor) -> Tensor:
        stft = torch.stft(x, self.window, self.window // 2, window=self.get_buffer("hann"), return_complex=True)
        power: Tensor = (stft.real.square() + stft.imag.square()).mean(dim=2) @ self.get_buffer("filters")  # [B, bands]
        return power


def snr(y: Tensor, x: Tensor) -> Tensor:
    """Signal-to-noise ratio of each row [B, T] -> [B], in dB; sounds under -70 dBFS count as silence."""
    return _decibels(x, y - x)


def level(y: Tensor, x: Tensor) -> Tensor:
    """The level of each row [B, T] over the original's -> [B], in dB; sounds under -70 dBFS count as silence.

    What is coded with few bits comes out too quiet by all other losses: where a waveform is uncertain, its mean is near zero.
    """
    return _decibels(y, x)


def _decibels(x: Tensor, y: Tensor) -> Tensor:
    return 10.0 * torch.log10((x.square().mean(-1) + _QUIET) / (y.square().mean(-1) + _QUIET))


def si_sdr(y: Tensor, x: Tensor) -> Tensor:
    """Scale-invariant signal-to-distortion ratio of each row [B, T] -> [B], in dB (Le Roux et al., 2019)."""
    y, x = y - y.mean(-1, keepdim=True), x - x.mean(-1, keepdim=True)
    target = (y * x).sum(-1, keepdim=True) / (x.square().sum(-1, keepdim=True) + 1e-8) * x
    return 10.0 * torch.log10((target.square().sum(-1) + 1e-8) / ((y - target).square().sum(-1) + 1e-8))
