"""Who may come in is arithmetic: what streams ask, what the machine can do, how late its packets are, how many came just now."""

from collections import Counter

import pytest

from streamcodec.server import Limits
from streamcodec.server.capacity.admission import Admission
from streamcodec.server.capacity.load_model import Cost, Work
from streamcodec.server.capacity.recent import NEWEST_S, WINDOW_S

ENCODE, DECODE = ("encode", 6), ("decode", 6)
ONE = Counter({ENCODE: 1})
# A packet of 80 ms in 2 ms; a step of its own in 4 ms more.
COSTS = {"encode": Cost(0.004, 0.0008, 0.0002), "decode": Cost(0.004, 0.0008, 0.0002)}
# 20 streams take three quarters of it.
FREE_STEPS = {"encode": Cost(0.0, 0.0, 0.0005), "decode": Cost(0.0, 0.0, 0.0005)}
# 200 do.
QUICK = {"encode": Cost(0.0, 0.0, 0.00005), "decode": Cost(0.0, 0.0, 0.00005)}


def admission(costs=COSTS, *, workers=1, cores=16, max_batch=32, **limits):
    """On a machine with processors to spare: the engine's time is what is scarce, unless a test says otherwise."""
    return Admission(Limits(**{"capacity": "auto", **limits}), costs, 75.0, workers=workers, cores=cores, max_batch=max_batch)


def wait(policy, now, wait_s, count=100):
    for _ in range(count):
        policy.waits.note(now, wait_s)


def rush(policy, now, demand):
    """Let in all who may come at this moment, as stream "0", "1" and so on; returns why the next one may not."""
    while (refusal := policy.refusal(now, demand, ONE)) is None:
        demand.update(ONE)
        policy.joined(now, ONE, f"{demand.total() - 1}")
    return refusal


def test_small_packets_take_more_room_and_long_ones_less():
    policy = admission()
    assert policy.room("encode", 1) < policy.room("encode", 6) < policy.room("encode", 25)
    assert policy.room() == policy.room("decode", 6) == int((0.75 - 50 * 0.004) / (12.5 * 0.002))


def test_where_packets_are_chunks_room_is_that_for_chunks_and_their_long_steps_are_no_lateness():
    # A chunk of 1 s in 0.3 s.
    costs = {"encode": Cost(0.1, 0.2, 0.0), "decode": Cost(0.1, 0.2, 0.0)}
    policy = Admission(Limits(capacity="auto").for_chunks(1.0), costs, 150.0, workers=2, cores=16, packet_frames=150)
    assert policy.room() == policy.room("encode", 150) > policy.room("encode", 6)
    chunk = Counter({("encode", 150): 1})
    wait(policy, 0.0, 0.3)
    assert policy.refusal(0.1, chunk, chunk) is None
    wait(policy, 0.2, 0.9)
    assert "the server is behind: 5% of its packets wait 900 ms or more" in policy.refusal(0.3, chunk, chunk).reason


def test_two_workers_have_room_for_twice_as_many():
    assert admission(FREE_STEPS, workers=2).room() == 2 * admission(FREE_STEPS).room() == 40


def test_processors_and_the_one_interpreter_bound_the_room_where_the_engine_does_not():
    by_engine = admission(QUICK, max_cpu=9.0).room()
    by_interpreter = admission(QUICK, workers=2).room()
    by_processors = admission(QUICK, workers=2, cores=1).room()
    assert by_processors < by_interpreter < by_engine == 200
    assert admission(QUICK, workers=2, max_cpu=0.3).room() == by_interpreter // 2


def test_publishers_are_let_in_up_to_the_limit_and_the_refusal_names_numbers():
    policy = admission(FREE_STEPS)
    demand = Counter()
    while policy.refusal(0.0, demand, ONE) is None:
        demand[ENCODE] += 1
    assert demand[ENCODE] == policy.room() == 20
    refusal = policy.refusal(0.0, demand, ONE)
    assert refusal.reason == (
        "of streams like this (80 ms packets) the server can encode about 20, and it has 20 to encode and 0 to decode, "
        "as one more would take 79% of the model's time and 75% is allowed; what is published and heard as codes takes no such room"
    )
    assert refusal.again_s is None, "there is no use in waiting for a moment"
    demand[ENCODE] -= 1
    assert policy.refusal(0.0, demand, ONE) is None
    assert policy.refusal(0.0, demand, Counter({ENCODE: 1, DECODE: 1})) is not None


