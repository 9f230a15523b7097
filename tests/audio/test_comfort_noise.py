"""Comfort noise sounds like what was learned: as loud, with the same spectrum, without a step or a repetition; and always the same."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from streamcodec.audio import ComfortNoise

RATE = 24_000
PACKET = 1_920


def level_db(x):
    return 10 * np.log10(np.mean(np.square(x, dtype=np.float64)) + 1e-20)


def room(seconds, db=-55.0, seed=0, pink=True):
    """Noise [T] at so many dBFS, as much power in each octave above 60 Hz."""
    rng = np.random.default_rng(seed)
    size = round(seconds * RATE)
    spectrum = np.fft.rfft(rng.standard_normal(size))
    frequency = np.fft.rfftfreq(size, 1 / RATE)
    x = np.fft.irfft(np.where(frequency < 60, 0, spectrum / np.sqrt(np.maximum(frequency, 60))) if pink else spectrum, size)
    return (x * 10 ** (db / 20) / np.sqrt(np.mean(x**2))).astype(np.float32)


def made(learned, samples, **options):
    comfort = ComfortNoise(RATE, **options)
    comfort.learn(learned)
    return comfort.make(samples)


@pytest.mark.parametrize("db", [-40.0, -55.0, -80.0])
@pytest.mark.parametrize("learned", [320, PACKET, 5 * PACKET, 20 * PACKET])
def test_it_is_as_loud_as_what_was_learned_last(learned, db):
    x = room(learned / RATE, db)
    assert level_db(made(x, 3 * RATE)) == pytest.approx(level_db(x[-RATE // 2 :]), abs=1.0)


def test_it_has_the_spectrum_of_what_was_learned():
    x = room(0.5)
    t = np.arange(x.size) / RATE
    x = (x + 0.002 * np.sin(2 * np.pi * 1000 * t)).astype(np.float32)
    powers = []
    for sound in (x, made(x, 10 * RATE)):
        power = np.abs(np.fft.rfft(sound)) ** 2 / sound.size
        frequency = np.fft.rfftfreq(sound.size, 1 / RATE)
        bands = [100, 200, 400, 800, 1200, 2400, 4800, 9600]
        powers.append([power[(frequency >= low) & (frequency < high)].sum() / sound.size for low, high in pairwise(bands)])
    np.testing.assert_allclose(10 * np.log10(powers[1]), 10 * np.log10(powers[0]), atol=1.5)


def test_it_does_not_repeat_itself():
    noise = made(room(0.08), 8 * RATE).astype(np.float64)
    spectrum = np.fft.rfft(noise, 2 * noise.size)
    alike = np.fft.irfft(np.abs(spectrum) ** 2)[: noise.size] / np.sum(noise**2)
    assert np.abs(alike[RATE // 20 :]).max() < 0.25


def test_its_level_is_constant():
    noise = made(room(0.5, pink=False), 8 * RATE)
    levels = [level_db(noise[at : at + RATE // 10]) for at in range(0, noise.size, RATE // 10)]
    assert np.ptp(levels) < 2


def test_equal_seeds_make_equal_noise_and_each_time_another():
    x = room(0.08)
    np.testing.assert_array_equal(made(x, 5_000, seed=1), made(x, 5_000, seed=1))
    assert not np.array_equal(made(x, 5_000, seed=1), made(x, 5_000, seed=2))
    comfort = ComfortNoise(RATE)
    comfort.learn(x)
    assert not np.array_equal(comfort.make(5_000), comfort.make(5_000))


def test_it_continues_the_samples_before_it_and_fades_into_those_after_it_without_a_step():
    x = room(0.5)
    steepest = np.abs(np.diff(x)).max()
    comfort = ComfortNoise(RATE)
    comfort.learn(x)
    noise = comfort.go_on(PACKET)
    silence = comfort.fade_into(np.zeros(PACKET, np.float32))
    assert noise.size == silence.size == PACKET
    assert np.abs(np.diff(np.concatenate([x, noise, silence]))).max() < 2 * steepest
    assert not silence[120:].any()
    speech = np.full(PACKET, 0.3, np.float32)
    assert comfort.fade_into(speech) is speech, "once is enough"


@pytest.mark.parametrize("samples", [0, 1, 7, 119, 121])
def test_pieces_shorter_than_a_fade_are_whole(samples):
    comfort = ComfortNoise(RATE)
    comfort.learn(room(0.08))
    assert comfort.go_on(samples).shape == (samples,)
    assert comfort.fade_into(np.zeros(samples, np.float32)).shape == (samples,)


def test_it_is_silent_if_nothing_or_digital_silence_was_learned():
    comfort = ComfortNoise(RATE)
    assert not comfort.make(1_000).any()
    assert not comfort.go_on(1_000).any()
    comfort.learn(np.zeros(PACKET, np.float32))
    assert not comfort.go_on(1_000).any()


@pytest.mark.parametrize("size", [1, 2, 50])
def test_hardly_anything_learned_is_enough(size):
    x = np.full(size, 0.001, np.float32)
    x[::2] *= -1
    noise = made(x, RATE)
    assert noise.dtype == np.float32 and np.isfinite(noise).all()
    assert level_db(noise) == pytest.approx(level_db(x), abs=1.0)


def test_a_very_long_pause_is_filled_without_a_seam():
    noise = made(room(0.5), 25 * RATE)
    assert noise.size == 25 * RATE
    steps = np.abs(np.diff(noise))
    assert steps.max() < 1.5 * np.sort(steps[: 9 * RATE])[-3]
