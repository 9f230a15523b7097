"""Less bandwidth at once, more of it slowly, stale packets dropped, and the connection ended only where nothing else helps."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamcodec.server.fanout.bitrate import BitrateController

LADDER = [2, 4, 8, 16]


def controller(min_n_q=2, ladder=LADDER):
    return BitrateController(ladder, min_n_q, max_lag_s=2.0, give_up_s=10.0)


def looks(bitrate, lags, *, every_s=0.1, begun=0.0, **more):
    """What is decided while the lag is so and so, ten times a second."""
    return [bitrate.look(begun + i * every_s, lag_s, **more).n_q for i, lag_s in enumerate(lags)]


def test_a_listener_that_keeps_up_gets_every_packet():
    assert set(looks(controller(), [0.1, 0.25, 0.39] * 100)) == {16}


def test_a_rising_lag_lowers_the_bandwidth_at_once_and_again_each_half_second():
    steps = looks(controller(), [0.61 + i / 10 for i in range(20)])
    assert steps[0] == 8
    assert steps[4:6] == [8, 4]
    assert steps[9:11] == [4, 2]
    assert steps[-1] == 2


def test_a_lag_that_falls_again_lowers_the_bandwidth_by_one_step_only():
    assert looks(controller(), [1.5 - i / 20 for i in range(20)])[-1] == 8


def test_a_lag_that_stays_lowers_the_bandwidth_further():
    assert looks(controller(), [1.0] * 30)[-1] == 2


def test_the_round_trip_does_not_count_as_lag():
    assert set(looks(controller(), [0.9] * 50, round_trip_s=0.8)) == {16}


def test_without_a_lower_bound_the_bandwidth_stays_whatever_the_lag():
    assert set(looks(controller(min_n_q=None), [1.9] * 50)) == {16}


def test_the_lower_bound_holds():
    assert min(looks(controller(min_n_q=4), [1.9] * 100)) == 4


def test_bandwidth_comes_back_one_step_every_five_seconds_without_lag():
    subject = controller()
    looks(subject, [1.9] * 20)
    assert subject.n_q == 2
    steps = looks(subject, [0.2] * 170, begun=10.0)
    assert [steps.index(n_q) for n_q in (4, 8, 16)] == pytest.approx([50, 100, 150], abs=2)


def test_a_little_lag_holds_the_bandwidth_where_it_is():
    subject = controller()
    looks(subject, [1.9] * 5)
    assert set(looks(subject, [0.5] * 1000, begun=10.0)) == {8}


def test_a_link_that_carries_one_step_and_not_the_next_is_tried_less_and_less_often():
    """Every step up brings lag within a second: the waits between the tries double, up to a minute."""
    subject, changes, lag_s, last = controller(), [], 0.2, 16
    for tenth in range(9000):
        n_q = subject.look(tenth / 10, lag_s).n_q
        lag_s = min(1.5, lag_s + 0.1) if n_q == 16 else max(0.2, lag_s - 0.1)
        if n_q > last:
            changes.append(tenth / 10)
        last = n_q
    waits = [round(b - a) for a, b in pairwise(changes)]
    assert waits[0] < 15
    assert waits[-1] == 61
    assert waits == sorted(waits)
    assert len(changes) < 25, "fifteen minutes of it"


def test_what_has_waited_too_long_goes_until_half_of_that_is_left():
    subject = controller()
    assert subject.look(0.0, 1.0, waited_s=1.9).keep_s is None
    assert subject.look(0.1, 1.0, waited_s=2.1).keep_s == 1.0


def test_a_lag_that_stays_too_long_ends_the_connection():
    subject = controller(min_n_q=None)
    verdicts = [subject.look(i / 10, 4.1).give_up for i in range(110)]
    assert verdicts.index(True) == 101


def test_the_time_of_a_lag_starts_again_once_the_lag_was_below_the_bound():
    subject = controller()
    for i in range(1000):
        assert not subject.look(i / 10, 3.9 if i % 99 == 0 else 9.0).give_up


def test_nothing_is_judged_in_a_burst_until_the_listener_has_caught_up():
    subject = controller()
    subject.expect_burst(10.0)
    assert all(subject.look(i / 10, 9.0, waited_s=9.0) == subject.look(i / 10, 9.0, waited_s=9.0) for i in range(99))
    assert subject.n_q == 16
    assert subject.look(9.9, 0.2).n_q == 16
    assert subject.look(9.95, 9.0).n_q == 8, "it had caught up"


def test_after_a_burst_the_listener_is_judged_again():
    subject = controller()
    subject.expect_burst(10.0)
    assert subject.look(10.1, 9.0).n_q == 8


@pytest.mark.parametrize(("min_n_q", "asked", "given"), [(None, 4, 4), (2, 4, 4), (8, 2, 2), (None, 5, 4), (None, 1, 2), (None, 99, 16)])
def test_a_requested_bandwidth_is_given_at_once_as_the_nearest_step_below(min_n_q, asked, given):
    subject = controller(min_n_q=min_n_q)
    subject.ask(asked)
    assert subject.n_q == given


@pytest.mark.parametrize(("min_n_q", "lowest"), [(8, 8), (4, 4), (None, 16)])
def test_a_request_below_the_lower_bound_changes_nothing(min_n_q, lowest):
    subject = controller(min_n_q=min_n_q)
    subject.ask(2)
    assert set(looks(subject, [1.9] * 30)) == {2}
    subject.ask(32)
    assert min(looks(subject, [1.9] * 100, begun=10.0)) == lowest


def test_the_bandwidth_does_not_rise_above_what_the_listener_asked_for():
    subject = controller()
    subject.ask(8)
    looks(subject, [1.9] * 30)
    assert max(looks(subject, [0.1] * 1000, begun=10.0)) == 8


@given(st.lists(st.floats(0, 20), max_size=300), st.sampled_from([None, 2, 4, 16]))
def test_whatever_the_lag_the_bandwidth_is_one_of_the_ladder_and_within_bounds(lags, min_n_q):
    for n_q in looks(controller(min_n_q=min_n_q), lags):
        assert n_q in LADDER
        assert n_q >= (16 if min_n_q is None else min_n_q)
