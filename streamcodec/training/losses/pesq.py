"""A PESQ-like loss: how much of a difference is heard, by the model of hearing behind ITU-T P.862.2.

It says what a spectral distance cannot: noise under 0.25 of a band's loudness is masked, and noise in the valley between two harmonics is
not. What has learnt by it can no longer be judged by PESQ alone.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from streamcodec.errors import InputError

__all__ = ["PesqLoss"]

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


class PesqLoss(nn.Module):
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
