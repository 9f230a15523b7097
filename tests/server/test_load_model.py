"""What streams take is arithmetic: costs that were measured, corrected by what was really done, in the engine and beside it."""

from collections import Counter
from dataclasses import replace

import pytest

from streamcodec.server.capacity.calibration import cost_of
from streamcodec.server.capacity.load_model import Cost, LoadModel, Work

ENCODE, DECODE = ("encode", 6), ("decode", 6)
# A packet of 80 ms in 2 ms; a step of its own in 4 ms more.
COSTS = {"encode": Cost(0.004, 0.0008, 0.0002), "decode": Cost(0.004, 0.0008, 0.0002)}
TEN = Counter({ENCODE: 10})
NOTHING = Work()
SECOND = Work(steps=50, rows=125, busy_s=50 * 0.004 + 125 * 0.002)  # of ten streams, as they were foretold
PACKET_S = LoadModel(COSTS, 75.0, workers=1, cores=1, max_batch=32).shares(TEN).interpreter / 125


def forecast(costs=COSTS, *, workers=1, cores=16, max_batch=32):
    return LoadModel(costs, 75.0, workers=workers, cores=cores, max_batch=max_batch)


def engine(subject, demand):
    return subject.shares(demand).engine


def teach(subject, seconds, demand=TEN, begin=0, at=NOTHING, **a_second):
    """Let the server work so for `seconds`, telling of each; returns all that was done. The first look only begins the count."""
    subject.learn(begin, demand, at)
    each = replace(SECOND, **a_second)
    for now in range(begin + 1, begin + seconds + 1):
        at = Work(*(getattr(at, name) + getattr(each, name) for name in Work.__dataclass_fields__))
        subject.learn(now, demand, at)
    return at


def test_few_streams_have_steps_of_their_own_and_many_share_them():
    subject = forecast()
    assert engine(subject, Counter()) == 0.0
    assert engine(subject, Counter({ENCODE: 1})) == pytest.approx(12.5 * 0.006)
    assert engine(subject, Counter({ENCODE: 20})) == pytest.approx(50 * 0.004 + 20 * 12.5 * 0.002)
    # Batches are bounded: so many rows take more steps.
    assert engine(forecast(max_batch=2), Counter({ENCODE: 20})) == pytest.approx(125 * 0.004 + 20 * 12.5 * 0.002)


def test_each_kind_and_length_of_packet_takes_steps_of_its_own():
    subject = forecast()
    crowd = Counter({ENCODE: 10, DECODE: 5, ("encode", 1): 2})
    assert engine(subject, crowd) == pytest.approx(sum(engine(subject, Counter({key: n})) for key, n in crowd.items()))


def test_without_costs_nothing_is_predicted():
    subject = forecast(None)
    teach(subject, 3, beside_s=0.9)
    assert subject.shares(Counter({ENCODE: 9_000})) == (0.0, 0.0, 0.0)


def test_workers_share_the_engine_and_all_processors_but_one_interpreter_runs_the_rest():
    engine_s, beside_s = 0.45, 125 * PACKET_S
    assert forecast(workers=1, cores=4).shares(TEN) == pytest.approx((engine_s, (engine_s + beside_s) / 4, beside_s))
    assert forecast(workers=2, cores=4).shares(TEN) == pytest.approx((engine_s / 2, (engine_s + beside_s) / 4, beside_s))
    assert 0.0001 < PACKET_S < 0.001


def test_costs_follow_what_the_engine_really_takes_in_both_directions():
    subject = forecast()
    done = teach(subject, 20, busy_s=3 * SECOND.busy_s)
    assert engine(subject, TEN) == pytest.approx(3 * engine(forecast(), TEN), rel=1e-3)
    teach(subject, 20, begin=20, at=done, busy_s=SECOND.busy_s / 4)  # another engine has taken over
    assert engine(subject, TEN) == pytest.approx(engine(forecast(), TEN) / 4, rel=1e-3)


