"""A STOI-like loss: how much is lost of the envelopes by which speech is understood.

What has learnt by it can no longer be judged by STOI alone.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["StoiLoss"]


class StoiLoss(nn.Module):
    """How much is lost of the envelopes by which speech is understood: 1 minus the STOI of Taal et al. (2011).

    Bands, frames and segments are the paper's, and so is it that frames 40 dB below the loudest are silent and that quiet bands count as
    much as loud ones: much of what a codec loses is lost there. Two things differ: silent frames weigh nothing in their segments instead
    of being cut out before, and a band's segment 70 dB below the loudest is left out. Spectra are taken at the audio's own rate.
    """

    frames = 30  # a segment: 384 ms
    silent, least = 10.0 ** (-40.0 / 20.0), 10.0 ** (-70.0 / 20.0)

    def __init__(self, rate: int) -> None:
        super().__init__()
        self.window_length = round(rate * 0.0256) // 2 * 2
        hertz = torch.arange(self.window_length + 1) * (rate / (2 * self.window_length))
        centres = 150.0 * 2.0 ** (torch.arange(15) / 3.0)
        bands = (hertz[:, None] >= centres * 2.0 ** (-1 / 6)) & (hertz[:, None] < centres * 2.0 ** (1 / 6))
        self.register_buffer("bands", bands.float(), persistent=False)
        self.register_buffer("window", torch.hann_window(self.window_length), persistent=False)

    def forward(self, y: Tensor, x: Tensor) -> Tensor:
        """What is lost of each row's envelopes [B] between decoded audio and original [B, T], which are at least 52 ms long."""
        with torch.no_grad():
            envelopes = self._envelopes(x)
            spoken = self._segments(self._spoken(envelopes)[:, None])
            original = self._segments(envelopes) * spoken
            size = original.norm(dim=-1, keepdim=True)
            count = spoken.sum(dim=-1, keepdim=True)
            weight = (count * (size > self.least * size.amax(dim=(1, 2), keepdim=True)))[..., 0]
        coded = self._segments(self._envelopes(y)) * spoken
        coded = coded * size / (coded.norm(dim=-1, keepdim=True) + 1e-8)
        coded = torch.minimum(coded, original * (1.0 + 10.0 ** (15.0 / 20.0)))
        coded, original = ((part - part.sum(dim=-1, keepdim=True) / (count + 1e-8)) * spoken for part in (coded, original))
        both = (coded * original).sum(dim=-1) / (coded.norm(dim=-1) * original.norm(dim=-1) + 1e-8)
        lost: Tensor = 1.0 - (both * weight).sum(dim=(1, 2)) / (weight.sum(dim=(1, 2)) + 1e-8)
        return lost

    def relative(self, y: Tensor, x: Tensor) -> Tensor:
        """Envelopes of `y` [B, T] over the size that those of `x` [B, T] have in the segment about each: [B, bands, frames], 0 where
        `x` does not count."""
        with torch.no_grad():
            original = self._envelopes(x)
            size = self._segments(original).norm(dim=-1)
            spare = original.shape[2] - size.shape[2]
            size = F.pad(size, ((spare + 1) // 2, spare // 2), mode="replicate")
            counts = self._spoken(original)[:, None] * (size > self.least * size.amax(dim=(1, 2), keepdim=True))
        relative: Tensor = self._envelopes(y) / (size + 1e-6) * counts
        return relative

    def _spoken(self, envelopes: Tensor) -> Tensor:
        """Which frames of envelopes [B, bands, frames] are not silent: 1 or 0 [B, frames]."""
        loudness = envelopes.norm(dim=1)
        spoken: Tensor = (loudness > self.silent * loudness.amax(dim=1, keepdim=True)).float()
        return spoken

    def _segments(self, envelopes: Tensor) -> Tensor:
        """[..., frames] -> [..., segments, frames of one]."""
        segments: Tensor = envelopes.unfold(-1, min(self.frames, envelopes.shape[-1]), 1)
        return segments

    def _envelopes(self, x: Tensor) -> Tensor:
        """[B, bands, frames]."""
        stft = torch.stft(
            x,
            2 * self.window_length,
            self.window_length // 2,
            self.window_length,
            window=self.get_buffer("window"),
            center=False,
            return_complex=True,
        )
        power = (stft.real.square() + stft.imag.square()).transpose(1, 2) @ self.get_buffer("bands")
        envelopes: Tensor = (power + 1e-10).sqrt().transpose(1, 2)
        return envelopes
