"""The window is so many seconds and a round trip, and a round trip is what something took that went alone."""

from __future__ import annotations

import pytest

from streamcodec.protocol.window import LITTLE_S, SendWindow


class Rig:
    def __init__(self, trips=4, **options):
        self.now = 100.0
        self.window = SendWindow(1.0, trips=trips, clock=lambda: self.now, **options)

    def trip(self, seconds, ahead_s=0.0):
        departure = self.window.depart(ahead_s)
        self.now += seconds
        self.window.answered(departure)


def test_before_the_first_answer_the_round_trip_is_a_guess():
    assert SendWindow(1.0, guess_s=0.25).max_s == 1.25
    assert SendWindow(1.0, guess_s=0.0).max_s == 1.0


def test_the_quickest_of_the_last_trips_counts():
    rig = Rig()
    for trip_s in (0.1, 0.2, 0.3, 0.3, 0.3):
        rig.trip(trip_s)
    assert rig.window.round_trip_s == pytest.approx(0.2)
    assert rig.window.max_s == pytest.approx(1.2)


def test_trips_behind_what_is_under_way_are_believed_by_little_more_than_the_last_that_went_alone():
    rig = Rig()
    rig.trip(0.1)
    for _ in range(7):
        rig.trip(3.0, ahead_s=1.0)
    assert rig.window.round_trip_s == pytest.approx(0.1 + LITTLE_S)
    assert not rig.window.in_doubt


def test_where_all_trips_have_got_longer_what_is_under_way_runs_out_until_one_has_gone_alone():
    rig = Rig()
    rig.trip(0.1)
    for _ in range(8):
        rig.trip(3.0, ahead_s=1.0)
    assert rig.window.in_doubt
    assert rig.window.max_s == LITTLE_S
    rig.trip(3.0, ahead_s=0.5)
    assert rig.window.in_doubt
    rig.trip(0.9, ahead_s=0.2)
    assert not rig.window.in_doubt
    assert rig.window.max_s == pytest.approx(1.9)


def test_trips_that_are_hardly_longer_are_no_reason_to_run_out():
    rig = Rig()
    rig.trip(0.1)
    for _ in range(100):
        rig.trip(0.3, ahead_s=1.0)
    assert not rig.window.in_doubt