def test_the_refusal_names_what_is_scarce():
    reason = admission(QUICK, cores=1).refusal(0.0, Counter({ENCODE: 100}), ONE).reason
    assert "one more would take 76% of the time of 1 processor(s) and 60% is allowed" in reason
    reason = admission(QUICK, workers=2).refusal(0.0, Counter({ENCODE: 200}), ONE).reason
    assert "one more would take 75% of a processor's time for all beside the model and 60% is allowed" in reason


def test_what_costs_the_engine_nothing_is_let_in_however_full_it_is():
    assert admission().refusal(0.0, Counter({ENCODE: 500}), Counter()) is None


def test_an_idle_machine_admits_anybody_even_if_it_is_too_slow():
    policy = admission({"encode": Cost(1.0, 1.0, 1.0), "decode": Cost(1.0, 1.0, 1.0)})
    wait(policy, 0.0, 9.0)
    assert policy.room() == 1
    assert policy.refusal(0.0, Counter(), ONE) is None
    assert policy.refusal(0.0, ONE, Counter({DECODE: 1})) is not None


def test_a_configured_capacity_replaces_the_measured_one_and_counts_decoders_too():
    for workers in (1, 2):
        policy = admission(None, capacity=3, workers=workers, cores=1)
        assert policy.room() == policy.room("decode", 1) == 3
        assert policy.refusal(0.0, Counter({ENCODE: 2}), Counter({("encode", 1): 1})) is None
        refusal = policy.refusal(0.0, Counter({ENCODE: 2, ("decode", 25): 1}), ONE)
        assert "can encode about 3, and it has 2 to encode and 1 to decode; " in refusal.reason
        assert not policy.correction_due(1e9)


def test_a_configured_capacity_may_be_filled_at_once():
    policy, demand = admission(None, capacity=100, cores=1), Counter(ONE)
    assert rush(policy, 0.0, demand).again_s is None
    assert demand.total() == 100


def test_without_a_capacity_nobody_is_refused_however_late_packets_are():
    policy = admission(None, capacity=None)
    wait(policy, 0.0, 9.0)
    assert policy.room() is None
    assert policy.shares(Counter({ENCODE: 9_000})) == (0.0, 0.0, 0.0)
    assert policy.refusal(0.0, Counter({ENCODE: 9_000}), ONE) is None
    assert policy.waits.quantiles(0.0, 0.5) == [9.0]


def test_late_packets_refuse_whatever_the_costs_say_until_they_are_past():
    policy = admission()
    wait(policy, 10.0, 0.01, count=93)
    wait(policy, 10.1, 0.25, count=7)
    refusal = policy.refusal(10.2, ONE, ONE)
    assert refusal.reason == "the server is behind: 5% of its packets wait 250 ms or more, it takes no others beyond 30 ms"
    assert 0 < refusal.again_s < WINDOW_S, "it may be over in a moment"
    assert policy.refusal(10.2 + WINDOW_S, ONE, ONE) is None
    wait(policy, 13.0, 0.01)
    assert policy.refusal(13.1, ONE, ONE) is None


def test_the_newest_second_is_enough_to_refuse_and_not_enough_to_let_in_again():
    policy = admission()
    wait(policy, 10.0, 0.005, count=1900)
    wait(policy, 10.0 + NEWEST_S, 0.035, count=100)
    wait(policy, 10.5 + NEWEST_S, 0.005, count=200)
    now = 10.6 + NEWEST_S
    assert policy.waits.quantiles(now, 0.95) == [0.005], "of two seconds' packets just 5% are late"
    assert "wait 35 ms or more" in policy.refusal(now, ONE, ONE).reason
    wait(policy, 12.0, 0.035, count=1000)
    wait(policy, 13.5, 0.005, count=500)
    assert policy.waits.quantiles(13.6, 0.95, window_s=NEWEST_S) == [0.005]
    assert "wait 35 ms or more" in policy.refusal(13.6, ONE, ONE).reason


