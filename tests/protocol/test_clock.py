from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

import streamcodec.protocol.clock as clock_module
from streamcodec.protocol import ClockEstimate, unwrap_timestamp
from streamcodec.protocol.clock import both_clocks


@given(st.integers(0, 2**53), st.integers(-(2**31) + 1, 2**31 - 1))
def test_a_timestamp_unwraps_to_the_time_nearest_to_now(time, away):
    assert unwrap_timestamp(time % 2**32, time + away) == time


def test_before_the_first_exchange_both_clocks_are_taken_for_one():
    clock = ClockEstimate()
    assert (clock.round_trip, clock.to_server(5), clock.to_local(5)) == (None, 5, 5)


def test_one_exchange_gives_the_offset_at_its_middle():
    clock = ClockEstimate().update(sent=1_000, server_time=51_100, received=1_200)
    assert (clock.offset, clock.round_trip) == (50_000, 200)
    assert clock.to_server(1_000) == 51_000
    assert clock.to_local(clock.to_server(77)) == 77


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), min_size=1, max_size=40), st.integers(-(10**9), 10**9))
def test_the_error_is_at_most_half_the_quickest_round_trip_of_the_last_sixteen(delays, offset):
    clock, now = ClockEstimate(), 10**10
    for there, back in delays:
        clock = clock.update(sent=now, server_time=now + there + offset, received=now + there + back)
        now += there + back + 1
    quickest = min(there + back for there, back in delays[-16:])
    assert clock.round_trip == quickest
    assert abs(clock.offset - offset) <= quickest / 2 + 1


def test_a_clock_that_was_set_back_changes_nothing():
    clock = ClockEstimate().update(sent=0, server_time=100, received=10)
    assert clock.update(sent=50, server_time=100, received=10) == clock


def test_both_clocks_are_read_at_one_moment_however_long_the_other_readings_take(monkeypatch):
    """Between the two readings of the program's clock goes by what the list says; the time of day is in the middle."""
    waits, now = iter([900, 40, 6, 300, 80]), [10**9]

    def day():
        now[0] += (wait := next(waits)) // 2
        told = now[0] / 1e6
        now[0] += wait - wait // 2
        return told

    monkeypatch.setattr(clock_module, "now_us", lambda: now[0])
    monkeypatch.setattr(clock_module, "time", SimpleNamespace(time=day))
    clock_us, day_s = both_clocks()
    assert abs(clock_us - 1e6 * day_s) <= 1
