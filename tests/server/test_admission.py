"""Who may come in is arithmetic: what streams ask, what the machine can do, how late its packets are."""

from collections import Counter

import pytest

from streamcodec.server import Limits
from streamcodec.server.admission import WINDOW_S, Admission, Cost
from streamcodec.server.measuring import cost_of

ENCODE, DECODE = ("encode", 6), ("decode", 6)
# A packet of 80 ms in 2 ms; a step of its own in 4 ms more.
COSTS = {"encode": Cost(0.004, 0.0008, 0.0002), "decode": Cost(0.004, 0.0008, 0.0002)}
FREE_STEPS = {"encode": Cost(0.0, 0.0, 0.0005), "decode": Cost(0.0, 0.0, 0.0005)}


def admission(costs=COSTS, *, lanes=1, max_batch=32, **limits):
    return Admission(Limits(**{"capacity": "auto", "max_load": 0.75, **limits}), costs, 75.0, lanes=lanes, max_batch=max_batch)


def wait(policy, now, wait_s, count=100):
    for _ in range(count):
        policy.waited(now, wait_s)


def test_few_streams_have_steps_of_their_own_and_many_share_them():
    policy = admission()
    assert policy.load(Counter()) == 0.0
    assert policy.load(Counter({ENCODE: 1})) == pytest.approx(12.5 * 0.006)
    assert policy.load(Counter({ENCODE: 20})) == pytest.approx(50 * 0.004 + 20 * 12.5 * 0.002)
    # Batches are bounded: so many rows take more steps.
    assert admission(max_batch=2).load(Counter({ENCODE: 20})) == pytest.approx(125 * 0.004 + 20 * 12.5 * 0.002)


def test_each_kind_and_length_of_packet_takes_steps_of_its_own():
    policy = admission()
    crowd = Counter({ENCODE: 10, DECODE: 5, ("encode", 1): 2})
    assert policy.load(crowd) == pytest.approx(sum(policy.load(Counter({key: n})) for key, n in crowd.items()))


def test_small_packets_take_more_room_and_long_ones_less():
    policy = admission()
    assert policy.room("encode", 1) < policy.room("encode", 6) < policy.room("encode", 25)
    assert policy.room() == policy.room("decode", 6) == int((0.75 - 50 * 0.004) / (12.5 * 0.002))


def test_two_lanes_have_room_for_twice_as_many():
    assert admission(FREE_STEPS, lanes=2).room() == 2 * admission(FREE_STEPS).room() == 40


def test_publishers_are_let_in_up_to_the_limit_and_the_refusal_names_numbers():
    policy = admission(FREE_STEPS)
    demand = Counter()
    while policy.refusal(0.0, demand, Counter({ENCODE: 1})) is None:
        demand[ENCODE] += 1
    assert demand[ENCODE] == policy.room() == 20
    assert policy.refusal(0.0, demand, Counter({ENCODE: 1})) == (
        "of streams like this (80 ms packets) the server can encode about 20, and it has 20 to encode and 0 to decode; "
        "what is published and heard as codes takes no such room"
    )
    demand[ENCODE] -= 1
    assert policy.refusal(0.0, demand, Counter({ENCODE: 1})) is None
    assert policy.refusal(0.0, demand, Counter({ENCODE: 1, DECODE: 1})) is not None


def test_what_costs_the_engine_nothing_is_let_in_however_full_it_is():
    assert admission().refusal(0.0, Counter({ENCODE: 500}), Counter()) is None


def test_an_idle_machine_takes_anyone_even_if_it_is_too_slow():
    policy = admission({"encode": Cost(1.0, 1.0, 1.0), "decode": Cost(1.0, 1.0, 1.0)})
    wait(policy, 0.0, 9.0)
    assert policy.room() == 1
    assert policy.refusal(0.0, Counter(), Counter({ENCODE: 1})) is None
    assert policy.refusal(0.0, Counter({ENCODE: 1}), Counter({DECODE: 1})) is not None


def test_a_configured_capacity_replaces_the_measured_one_and_counts_decoders_too():
    for lanes in (1, 2):
        policy = admission(None, capacity=3, lanes=lanes)
        assert policy.room() == policy.room("decode", 1) == 3
        assert policy.refusal(0.0, Counter({ENCODE: 2}), Counter({("encode", 1): 1})) is None
        assert policy.refusal(0.0, Counter({ENCODE: 2, ("decode", 25): 1}), Counter({ENCODE: 1})) is not None
        assert not policy.correction_due(1e9)


