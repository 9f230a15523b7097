"""What happens to sound before a microphone gives it to us: level, speed, rooms, noise, other sounds, narrow bands.

Every function takes and returns float32 samples of one axis; all chance comes from the generator that is passed in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import soxr

from streamcodec.types import Samples

__all__ = ["Augmentation", "augment", "band_limited", "mixed", "noise", "reverberant"]


@dataclass(frozen=True)
class Augmentation:
    """How often each change is made, from 0 to 1, and between which levels (dB)."""

    speed: float = 0.25
    reverb: float = 0.08
    noise: float = 0.12
    other: float = 0.06
    band: float = 0.06
    level: tuple[float, float] = (-12.0, 4.0)


def augment(
    read: Callable[[int], Samples],
    other: Callable[[int], Samples],
    length: int,
    rate: int,
    settings: Augmentation,
    chance: np.random.Generator,
) -> Samples:
    """`length` samples made from `read(n)`, the sound, and `other(n)`, what may be heard beside it; none clips."""
    factor = chance.uniform(0.88, 1.14) if chance.random() < settings.speed else 1.0
    x = read(round(length * factor) + (8 if factor != 1.0 else 0))
    if factor != 1.0:
        x = soxr.resample(x, rate * factor, rate, quality="MQ")[:length]
        x = np.pad(x, (0, length - len(x)))
    if chance.random() < settings.reverb:
        x = reverberant(x, rate, chance.uniform(0.15, 0.6), chance.uniform(0.1, 0.5), chance)
    if chance.random() < settings.other:
        x = mixed(x, other(length), chance.uniform(0.0, 20.0))
    if chance.random() < settings.noise:
        x = mixed(x, noise(length, chance.uniform(0.0, 2.0), chance), chance.uniform(5.0, 35.0))
    if chance.random() < settings.band:
        x = band_limited(x, rate, chance.uniform(0.0, 250.0), chance.uniform(3400.0, 9000.0))
    gain = 10.0 ** (chance.uniform(*settings.level) / 20.0)
    peak = float(np.abs(x).max()) + 1e-9
    return np.asarray(x * min(gain, 0.99 / peak), dtype=np.float32)


def noise(length: int, slope: float, chance: np.random.Generator) -> Samples:
    """Gaussian noise whose power falls as frequency to the `slope`: 0 is white, 1 pink, 2 brown; RMS 1."""
    bins = np.arange(length // 2 + 1, dtype=np.float32)
    bins[0] = 1.0
    spectrum = (chance.standard_normal(len(bins)) + 1j * chance.standard_normal(len(bins))) * bins ** (-slope / 2)
    spectrum[: max(1, length // 1200)] = 0.0  # nothing under 20 Hz at 24 kHz
    y = np.fft.irfft(spectrum, length)
    return np.asarray(y / (np.sqrt(np.mean(y**2)) + 1e-9), dtype=np.float32)


def mixed(x: Samples, other: Samples, ratio: float) -> Samples:
    """`x` with `other` added `ratio` dB under it."""
    level = np.sqrt(np.mean(x**2) / (np.mean(other**2) + 1e-9)) * 10.0 ** (-ratio / 20.0)
    return np.asarray(x + other * level, dtype=np.float32)


def reverberant(x: Samples, rate: int, seconds: float, wet: float, chance: np.random.Generator) -> Samples:
    """`x` in a room that decays by 60 dB in `seconds`; `wet` is the room's share of the energy. Its response is decaying noise."""
    t = np.arange(int(seconds * rate)) / rate
    response = chance.standard_normal(len(t)) * 10.0 ** (-3.0 * t / seconds)
    response[: rate // 200] = 0.0  # the first reflections are 5 ms late
    response *= np.sqrt(wet / (np.sum(response**2) + 1e-9))
    response[0] = np.sqrt(1.0 - wet)
    size = len(x) + len(response)
    y = np.fft.irfft(np.fft.rfft(x, size) * np.fft.rfft(response, size), size)
    return y[: len(x)].astype(np.float32)


def band_limited(x: Samples, rate: int, low: float, high: float) -> Samples:
    """`x` between `low` and `high` Hz, with edges a quarter-octave soft."""
    hertz = np.fft.rfftfreq(len(x), 1.0 / rate) + 1e-3
    gain = 1.0 / (1.0 + (hertz / high) ** 16)
    if low > 0.0:
        gain *= 1.0 / (1.0 + (low / hertz) ** 8)
    return np.fft.irfft(np.fft.rfft(x) * gain, len(x)).astype(np.float32)
