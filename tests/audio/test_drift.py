"""A steered resampler gives the same output for any block sizes, withholds 2 ms, and is faster by the share that was set."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcodec.audio.playout.drift import DriftResampler
from streamcodec.errors import AudioError

RATES = [8_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000]


def tone(frequency, rate, seconds=0.5):
    return (0.5 * np.sin(2 * np.pi * frequency * np.arange(int(rate * seconds)) / rate)).astype(np.float32)


def stream(audio, rate_in, rate_out, blocks=(), faster=0.0):
    resampler = DriftResampler(rate_in, rate_out)
    resampler.steer(faster)
    parts = [resampler.feed(block) for block in np.split(audio, np.cumsum(np.array(blocks, int)))]
    return np.concatenate([*parts, resampler.flush()])


def off_db(found, expected):
    """How far apart the middle halves are, in dB of the expected one."""
    inner = slice(len(expected) // 4, 3 * len(expected) // 4)
    return 10 * math.log10(np.mean((found[inner] - expected[inner]) ** 2) / np.mean(expected[inner] ** 2))


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(RATES), st.integers(0, 3_000), st.sampled_from([0.0, 0.0005, -0.002]), st.data())
def test_a_stream_is_the_same_whatever_its_blocks(rate, length, faster, data):
    blocks = data.draw(st.lists(st.integers(0, 700), max_size=8))
    audio = np.random.default_rng(length).uniform(-1, 1, length).astype(np.float32)
    whole = stream(audio, 24_000, rate, faster=faster)
    np.testing.assert_allclose(stream(audio, 24_000, rate, blocks, faster), whole, atol=2e-6)
    # The ramp to what was asked for takes 20 ms.
    assert abs(len(whole) - length * rate / 24_000 / (1 + faster)) <= 1 + abs(faster) * 0.01 * rate


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("share", [0.02, 0.4, 0.85])
def test_a_tone_below_the_lower_rate_s_band_end_comes_out_where_it_was(rate, share):
    frequency = share * min(rate, 24_000) / 2
    found = stream(tone(frequency, 24_000), 24_000, rate)
    assert off_db(found, tone(frequency, rate)[: len(found)]) < -70


@pytest.mark.parametrize("rate", [16_000, 22_050])
def test_frequencies_above_the_lower_rate_s_band_are_75_db_down(rate):
    frequency = 0.51 * rate
    heard = stream(tone(frequency, 24_000), 24_000, rate)
    inner = heard[len(heard) // 4 : 3 * len(heard) // 4]
    assert 20 * math.log10(np.sqrt(np.mean(inner.astype(np.float64) ** 2)) / 0.354) < -75


@pytest.mark.parametrize(("rate", "withheld_ms"), [(24_000, 2.0), (48_000, 2.0), (44_100, 2.0), (16_000, 3.0), (8_000, 6.0)])
def test_it_withholds_a_constant_few_milliseconds(rate, withheld_ms):
    resampler, given_out, behind_ms = DriftResampler(24_000, rate), 0, []
    for taken in range(1, 60):
        given_out += len(resampler.feed(np.zeros(480, np.float32)))
        behind_ms.append(20 * taken - 1000 * given_out / rate)
    assert max(behind_ms) - min(behind_ms) < 2000 / rate
    assert np.mean(behind_ms) == pytest.approx(withheld_ms, abs=1000 / rate)
    assert 1000 * resampler.withheld_s == pytest.approx(withheld_ms)


@pytest.mark.parametrize("faster", [0.0005, -0.0005, 0.002])
def test_steering_takes_effect_without_a_click_and_for_as_long_as_it_is_set(faster):
    resampler, sound = DriftResampler(24_000, 48_000), tone(440, 24_000, 10.0)
    parts = [resampler.feed(sound[:120_000])]
    resampler.steer(faster)
    parts.append(resampler.feed(sound[120_000:]))
    heard = np.concatenate([*parts, resampler.flush()])
    assert len(heard) == pytest.approx(240_000 + 240_000 / (1 + faster), abs=3)
    corners = np.abs(np.diff(heard[1_000:-1_000], 2))
    assert corners.max() < 1.02 * 0.5 * (2 * np.pi * 440 / 48_000) ** 2


def test_a_resampler_starts_afresh_after_flush():
    audio = np.random.default_rng(1).uniform(-1, 1, 2_000).astype(np.float32)
    resampler = DriftResampler(24_000, 44_100)
    runs = []
    for _ in range(2):
        runs.append(np.concatenate([resampler.feed(audio), resampler.flush()]))
    np.testing.assert_array_equal(*runs)
    assert resampler.flush().shape == (0,)


def test_a_long_stream_does_not_drift():
    resampler, block = DriftResampler(24_000, 44_100), np.zeros(24_000, np.float32)
    total = sum(len(resampler.feed(block)) for _ in range(100)) + len(resampler.flush())
    assert abs(total - 100 * 44_100) <= 1


def test_what_it_cannot_do_is_refused():
    with pytest.raises(AudioError, match=r"at most 0.002"):
        DriftResampler(24_000, 48_000).steer(0.003)
    with pytest.raises(AudioError, match=r"expected 1000 to 768000 Hz"):
        DriftResampler(24_000, 10)
    with pytest.raises(AudioError, match=r"expected float32 of shape \[T\]"):
        DriftResampler(24_000, 48_000).feed(np.zeros((1, 4), np.float32))


def test_a_position_on_a_whole_sample_does_not_depend_on_the_blocks_before_it():
    """At 44.1 kHz every 147th sample falls on one of the input, but for rounding that depends on where blocks begin."""
    audio = np.random.default_rng(1158).uniform(-1, 1, 1158).astype(np.float32)
    whole = stream(audio, 24_000, 44_100)
    for first in range(1, 120):
        np.testing.assert_allclose(stream(audio, 24_000, 44_100, [first]), whole, atol=2e-6)
