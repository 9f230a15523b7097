"""Lateness is measured against the fastest packet, whatever the offset of the clocks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamcodec.audio.playout.jitter_estimator import JitterEstimator
from streamcodec.errors import InputError


def feed(lateness, late, *, every=0.08, offset=0.0, drift=0.0):
    return [lateness.add(i * every * (1 + drift) + x + offset, i * every) for i, x in enumerate(late)]


@given(st.floats(-1e6, 1e6))
def test_an_offset_between_the_clocks_cancels_out(offset):
    assert feed(JitterEstimator(), [0.03, 0.01, 0.05, 0.01], offset=offset) == pytest.approx([0.0, 0.0, 0.04, 0.0], abs=1e-6)


def test_the_quantile_is_the_lateness_that_the_share_of_the_packets_does_not_exceed():
    lateness = JitterEstimator(window_s=100.0)
    assert lateness.quantile(0.9) == 0.0
    feed(lateness, [0.0] * 90 + [0.05] * 9 + [0.1])
    assert lateness.quantile(0.9) == pytest.approx(0.05)
    assert lateness.quantile(0.995) == pytest.approx(0.1)
    assert lateness.quantile(0.5) == pytest.approx(0.0)


def test_packets_older_than_the_window_are_forgotten_with_their_minimum():
    lateness = JitterEstimator(window_s=2.0)
    feed(lateness, [0.0] + [0.05] * 30)
    assert lateness.quantile(0.99) == pytest.approx(0.0), "a way that has become longer is no lateness"


def test_a_slow_drift_does_not_count_as_lateness():
    lateness = JitterEstimator(window_s=10.0)
    late = feed(lateness, [0.0] * 5_000, drift=200e-6)
    assert max(late) < 0.0021


def test_a_burst_counts_once_and_packets_later_than_any_buffer_do_not_count():
    lateness = JitterEstimator(window_s=10.0, max_s=0.25)
    arrivals = [i * 0.08 for i in range(100)] + [10.0 + 0.001 * i for i in range(26)] + [i * 0.08 for i in range(126, 150)]
    for i, at in enumerate(arrivals):
        lateness.add(at, i * 0.08)
    assert lateness.quantile(0.98) < 0.01
    for i in range(150, 170):  # a packet that is late by itself counts
        lateness.add(i * 0.08 + 0.1, i * 0.08)
    assert lateness.quantile(0.98) == pytest.approx(0.1, abs=0.01)


def test_bounds_that_make_no_sense_are_refused():
    with pytest.raises(InputError, match="window_s is 0"):
        JitterEstimator(window_s=0)
