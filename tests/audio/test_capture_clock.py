"""Capture times advance evenly whatever the sound system reports, follow a drifting clock, and are reset after lost input."""

import numpy as np
import pytest

from streamcodec.audio.io.capture_clock import CaptureClock

RATE, BLOCK = 48_000, 240


def run(ages, arrivals, *, rate=RATE, latency=0.01, lost=()):
    clock = CaptureClock(rate, latency)
    return np.array([clock.captured(at, age, BLOCK, lost=i in lost) for i, (at, age) in enumerate(zip(arrivals, ages, strict=True))])


def test_a_host_that_claims_too_much_for_a_second_makes_no_packet_late():
    n = 2000
    arrivals = 0.005 * np.arange(1, n + 1)
    ages = np.where(np.arange(n) < 240, 0.170, 0.011)
    captured = run(ages, arrivals)
    offsets = captured - 0.005 * np.arange(n)
    assert np.ptp(offsets) <= 0.016
    assert np.abs(np.diff(captured) - 0.005).max() <= 0.005 * 0.00051


def test_blocks_that_come_in_threes_are_captured_evenly():
    arrivals = np.repeat(0.015 * np.arange(1, 300), 3)
    captured = run(np.full(len(arrivals), 0.012), arrivals)
    assert np.abs(np.diff(captured) - 0.005).max() <= 0.005 * 0.00051


@pytest.mark.parametrize("ppm", [-200, 200])
def test_a_clock_that_drifts_is_followed(ppm):
    n = 60_000  # five minutes
    arrivals = 0.005 * (1 + ppm / 1e6) * np.arange(1, n + 1)
    captured = run(np.full(n, 0.01), arrivals)
    assert abs(captured[-1] - (arrivals[-1] - 0.01)) < 0.001


def test_lost_input_resets_it_at_once_reported_or_detected():
    arrivals = 0.005 * np.arange(1, 101)
    arrivals[50:] += 0.06
    ages = np.full(100, 0.01)
    told, unheard = run(ages, arrivals, lost={50}), run(ages, arrivals)
    assert told[50] == pytest.approx(arrivals[50] - 0.01)
    assert unheard[50] == pytest.approx(arrivals[50] - 0.07, abs=1e-4)
    arrivals[50:] += 1.0
    assert run(ages, arrivals)[50] == pytest.approx(arrivals[50] - 0.01)


@pytest.mark.parametrize("age", [0.0, -3.0, 1e9, float("inf"), float("nan")])
def test_where_a_host_has_no_usable_times_a_block_is_as_old_as_it_is_long(age):
    assert 1.0 - run([age], [1.0])[0] == pytest.approx(0.005)