def test_without_a_capacity_nobody_is_refused_however_late_packets_are():
    policy = admission(None, capacity=None)
    wait(policy, 0.0, 9.0)
    assert policy.room() is None
    assert policy.load(Counter({ENCODE: 9_000})) == 0.0
    assert policy.refusal(0.0, Counter({ENCODE: 9_000}), Counter({ENCODE: 1})) is None
    assert policy.waits(0.0, 0.5) == [9.0]


def test_late_packets_refuse_whatever_the_costs_say_until_they_are_past():
    policy = admission(max_wait_s=0.06)
    demand, wanted = Counter({ENCODE: 1}), Counter({ENCODE: 1})
    wait(policy, 10.0, 0.01, count=93)
    wait(policy, 10.1, 0.25, count=7)
    assert policy.refusal(10.2, demand, wanted) == (
        "the server is behind: 5% of its packets wait 250 ms or more, it takes no others beyond 60 ms"
    )
    assert policy.refusal(10.2 + WINDOW_S, demand, wanted) is None
    wait(policy, 13.0, 0.01)
    assert policy.refusal(13.1, demand, wanted) is None


def test_a_few_late_packets_say_nothing():
    policy = admission()
    wait(policy, 0.0, 5.0, count=19)
    assert policy.waits(0.1, 0.5, 0.99) == [0.0, 0.0]
    assert policy.refusal(0.1, Counter({ENCODE: 1}), Counter({ENCODE: 1})) is None


def test_quantiles_are_of_the_last_seconds_only():
    policy = admission()
    wait(policy, 0.0, 5.0)
    for i in range(100):
        policy.waited(2.5, (i + 1) / 1000)
    assert policy.waits(2.6, 0.5, 0.95, 0.99) == [0.051, 0.096, 0.1]


def test_costs_follow_what_the_engine_really_takes_in_both_directions():
    policy = admission()
    demand = Counter({ENCODE: 10})
    room = policy.room()
    steps = rows = busy_s = 0
    for now in range(20):  # three times as slow as measured
        steps, rows, busy_s = steps + 50, rows + 125, busy_s + 3 * (50 * 0.004 + 125 * 0.002)
        assert policy.correction_due(now)
        policy.worked(now, demand, steps, rows, busy_s)
        assert not policy.correction_due(now + 0.5)
    assert policy.load(demand) == pytest.approx(3 * admission().load(demand), rel=1e-3)
    assert policy.room() < room / 2.5
    for now in range(20, 40):  # another engine has taken over
        steps, rows, busy_s = steps + 50, rows + 125, busy_s + (50 * 0.004 + 125 * 0.002) / 4
        policy.worked(now, demand, steps, rows, busy_s)
    assert policy.load(demand) == pytest.approx(admission().load(demand) / 4, rel=1e-3)
    assert policy.room() > 3.5 * room


def test_too_little_work_corrects_nothing_and_is_counted_with_what_follows():
    policy, untouched = admission(), admission().load(Counter({ENCODE: 1}))
    policy.worked(0.0, Counter({ENCODE: 1}), 10, 10, 10.0)
    assert policy.load(Counter({ENCODE: 1})) == untouched
    policy.worked(1.0, Counter({ENCODE: 1}), 40, 40, 40 * 0.006)
    assert policy.load(Counter({ENCODE: 1})) == pytest.approx(untouched)
    # Work of streams that are gone cannot be weighed, and is not put on the ones that follow.
    policy.worked(2.0, Counter(), 100, 100, 99.0)
    policy.worked(3.0, Counter({ENCODE: 1}), 140, 140, 99.0 + 40 * 0.006)
    assert policy.load(Counter({ENCODE: 1})) == pytest.approx(untouched)


def test_a_cost_is_found_from_three_steps():
    cost = Cost(0.004, 0.0005, 0.0002)
    found = cost_of(*(cost.step + rows * cost.of_row(frames) for rows, frames in ((1, 6), (16, 6), (16, 1))))
    assert (found.step, found.row, found.frame) == pytest.approx((cost.step, cost.row, cost.frame))


@pytest.mark.parametrize("times", [(0.01, 0.01, 0.02), (0.01, 0.005, 0.004), (0.001, 0.1, 0.2), (0.1, 0.2, 0.0)])
def test_times_that_make_no_sense_give_no_negative_costs(times):
    cost = cost_of(*times)
    assert min(cost.step, cost.row, cost.frame) >= 0
