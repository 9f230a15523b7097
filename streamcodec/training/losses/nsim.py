"""A ViSQOL-like loss: the similarity of spectrograms (NSIM) behind it.

What has learnt by it can no longer be judged by ViSQOL alone.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from streamcodec.errors import InputError

__all__ = ["NsimLoss"]


class NsimLoss(nn.Module):
    """How unlike two spectrograms look from close by: 1 minus the NSIM of Hines et al. (2015) over the bands of ViSQOL's speech mode.

    21 gammatone filters from 50 Hz to 8 kHz, equally far apart in ERB (Slaney, 1993), frames of 80 ms every 20 ms, levels in ViSQOL's
    decibels (10 log10 of the RMS). Three things differ: filters weigh spectra instead of running over samples, levels count from -45 dB up
    and not from a clip's quietest, and all frames count, not those of active patches alone.
    """

    bands_count, lowest, highest, floor = 21, 50.0, 8000.0, -45.0

    def __init__(self, rate: int) -> None:
        super().__init__()
        if rate < 2 * self.highest:
            raise InputError(f"rate is {rate} Hz, expected at least {2 * self.highest:.0f}")
        self.window_length = round(0.08 * rate)
        quality, narrowest = 9.26449, 24.7  # Glasberg and Moore's
        offset = quality * narrowest
        step = math.log((self.highest + offset) / (self.lowest + offset)) / self.bands_count
        centres = (self.lowest + offset) * torch.exp(torch.arange(self.bands_count, dtype=torch.float64) * step) - offset
        width = 1.019 * (centres / quality + narrowest)
        hertz = torch.arange(self.window_length // 2 + 1, dtype=torch.float64) * (rate / self.window_length)
        heard = (1.0 + ((hertz[:, None] - centres) / width) ** 2) ** -4  # a gammatone filter of order 4
        corner, side, middle = 0.0113033910173052, 0.0838251475442633, 0.619485845753726
        kernel = torch.tensor([[corner, side, corner], [side, middle, side], [corner, side, corner]])
        self.register_buffer("window", torch.hann_window(self.window_length, periodic=False), persistent=False)
        self.register_buffer("bands", (heard * (2.0 / self.window_length**2)).float(), persistent=False)
        self.register_buffer("kernel", kernel[None, None], persistent=False)

    def forward(self, y: Tensor, x: Tensor) -> Tensor:
        """The unlikeness of each row [B] between decoded audio and original [B, T], which are at least 80 ms long."""
        with torch.no_grad():
            original = self._levels(x).clamp(min=self.floor)
        y = y * ((x.square().mean(dim=1, keepdim=True) + 1e-9) / (y.square().mean(dim=1, keepdim=True) + 1e-9)).sqrt().clamp(0.1, 10.0)
        coded = self._levels(y)
        coded = torch.where(coded > self.floor, coded, self.floor + 0.01 * (coded - self.floor))  # what is too quiet can still come up
        original, coded = original - self.floor, coded - self.floor
        mean, coded_mean = self._around(original), self._around(coded)
        variance = (self._around(original.square()) - mean.square()).clamp(min=0.0)
        coded_variance = (self._around(coded.square()) - coded_mean.square()).clamp(min=0.0)
        both = self._around(original * coded) - mean * coded_mean
        intensity = (2.0 * mean * coded_mean + 1e-4) / (mean.square() + coded_mean.square() + 1e-4)
        structure = (both + 4.5e-4) / ((variance * coded_variance + 1e-12).sqrt() + 4.5e-4)
        unlike: Tensor = 1.0 - (intensity * structure).mean(dim=(1, 2, 3))
        return unlike

    def _levels(self, x: Tensor) -> Tensor:
        """The bands' levels [B, 1, frames, bands]."""
        hop = self.window_length // 4
        stft = torch.stft(x, self.window_length, hop, window=self.get_buffer("window"), center=False, return_complex=True)
        power = (stft.real.square() + stft.imag.square()).transpose(1, 2) @ self.get_buffer("bands")
        return 5.0 * torch.log10(power + 1e-9)[:, None]

    def _around(self, levels: Tensor) -> Tensor:
        return F.conv2d(F.pad(levels, (1, 1, 1, 1), mode="replicate"), self.get_buffer("kernel"))
