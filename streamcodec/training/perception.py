"""How much of a difference is heard, and how much of speech is lost in it: the models of hearing behind PESQ, STOI and ViSQOL, as losses.

They say what a spectral distance cannot: noise under 0.25 of a band's loudness is masked, noise in the valley between two harmonics is not,
and speech is understood by how the envelopes of its bands move. What has learnt by a measure can no longer be judged by it alone, so
`benchmarks.quality` tells DNSMOS beside them, which nothing here follows.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from streamcodec.errors import InputError

__all__ = ["Disturbance", "Envelopes", "Similarity"]

# Per Bark band of the wideband model: how many bins of 31.25 Hz, its width in Bark, the centre in Bark, and the correction of its density.
_BINS = (1,) * 8 + (2,) + (1,) * 5 + (2, 1, 1) + (2,) * 8 + (3, 3, 3, 3, 4, 3, 4, 5, 4, 5, 6, 6, 7, 8, 9, 9, 12, 12, 15, 16, 18, 21, 25, 20)
_BARK = (
    0.157344, 0.317994, 0.322441, 0.326934, 0.331474, 0.336061, 0.340697, 0.345381, 0.350114, 0.354897, 0.359729, 0.364611, 0.369544,
    0.374529, 0.379565, 0.384653, 0.389794, 0.394989, 0.400236, 0.405538, 0.410894, 0.416306, 0.421773, 0.427297, 0.432877, 0.438514,
    0.444209, 0.449962, 0.455774, 0.461645, 0.467577, 0.473569, 0.479621, 0.485736, 0.491912, 0.498151, 0.504454, 0.510819, 0.517250,
    0.523745, 0.530308, 0.536934, 0.543629, 0.550390, 0.557220, 0.564119, 0.571085, 0.578125, 0.585232,
)  # fmt: skip
_DENSITY = (
    100.0, 100.0, 100.0, 100.0, 100.0, 100.0, 100.0, 100.0, 50.0, 100.0, 100.0, 100.0, 100.0, 100.0, 53.047, 110.0, 117.992, 65.0, 68.760,
    70.0, 71.429, 75.0, 76.843, 80.969, 88.646, 63.864, 68.155, 72.548, 75.585, 58.379, 80.951, 64.136, 54.385, 73.822, 64.437, 59.176,
    65.521, 61.400, 58.144, 57.005, 64.127, 54.311, 61.115, 55.078, 56.849, 55.629, 53.137, 54.986, 79.547,
)  # fmt: skip
_THRESHOLD = (
    51286152.0, 2454709.5, 70794.594, 4897.789, 1174.898, 389.045, 104.713, 45.709, 17.783, 9.772, 4.898, 3.090, 1.905, 1.259, 0.977, 0.724,
    0.562, 0.457, 0.389, 0.339, 0.295, 0.269, 0.257, 0.251, 0.251, 0.251, 0.251, 0.263, 0.288, 0.309, 0.339, 0.372, 0.398, 0.437, 0.468,
    0.490, 0.501, 0.501, 0.513, 0.525, 0.525, 0.525, 0.513, 0.479, 0.427, 0.371, 0.363, 0.417, 0.537,
)  # fmt: skip
_POWER_SCALE, _LOUDNESS_SCALE = 6.910853e-6, 0.1866055
_INPUT_FILTER = ((2.740826, -5.4816519, 2.740826), (1.0, -1.9444777, 0.94597794))  # P.862.2's, at 16 kHz
_LEVEL = 1e7  # power of the samples in 16 bits that both sides are set to, in 325 to 3250 Hz


class Disturbance(nn.Module):
    """What is heard of the difference: 0.1 of the symmetric disturbance and 0.0309 of what was added, in units of raw PESQ scores.

    Bands, thresholds, loudness, masking and how disturbances add up are those of ITU-T P.862 (2001) and P.862.2 (2007, wideband). Three
    things differ, so that it has a gradient and costs little: there is no alignment in time, the filters weigh spectra instead of running
    over samples, and spectra are taken at the audio's own rate, with bins as far apart as the Recommendation's.

    A listener gets used to a timbre: P.862 forgives a band that is steadily up to 20 dB too loud or too quiet, and `forgiven_db` says how
    much is forgiven here. What learns by it is better forgiven nothing, or it makes quiet whatever it makes noisy.
    """

    def __init__(self, rate: int, forgiven_db: float = 20.0) -> None:
        super().__init__()
        self.forgiven = 10.0 ** (forgiven_db / 10.0)
        self.window_length = rate * 32 // 1000
        if rate < 16000 or self.window_length * 1000 != rate * 32:
            raise InputError(f"rate is {rate} Hz, expected at least 16000 and whole samples in 32 ms")
        bins = self.window_length // 2 + 1
        hertz = torch.arange(bins) * 31.25
        turn = torch.exp(-2j * torch.pi * hertz.double() / 16000.0)
        top, bottom = (torch.stack([c * turn**i for i, c in enumerate(part)]).sum(dim=0) for part in _INPUT_FILTER)
        heard = torch.where(hertz < 8000.0, (top / bottom).abs().square(), 0.0)
        bands = torch.zeros(bins, len(_BINS), dtype=torch.float64)
        first = 0
        for i, (count, density) in enumerate(zip(_BINS, _DENSITY, strict=True)):
            bands[first : first + count, i] = density * _POWER_SCALE * (512 / self.window_length) ** 2
            first += count
        bands[0] = 0.0  # no direct current
        self.register_buffer("window", torch.hann_window(self.window_length), persistent=False)
        self.register_buffer("bands", (heard[:, None] * bands).float(), persistent=False)
        self.register_buffer("level_bins", ((hertz >= 325.0) & (hertz <= 3250.0)).float(), persistent=False)
        self.register_buffer("width", torch.tensor(_BARK), persistent=False)
        self.register_buffer("threshold", torch.tensor(_THRESHOLD), persistent=False)
        bark = torch.tensor(_BARK).cumsum(0) - torch.tensor(_BARK) / 2.0
        self.register_buffer("power", 0.23 * (6.0 / (bark + 2.0)).clamp(1.0, 2.0) ** 0.15, persistent=False)

    def forward(self, y: Tensor, x: Tensor) -> Tensor:
        """The disturbance of each row [B] between decoded audio and original [B, T], which are at least 32 ms long."""
        with torch.no_grad():
            original = self._densities(x)
        coded = self._densities(y)
        active = (self._audible(original, 100.0) >= 1e7)[..., None]
        means = [(d * (d > 100.0 * self.get_buffer("threshold")) * active).mean(dim=1, keepdim=True) for d in (coded, original)]
        # What a listener gets used to is given to the original, the level that he follows to what is judged.
        original = original * ((means[0] + 1e3) / (means[1] + 1e3)).clamp(1.0 / self.forgiven, self.forgiven)
        gain = (self._audible(original, 1.0) + 5e3) / (self._audible(coded, 1.0) + 5e3)
        gain = torch.cat([gain[:, :1], 0.8 * gain[:, 1:] + 0.2 * gain[:, :-1]], dim=1).clamp(3e-4, 5.0)
        importance = ((self._audible(original, 1.0) + 1e5) / 1e7) ** 0.04
        coded = coded * gain[..., None]
        loud, original_loud = self._loudness(coded), self._loudness(original)
        masked = 0.25 * torch.minimum(loud, original_loud)
        heard = loud - original_loud
        heard = heard.sign() * (heard.abs() - masked).clamp(min=0.0)
        added = ((coded + 50.0) / (original + 50.0)) ** 1.2
        added = torch.where(added < 3.0, 0.0, added.clamp(max=12.0))
        width = self.get_buffer("width")[1:]
        total = width.sum()
        both = (((heard[..., 1:] * width).square().sum(dim=2) + 1e-6) * total).sqrt()
        more = (heard * added)[..., 1:].abs() @ width
        return 0.1 * _added_up(both / importance) + 0.0309 * _added_up(more / importance)

    def _densities(self, x: Tensor) -> Tensor:
        """Power in each band of each frame [B, frames, bands], both sides at the same level."""
        spectra = torch.stft(
            x, self.window_length, self.window_length // 2, window=self.get_buffer("window"), center=False, return_complex=True
        )
        power = (spectra.real.square() + spectra.imag.square()).transpose(1, 2)
        # A hann window's mean square is 3/8 of its length's; a bin stands for its negative twin too.
        loudness = (power @ self.get_buffer("level_bins")).mean(dim=1) * (2.0 / (0.375 * self.window_length**2))
        return power @ self.get_buffer("bands") * (_LEVEL / (loudness + 1e-7))[:, None, None]

    def _audible(self, densities: Tensor, factor: float) -> Tensor:
        return (densities * (densities > factor * self.get_buffer("threshold")))[..., 1:].sum(dim=2)

    def _loudness(self, densities: Tensor) -> Tensor:
        threshold, power = self.get_buffer("threshold"), self.get_buffer("power")
        over = (0.5 + 0.5 * densities / threshold).clamp(min=1.0)
        return _LOUDNESS_SCALE * (2.0 * threshold) ** power * (over**power - 1.0)


def _added_up(frames: Tensor) -> Tensor:
    """Over frames [B, frames]: a mean of the sixth power over 20 frames, where the worst counts, and of the square over these."""
    parts = frames.clamp(1e-3, 45.0).unfold(1, min(20, frames.shape[1]), 10)
    return ((parts**6).mean(dim=2) ** (1.0 / 3.0)).mean(dim=1).sqrt()


class Envelopes(nn.Module):
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


class Similarity(nn.Module):
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
