"""A multi-resolution STFT discriminator: it looks at complex spectra above a frequency and tells recordings from reconstructions.

A relative of the multi-scale STFT discriminator of Défossez et al. (2022), sized for a CPU: 200 MMAC per second of audio and pass. Spectra
are compressed to the power 0.3 with their phases kept, so that quiet treble weighs like loud bass, and bins below `lowest`, where a
waveform is coded, are left out. Losses are the hinge loss and feature matching of the same paper.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from streamcodec.errors import InputError
from streamcodec.output_file import write_bytes

__all__ = [
    "Discriminator",
    "DiscriminatorSettings",
    "adversarial_loss",
    "discriminator_loss",
    "drawn_filters",
    "feature_matching_loss",
    "filtered",
    "load_discriminator",
    "save_discriminator",
]

Judgement = tuple[Tensor, list[Tensor]]

_FORMAT = "streamcodec discriminator"
_QUIET = 1e-7  # power per bin under which nothing is heard, where white noise has the same in each


@dataclass(frozen=True)
class DiscriminatorSettings:
    """STFTs of `windows` samples, seen from `lowest` Hz up by convs of `channels` each; the first keeps a quarter of the bins."""

    windows: tuple[int, ...] = (2048, 1024, 512, 256)
    channels: tuple[int, ...] = (16, 32, 32, 32)
    lowest: float = 1000.0

    def __post_init__(self) -> None:
        if not self.windows or not self.channels or min(*self.windows, *self.channels) < 1:
            raise InputError(f"windows is {self.windows} and channels {self.channels}, expected at least one of each, all positive")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DiscriminatorSettings:
        """The inverse of `dataclasses.asdict`, also behind JSON."""
        return cls(tuple(values["windows"]), tuple(values["channels"]), float(values["lowest"]))


class _Resolution(nn.Module):
    """One window: complex spectra [B, 2, bins, frames] through convs with strides over bins; dilated in time."""

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
            conv = nn.Conv2d(before, after, kernel, (4 if i == 0 else 2, 1), (kernel[0] // 2, dilation), (1, dilation))
            layers.append(nn.utils.parametrizations.weight_norm(conv))
            before = after
        self.layers = nn.ModuleList(layers)
        self.head = nn.utils.parametrizations.weight_norm(nn.Conv2d(before, 1, 3, padding=1))

    def forward(self, x: Tensor) -> Judgement:
        stft = torch.stft(x, self.size, self.size // 2, window=self.get_buffer("window"), center=False, return_complex=True)
        parts = torch.view_as_real(stft[:, self.first_bin :])  # [B, bins, frames, 2]
        power = parts.square().sum(dim=-1, keepdim=True)
        # [B, 2, bins, frames], channels last in memory: a third faster on a CPU where channels are few.
        h = (parts * (power + _QUIET) ** -0.35).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
        features = []
        for layer in self.layers:
            h = F.leaky_relu(layer(h), 0.2)
            features.append(h)
        return self.head(h), features


class Discriminator(nn.Module):
    """Judges audio [B, T] at each window: a score map and the layers' features each."""

    def __init__(self, rate: int, settings: DiscriminatorSettings | None = None) -> None:
        super().__init__()
        self.rate, self.settings = rate, settings or DiscriminatorSettings()
        channels, lowest = self.settings.channels, self.settings.lowest
        self.resolutions = nn.ModuleList([_Resolution(rate, window, channels, lowest) for window in self.settings.windows])

    def forward(self, x: Tensor) -> list[Judgement]:
        return [resolution(x) for resolution in self.resolutions]


def save_discriminator(discriminator: Discriminator, path: Path) -> None:
    """Write the weights, and what they are of in the file's header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"format": _FORMAT, "rate": str(discriminator.rate), "settings": json.dumps(asdict(discriminator.settings))}
    weights = {name: tensor.contiguous() for name, tensor in discriminator.state_dict().items()}
    write_bytes(path, safetensors.torch.save(weights, metadata))


def load_discriminator(path: Path) -> Discriminator:
    """The inverse of `save_discriminator`; raises `InputError` for a file that holds none."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    except (OSError, safetensors.SafetensorError) as error:
        raise InputError(f"{path}: {error}") from error
    if metadata.get("format") != _FORMAT:
        raise InputError(f"{path}: its header has format {metadata.get('format')!r}, expected {_FORMAT!r}")
    discriminator = Discriminator(int(metadata["rate"]), DiscriminatorSettings.from_dict(json.loads(metadata["settings"])))
    discriminator.load_state_dict(weights)
    return discriminator


def drawn_filters(rows: int, length: int, generator: torch.Generator, tilt_db: float) -> Tensor:
    """The responses [B, length // 2 + 1] of filters for both sides of each row: any phase, and a tilt of up to `tilt_db` an octave.

    A discriminator that hears both sides through one filter learns no recording by heart, and it cannot tell them by the filter (Zhao et
    al., "Differentiable Augmentation for Data-Efficient GAN Training", 2020).
    """
    phase = 2.0 * torch.pi * torch.rand(rows, 1, generator=generator)
    tilt = tilt_db * (2.0 * torch.rand(rows, 1, generator=generator) - 1.0)
    octaves = torch.linspace(0.0, 4.0, length // 2 + 1).clamp(min=1 / 8).log2()
    return torch.polar(10.0 ** (tilt * octaves / 20.0), phase.expand(rows, length // 2 + 1))


def filtered(x: Tensor, filters: Tensor) -> Tensor:
    """Audio [B, T] through the filter of each row."""
    y: Tensor = torch.fft.irfft(torch.fft.rfft(x) * filters, x.shape[1])
    return y


def discriminator_loss(real: Sequence[Judgement], fake: Sequence[Judgement]) -> Tensor:
    """The hinge loss that the discriminator descends."""
    terms = [F.relu(1.0 - r).mean() + F.relu(1.0 + f).mean() for (r, _), (f, _) in zip(real, fake, strict=True)]
    return torch.stack(terms).mean()


def adversarial_loss(fake: Sequence[Judgement]) -> Tensor:
    """The generator's side of it."""
    return torch.stack([-score.mean() for score, _ in fake]).mean()


def feature_matching_loss(real: Sequence[Judgement], fake: Sequence[Judgement]) -> Tensor:
    """The distance between the features of recordings and of reconstructions, relative to the size of the former, row by row."""
    distances = [
        ((f - r.detach()).abs().mean(dim=(1, 2, 3)) / (r.detach().abs().mean(dim=(1, 2, 3)) + 1e-5)).mean()
        for (_, reals), (_, fakes) in zip(real, fake, strict=True)
        for r, f in zip(reals, fakes, strict=True)
    ]
    return torch.stack(distances).mean()
