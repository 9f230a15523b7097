"""Augmentation keeps length, stays finite, never clips, and does to the sound what it says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from training_material import RATE, voice

from streamcodec.training.data.augment import Augmentation, augment, band_limited, mixed, noise, reverberant
from streamcodec.types import Samples

ALL = Augmentation(speed=1.0, reverb=1.0, noise=1.0, other=1.0, band=1.0, level=(-12.0, 12.0))


def chance(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def levels(x: Samples, low: float, high: float) -> float:
    power = np.abs(np.fft.rfft(x)) ** 2
    hertz = np.fft.rfftfreq(len(x), 1 / RATE)
    return float(power[(hertz >= low) & (hertz < high)].sum())


@settings(max_examples=25)
@given(st.integers(0, 10_000))
def test_every_change_at_once_keeps_length_and_never_clips(seed: int) -> None:
    y = augment(lambda n: voice(n / RATE + 0.01, RATE, 1)[:n], lambda n: noise(n, 1.0, chance(1)), 4800, RATE, ALL, chance(seed))
    assert y.shape == (4800,) and y.dtype == np.float32
    assert np.isfinite(y).all() and np.abs(y).max() <= 0.991


def test_without_augmentation_the_sound_stays_the_same() -> None:
    still = Augmentation(speed=0.0, reverb=0.0, noise=0.0, other=0.0, band=0.0, level=(0.0, 0.0))
    x = voice(0.2, RATE, 1)
    assert np.array_equal(augment(lambda n: x[:n], lambda n: x[:n], 4800, RATE, still, chance()), x)


def test_silence_stays_finite() -> None:
    y = augment(lambda n: np.zeros(n, np.float32), lambda n: np.zeros(n, np.float32), 4800, RATE, ALL, chance())
    assert np.isfinite(y).all()


def test_noise_of_a_steeper_spectrum_has_less_treble() -> None:
    brightness = [levels(noise(RATE, slope, chance()), 4000, 12_000) / RATE for slope in (0.0, 1.0, 2.0)]
    assert brightness == sorted(brightness, reverse=True)
    assert np.sqrt(np.mean(noise(RATE, 1.0, chance()) ** 2)) == pytest.approx(1.0, rel=1e-3)


def test_mixing_is_at_the_ratio_asked_for() -> None:
    x, other = voice(0.5, RATE, 1), noise(RATE // 2, 0.0, chance())
    added = mixed(x, other, 12.0) - x
    assert 10 * np.log10(np.mean(x**2) / np.mean(added**2)) == pytest.approx(12.0, abs=0.1)


def test_reverberation_has_a_tail_and_keeps_the_energy() -> None:
    x = np.zeros(RATE, np.float32)
    x[100] = 1.0
    y = reverberant(x, RATE, 0.4, 0.4, chance())
    assert np.sum(y**2) == pytest.approx(1.0, rel=0.05)
    assert np.sum(y[1000:] ** 2) > 0.1 and np.sum(y[:100] ** 2) < 1e-6


def test_a_narrow_band_loses_what_is_outside_it() -> None:
    x = noise(RATE, 0.0, chance())
    y = band_limited(x, RATE, 200.0, 3400.0)
    assert levels(y, 5000, 12_000) < 0.01 * levels(x, 5000, 12_000)
    assert levels(y, 400, 3000) == pytest.approx(levels(x, 400, 3000), rel=0.1)