def test_a_few_late_packets_refuse_nobody():
    policy = admission()
    wait(policy, 0.0, 5.0, count=19)
    assert policy.waits.quantiles(0.1, 0.5, 0.99) == [0.0, 0.0]
    assert policy.refusal(0.1, ONE, ONE) is None


def test_quantiles_are_of_the_last_seconds_only():
    policy = admission()
    wait(policy, 0.0, 5.0)
    for i in range(100):
        policy.waits.note(2.5, (i + 1) / 1000)
    assert policy.waits.quantiles(2.6, 0.5, 0.95, 0.99) == [0.051, 0.096, 0.1]


def test_a_crowd_takes_half_of_what_is_free_at_once_and_half_of_the_rest_after_each_correction():
    policy, demand = admission(QUICK, workers=2), Counter()
    policy.worked(0.0, demand, Work())
    room = policy.room()
    refusal = rush(policy, 0.6, demand)
    assert demand.total() == room // 2
    assert refusal.reason == (
        f"many come at once: the server does not know yet what the newest {room // 2} take; "
        "with one more it would be about 51% full, and it goes to 50% before it looks"
    )
    assert refusal.again_s == pytest.approx(0.4), "then the next correction is due"
    policy.worked(1.0, demand, Work())
    assert policy.refusal(1.0, demand, ONE) is not None, "who came 0.4 s ago has not shown enough"
    for now, share in ((2.0, 0.75), (3.0, 0.875), (4.0, 0.9375)):
        policy.worked(now, demand, Work())
        rush(policy, now, demand)
        assert demand.total() == pytest.approx(share * room, abs=2)


def test_a_few_newcomers_are_admitted_however_little_is_free():
    policy, demand = admission(FREE_STEPS), Counter({ENCODE: 16})
    assert rush(policy, 0.0, demand).again_s is None
    assert demand.total() == policy.room() == 20


def test_a_client_that_came_and_left_does_not_count_as_a_newcomer():
    policy = admission(FREE_STEPS)
    demand = Counter({ENCODE: 2})
    for visit in range(50):
        assert policy.refusal(0.01 * visit, demand, ONE) is None
        policy.joined(0.01 * visit, ONE, "guest")
        policy.left("guest")


def test_a_stream_that_stays_is_a_newcomer_without_the_decoder_that_it_no_longer_has():
    policy = admission(FREE_STEPS)
    demand = Counter()
    assert rush(policy, 0.0, demand).again_s
    both = Counter({ENCODE: 1, DECODE: 1})
    policy.left("0")
    policy.joined(0.0, both, "0")
    policy.left("0", "decode")
    refusal = policy.refusal(0.0, demand, ONE)
    assert f"what the newest {demand.total()} take" in refusal.reason


def test_where_no_correction_is_made_newcomers_are_known_after_two_seconds():
    policy, demand = admission(QUICK, workers=2), Counter()
    rush(policy, 10.0, demand)
    half = demand.total()
    rush(policy, 11.9, demand)
    assert demand.total() == half
    rush(policy, 12.0, demand)
    assert demand.total() == pytest.approx(1.5 * half, abs=1)


def test_corrections_are_due_once_a_second():
    policy = admission()
    assert policy.correction_due(5.0)
    policy.worked(5.0, ONE, Work())
    assert not policy.correction_due(5.9)
    assert policy.correction_due(6.0)


def test_a_machine_that_turns_out_slower_has_less_room():
    policy, demand = admission(), Counter({ENCODE: 10})
    room = policy.room()
    for now in range(20):
        policy.worked(now, demand, Work(steps=50 * now, rows=125 * now, busy_s=3 * now * (50 * 0.004 + 125 * 0.002)))
    assert policy.room() < room / 2.5
