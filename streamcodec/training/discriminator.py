"""The critic of the last phase: it looks at complex spectrograms of several windows and tells recordings from reconstructions.

A small relative of the multi-scale STFT discriminator of Défossez et al. (2022), sized for a CPU: three windows, 8 to 32 channels, and
frequency halved from the first layer on. Losses are the hinge loss and feature matching of the same paper.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Discriminator", "critic_loss", "generator_losses"]

Judgement = tuple[Tensor, list[Tensor]]


class _Scale(nn.Module):
    def __init__(self, window: int, channels: Sequence[int]) -> None:
        super().__init__()
        self.size = window
        self.register_buffer("window", torch.hann_window(window), persistent=False)
        layers: list[nn.Module] = []
        before = 2
        for i, after in enumerate(channels):
            dilation = 2 ** max(i - 1, 0)  # in time
            layers.append(nn.utils.parametrizations.weight_norm(nn.Conv2d(before, after, (5, 3), (2, 1), (2, dilation), (1, dilation))))
            before = after
        self.layers = nn.ModuleList(layers)
        self.head = nn.utils.parametrizations.weight_norm(nn.Conv2d(before, 1, 3, padding=1))

    def forward(self, x: Tensor) -> Judgement:
        window = self.get_buffer("window")
        stft = torch.stft(x, self.size, self.size // 4, window=window / window.square().sum().sqrt(), return_complex=True)
        h = torch.view_as_real(stft).permute(0, 3, 1, 2)  # [B, 2, bins, frames]
        features = []
        for layer in self.layers:
            h = F.leaky_relu(layer(h), 0.2)
            features.append(h)
        return self.head(h), features


class Discriminator(nn.Module):
    """Judges [B, T] at every scale: a score map and the layers' features each."""

    def __init__(self, windows: Sequence[int] = (1024, 512, 256), channels: Sequence[int] = (8, 16, 32, 32)) -> None:
        super().__init__()
        self.scales = nn.ModuleList([_Scale(window, channels) for window in windows])

    def forward(self, x: Tensor) -> list[Judgement]:
        # Level says nothing about who made the sound.
        x = x / (x.square().mean(dim=-1, keepdim=True).sqrt() + 1e-3)
        return [scale(x) for scale in self.scales]


def critic_loss(real: list[Judgement], fake: list[Judgement]) -> Tensor:
    """The hinge loss that the discriminator descends."""
    terms = [F.relu(1.0 - r.float()).mean() + F.relu(1.0 + f.float()).mean() for (r, _), (f, _) in zip(real, fake, strict=True)]
    return torch.stack(terms).mean()


def generator_losses(real: list[Judgement], fake: list[Judgement]) -> tuple[Tensor, Tensor]:
    """What the autoencoder descends: the adversarial loss, and the features' distance relative to the real ones' size."""
    adversarial = torch.stack([-score.float().mean() for score, _ in fake]).mean()
    distances = [
        (f.float() - r.float().detach()).abs().mean() / (r.float().detach().abs().mean() + 1e-5)
        for (_, reals), (_, fakes) in zip(real, fake, strict=True)
        for r, f in zip(reals, fakes, strict=True)
    ]
    return adversarial, torch.stack(distances).mean()