@pytest.mark.parametrize("packet_s", [0.00005, 0.0002, 0.002])
def test_what_goes_beside_the_engine_is_learnt_whatever_a_packet_was_taken_for(packet_s):
    subject = forecast(cores=2)
    hundred = Counter({ENCODE: 100})
    teach(subject, 12, hundred, rows=1250, cpu_s=SECOND.busy_s, beside_s=1250 * packet_s, messages=2500)
    assert subject.shares(hundred).interpreter == pytest.approx(1250 * packet_s, rel=0.01), "as it is"
    assert subject.shares(Counter({ENCODE: 120})).interpreter == pytest.approx(1500 * packet_s, rel=0.15), "and as it would be"


def test_costs_beside_the_engine_are_not_extrapolated_from_a_few_packets_of_an_idle_server():
    subject = forecast()
    alone = Counter({ENCODE: 2})
    teach(subject, 30, alone, steps=25, rows=25, beside_s=0.05, messages=50)
    assert subject.shares(alone).interpreter == pytest.approx(0.05, rel=0.01)
    assert subject.shares(Counter({ENCODE: 102})).interpreter < 0.05 + 1250 * 2 * PACKET_S


@pytest.mark.parametrize(("name", "messages"), [("one speaker and its many listeners", 5_000), ("codes that are only passed on", 4_000)])
def test_what_others_cost_is_counted_and_not_expected_of_who_comes_next(name, messages):  # noqa: ARG001
    subject = forecast()
    two = Counter({ENCODE: 2})
    teach(subject, 20, two, steps=25, rows=25, beside_s=0.4, messages=messages)
    assert subject.shares(two).interpreter == pytest.approx(0.4, rel=0.01)
    assert subject.shares(Counter({ENCODE: 22})).interpreter < 0.4 + 250 * 2 * PACKET_S


RELAY = ("relay", 6)
RELAY_S = LoadModel(COSTS, 75.0, workers=1, cores=1, max_batch=32).shares(Counter({RELAY: 1})).interpreter / 12.5


def test_listeners_take_the_loop_s_time_and_nothing_of_the_engine():
    thousand = Counter({RELAY: 1000})
    assert forecast(cores=2).shares(thousand) == pytest.approx((0.0, 12_500 * RELAY_S / 2, 12_500 * RELAY_S))
    both = forecast(cores=2).shares(TEN + thousand)
    assert both.engine == engine(forecast(), TEN)
    assert both.interpreter == pytest.approx(12_500 * RELAY_S + 125 * PACKET_S)
    assert 0.00001 < RELAY_S < 0.0002


@pytest.mark.parametrize("relay_s", [0.00001, 0.00004, 0.0003])
def test_what_a_listener_takes_is_learnt_whatever_it_was_taken_for(relay_s):
    subject = forecast(cores=2)
    crowd = Counter({RELAY: 200})
    teach(subject, 20, crowd, steps=0, rows=0, busy_s=0.0, cpu_s=2500 * relay_s, beside_s=2500 * relay_s, messages=2500)
    assert subject.shares(crowd).interpreter == pytest.approx(2500 * relay_s, rel=0.01), "as it is"
    twice = (2500 * relay_s + 2000 * RELAY_S) / 4500 * 2500 + 2500 * relay_s
    assert subject.shares(Counter({RELAY: 400})).interpreter == pytest.approx(twice, rel=0.01), "and nearly as it would be"


def test_what_listeners_take_is_learnt_while_they_come():
    subject, relay_s = forecast(cores=2), 0.00004
    at, listeners = NOTHING, 0
    subject.learn(0, Counter({RELAY: 1}), at)
    for now in range(1, 6):
        sent = 12.5 * (listeners + 100)  # half of those who come in this second get nothing of it yet
        listeners += 200
        history, hellos = 200 * 25, 200
        spent_s = (sent + history + 35 * hellos) * relay_s
        at = replace(at, beside_s=at.beside_s + spent_s, messages=at.messages + round(sent) + history, hellos=at.hellos + hellos)
        subject.learn(now, Counter({RELAY: listeners}), at)
    assert subject.shares(Counter({RELAY: 1000})).interpreter == pytest.approx(12_500 * relay_s, rel=0.2)


