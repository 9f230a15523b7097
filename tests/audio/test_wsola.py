"""Time stretching keeps the pitch: whole periods are removed or repeated, and nothing clicks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcodec.audio.dsp.wsola import lengthen, shorten

RATE = 24_000


def tone(hertz, n=1_920, level=0.5):
    return (level * np.sin(2 * np.pi * hertz * np.arange(n) / RATE)).astype(np.float32)


def steepest(x):
    return float(np.abs(np.diff(x)).max())


@pytest.mark.parametrize("hertz", [80, 110, 150, 220, 350])
@pytest.mark.parametrize(("change", "sign"), [(shorten, -1), (lengthen, 1)])
def test_a_tone_changes_by_whole_periods_and_continues_without_a_break(change, sign, hertz):
    x = tone(hertz)
    y = change(x, 360, RATE)
    periods = sign * (len(y) - len(x)) / (RATE / hertz)
    assert 0 < sign * (len(y) - len(x)) <= 360
    assert periods == pytest.approx(round(periods), abs=0.02)
    assert steepest(y) <= 1.05 * steepest(x)
    spectrum = np.abs(np.fft.rfft(y * np.hanning(len(y)), 48_000))
    assert spectrum.argmax() / 2 == pytest.approx(hertz, rel=0.02)


@settings(deadline=None)
@given(st.integers(0, 2_000), st.integers(0, 700), st.integers(0, 2**32 - 1))
def test_the_change_is_never_larger_than_allowed_and_silence_always_changes(n, max_samples, seed):
    noise = np.random.default_rng(seed).standard_normal(n).astype(np.float32)
    for x, similarity in ((noise, 0.7), (noise, -1.0), (np.zeros(n, np.float32), 0.7)):
        assert len(x) - max_samples <= len(shorten(x, max_samples, RATE, similarity=similarity)) <= len(x)
        assert len(x) <= len(lengthen(x, max_samples, RATE, similarity=similarity)) <= len(x) + max_samples
    if max_samples >= 60 and n >= 240:
        assert len(shorten(np.zeros(n, np.float32), max_samples, RATE)) < n


def test_noise_does_not_change_unless_the_similarity_may_be_low():
    x = np.random.default_rng(0).standard_normal(1_920).astype(np.float32)
    assert shorten(x, 300, RATE, similarity=0.7) is x
    assert len(shorten(x, 300, RATE, similarity=0.0)) < len(x)


def test_the_first_and_last_samples_do_not_change():
    x = tone(140) + tone(433, level=0.2)
    for y in (shorten(x, 300, RATE), lengthen(x, 300, RATE)):
        assert len(y) != len(x)
        assert y[0] == x[0]
        assert y[-1] == x[-1]
