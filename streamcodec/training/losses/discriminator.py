"""A small multi-resolution STFT discriminator: it looks at complex spectra from 1 kHz up and tells recordings from reconstructions.

A relative of the multi-scale STFT discriminator of Défossez et al. (2022), sized for a CPU: 150 MMAC per second of audio and pass. Spectra
are compressed to the power 0.3 with their phases kept, so that quiet treble weighs like loud bass, and bins below 1 kHz, where a waveform
is coded, are left out. Losses are the hinge loss and feature matching of the same paper.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Discriminator", "adversarial_loss", "discriminator_loss", "feature_matching_loss"]

Judgement = tuple[Tensor, list[Tensor]]

_QUIET = 1e-7  # power per bin under which nothing is heard, where white noise has the same in each


class _Resolution(nn.Module):
    """One window: complex spectra [B, 2, bins, frames] through convs that halve the bins; dilated in time."""

    def __init__(self, rate: int, window: int, channels: Sequence[int], lowest: float) -> None:
        super().__init__()
        self.size = window
        self.first_bin = round(lowest * window / rate)
        hann = torch.hann_window(window)
        self.register_buffer("window", hann / hann.square().sum().sqrt(), persistent=False)
        layers: list[nn.Module] = []
        before = 2
        for i, after in enumerate(channels):
            kernel, dilation = (7 if i == 0 else 5 if i < 3 else 3, 3), 2 ** max(i - 1, 0)
            conv = nn.Conv2d(before, after, kernel, (2, 1), (kernel[0] // 2, dilation), (1, dilation))
            layers.append(nn.utils.parametrizations.weight_norm(conv))
            before = after
        self.layers = nn.ModuleList(layers)
        self.head = nn.utils.parametrizations.weight_norm(nn.Conv2d(before, 1, 3, padding=1))

    def forward(self, x: Tensor) -> Judgement:
        stft = torch.stft(x, self.size, self.size // 2, window=self.get_buffer("window"), center=False, return_complex=True)
        parts = torch.view_as_real(stft[:, self.first_bin :])  # [B, bins, frames, 2]
        power = parts.square().sum(dim=-1, keepdim=True)
        h = (parts * (power + _QUIET) ** -0.35).permute(0, 3, 1, 2).contiguous()  # [B, 2, bins, frames]
        features = []
        for layer in self.layers:
            h = F.leaky_relu(layer(h), 0.2)
            features.append(h)
        return self.head(h), features


class Discriminator(nn.Module):
    """Judges audio [B, T] at each of `windows` samples: a score map and the layers' features each."""

    def __init__(
        self, rate: int, windows: Sequence[int] = (1024, 512, 256), channels: Sequence[int] = (8, 24, 24, 24), lowest: float = 1000.0
    ) -> None:
        super().__init__()
        self.resolutions = nn.ModuleList([_Resolution(rate, window, channels, lowest) for window in windows])

    def forward(self, x: Tensor) -> list[Judgement]:
        return [resolution(x) for resolution in self.resolutions]


def discriminator_loss(real: Sequence[Judgement], fake: Sequence[Judgement]) -> Tensor:
    """The hinge loss that the discriminator descends."""
    terms = [F.relu(1.0 - r).mean() + F.relu(1.0 + f).mean() for (r, _), (f, _) in zip(real, fake, strict=True)]
    return torch.stack(terms).mean()


def adversarial_loss(fake: Sequence[Judgement]) -> Tensor:
    """The generator's side of it."""
    return torch.stack([-score.mean() for score, _ in fake]).mean()


def feature_matching_loss(real: Sequence[Judgement], fake: Sequence[Judgement]) -> Tensor:
    """The distance between the features of recordings and of reconstructions, relative to the size of the former."""
    distances = [
        (f - r.detach()).abs().mean() / (r.detach().abs().mean() + 1e-5)
        for (_, reals), (_, fakes) in zip(real, fake, strict=True)
        for r, f in zip(reals, fakes, strict=True)
    ]
    return torch.stack(distances).mean()