def test_an_engine_s_steps_are_learnt_beside_a_crowd_of_listeners():
    subject = forecast(cores=2)
    one = Counter({ENCODE: 1, RELAY: 1000})
    teach(subject, 20, one, steps=13, rows=13, busy_s=13 * 0.012, cpu_s=13 * 0.012 + 0.5, beside_s=0.5, messages=12_526)
    assert engine(subject, Counter({ENCODE: 1})) == pytest.approx(2 * engine(forecast(), Counter({ENCODE: 1})), rel=0.05)


def test_steps_that_run_on_several_processors_count_with_all_of_them_and_never_with_more_than_there_are():
    subject = forecast(cores=4)
    teach(subject, 20, busy_s=0.45, cpu_s=0.9 + 0.03, beside_s=0.03, messages=250)
    assert subject.shares(TEN).processors == pytest.approx((0.9 + 0.03) / 4, rel=0.02)
    other = forecast(cores=4, workers=2)
    teach(other, 20, busy_s=0.45, cpu_s=9.0, beside_s=0.03, messages=250)
    assert other.shares(TEN).processors == pytest.approx((2 * 0.45 + 0.03) / 4, rel=0.02), "something else took the rest"


def test_a_step_that_waits_for_its_turn_is_counted_as_if_it_had_it():
    subject = forecast(cores=2)
    teach(subject, 20, busy_s=2 * SECOND.busy_s, cpu_s=SECOND.busy_s + 0.03, beside_s=0.03, messages=250)
    assert subject.shares(TEN).processors == pytest.approx((2 * SECOND.busy_s + 0.03) / 2, rel=0.02)


def test_too_little_work_corrects_nothing_and_is_counted_with_what_follows():
    one = Counter({ENCODE: 1})
    subject, untouched = forecast(), engine(forecast(), one)
    subject.learn(0.0, one, NOTHING)
    subject.learn(1.0, one, Work(steps=10, rows=10, busy_s=10.0))
    assert engine(subject, one) == untouched
    subject.learn(2.0, one, Work(steps=40, rows=40, busy_s=40 * 0.006))
    assert engine(subject, one) == pytest.approx(untouched)


def test_work_of_streams_that_are_gone_is_not_put_on_the_ones_that_follow():
    one = Counter({ENCODE: 1})
    subject, untouched = forecast(), engine(forecast(), one)
    subject.learn(0.0, one, NOTHING)
    subject.learn(1.0, Counter(), Work(steps=100, rows=100, busy_s=99.0, beside_s=99.0))
    subject.learn(2.0, one, Work(steps=140, rows=140, busy_s=99.0 + 40 * 0.006, beside_s=99.0))
    assert engine(subject, one) == pytest.approx(untouched)


def test_what_was_done_before_the_first_look_teaches_nothing():
    subject, untouched = forecast(), forecast().shares(TEN)
    before = Work(steps=1, rows=19, busy_s=5.0, cpu_s=60.0, beside_s=50.0)
    teach(subject, 5, at=before, cpu_s=SECOND.busy_s, beside_s=125 * PACKET_S, messages=250)
    assert subject.shares(TEN) == pytest.approx(untouched)


def test_a_server_whose_publishers_say_nothing_is_known_to_be_idle_again():
    subject = forecast()
    busy = teach(subject, 20, beside_s=0.5, messages=1000)
    assert subject.shares(TEN).interpreter == pytest.approx(0.5, rel=0.01)
    for minutes in range(1, 10):
        subject.learn(20.0 + 60 * minutes, TEN, replace(busy, rows=busy.rows + minutes))
    assert subject.shares(TEN).interpreter < 0.1


def test_the_costs_of_a_step_are_derived_from_three_timed_steps():
    cost = Cost(0.004, 0.0005, 0.0002)
    found = cost_of(*(cost.step + rows * cost.of_row(frames) for rows, frames in ((1, 6), (16, 6), (16, 1))))
    assert (found.step, found.row, found.frame) == pytest.approx((cost.step, cost.row, cost.frame))


@pytest.mark.parametrize("times", [(0.01, 0.01, 0.02), (0.01, 0.005, 0.004), (0.001, 0.1, 0.2), (0.1, 0.2, 0.0)])
def test_inconsistent_times_give_no_negative_costs(times):
    cost = cost_of(*times)
    assert min(cost.step, cost.row, cost.frame) >= 0
