"""Who lives, and where newcomers go: pure, with times and chance as arguments."""

from __future__ import annotations

import collections
import dataclasses
import random

import pytest

from streamcodec.server.cluster.membership import MAX_ALTERNATES, NODE_TTL_S, Membership, Placement
from streamcodec.server.cluster.records import NodeRecord

MODEL = "sha256:model"


def record(number: int, **changes: object) -> NodeRecord:
    node = NodeRecord(f"n{number}", f"ws://n{number}", 0, 0, 50, 500, 0.1, False, MODEL, "1")
    return dataclasses.replace(node, **changes)


def members(*records: NodeRecord, now: float = 0.0) -> Membership:
    membership = Membership()
    for one in records:
        membership.heard(one.node, one, now)
    return membership


def placement(*records: NodeRecord, own: str = "n0", seed: int = 1) -> Placement:
    return Placement(members(*records), own, random.Random(seed))


def test_a_node_lives_as_long_as_it_renews_its_entry() -> None:
    membership = members(record(1), record(2))
    membership.heard("n1", record(1), 3.0)
    late = NODE_TTL_S + 1.0
    assert membership.lives("n1", late) and not membership.lives("n2", late) and not membership.lives("n3", 0.0)
    assert [one.node for one in membership.living(late)] == ["n1"]
    membership.heard("n1", None, late)
    assert not membership.lives("n1", late) and membership.record("n1") is None


def test_who_lived_when_the_bus_was_lost_is_taken_to_live_until_it_is_back_for_a_while() -> None:
    membership = members(record(1))
    membership.heard("n2", record(2), 4.0)
    membership.bus_lost(6.0)
    membership.bus_lost(60.0)
    assert not membership.lives("n1", 100.0) and membership.lives("n2", 100.0)
    membership.bus_back(100.0)
    assert membership.lives("n2", 100.0 + NODE_TTL_S * 0.99) and not membership.lives("n2", 100.0 + NODE_TTL_S)
    assert membership.record("n1") is None


@pytest.mark.parametrize(
    "unsuited",
    [record(1, draining=True), record(1, room=0), record(1, fingerprint="another"), record(0), record(1, room=None, load=1.0)],
    ids=["draining", "full", "another model", "itself", "loaded"],
)
def test_a_newcomer_goes_to_no_node_that_would_not_take_it(unsuited: NodeRecord) -> None:
    assert placement(unsuited).place("publish", MODEL, 0.0) is None
    [chosen] = {placement(unsuited, record(2), seed=seed).place("publish", MODEL, 0.0) for seed in range(20)}
    assert chosen == record(2)


def test_a_listener_needs_other_room_than_a_publisher() -> None:
    where = placement(record(1, room=0), record(2, listener_room=0))
    assert {where.place("publish", MODEL, 0.0).node for _ in range(20)} == {"n2"}
    assert {where.place("listen", MODEL, 0.0).node for _ in range(20)} == {"n1"}


def test_a_node_that_has_refused_is_not_named_again() -> None:
    where = placement(record(1), record(2))
    assert {where.place("publish", MODEL, 0.0, without={"n1"}).node for _ in range(20)} == {"n2"}
    assert where.place("publish", MODEL, 0.0, without={"n1", "n2"}) is None


def test_what_was_sent_to_a_node_takes_its_room_until_it_says_so_itself() -> None:
    membership = members(record(1, room=3))
    where = Placement(membership, "n0", random.Random(1))
    assert [where.place("publish", MODEL, 0.0) is not None for _ in range(4)] == [True, True, True, False]
    membership.heard("n1", record(1, room=1, publishers=2), 1.0)
    assert [where.place("publish", MODEL, 1.0) is not None for _ in range(2)] == [True, False]


def test_one_nodes_clients_are_spread_evenly() -> None:
    where = placement(*(record(number) for number in range(1, 21)))
    counts = collections.Counter(where.place("publish", MODEL, 0.0).node for _ in range(400))
    assert len(counts) == 20 and max(counts.values()) <= 22


def test_many_nodes_that_know_nothing_of_each_other_do_not_send_all_to_the_emptiest_one() -> None:
    records = [record(0, publishers=0, room=200), *(record(number, publishers=100, room=100) for number in range(1, 100))]
    chosen = [placement(*records, own="x", seed=seed).place("publish", MODEL, 0.0).node for seed in range(200)]
    assert 0 < chosen.count("n0") < 20 and len(set(chosen)) > 60


def test_larger_nodes_get_more() -> None:
    where = placement(record(1, room=900), record(2, room=100))
    counts = collections.Counter(where.place("publish", MODEL, 0.0).node for _ in range(500))
    assert 400 <= counts["n1"] <= 480


def test_alternates_are_other_nodes_and_not_always_the_same() -> None:
    others = [record(number) for number in range(1, 30)]
    where = placement(record(0), record(30, draining=True), record(31, fingerprint="another"), *others)
    seen = [where.alternates(MODEL, 0.0, own_address="ws://n0") for _ in range(200)]
    assert all(len(set(one)) == MAX_ALTERNATES for one in seen)
    assert {address for one in seen for address in one} == {one.address for one in others}
    assert placement(record(1), record(2, address="ws://n1")).alternates(MODEL, 0.0) == ["ws://n1"], "two nodes behind one address"
    assert placement(record(1)).alternates(MODEL, NODE_TTL_S) == []


def test_what_was_sent_to_nodes_that_are_gone_is_forgotten() -> None:
    membership = Membership()
    where = Placement(membership, "n0", random.Random(1))
    for number in range(1, 200):
        membership.heard(f"n{number}", record(number), float(number))
        assert where.place("publish", MODEL, float(number)) is not None
        membership.heard(f"n{number}", None, float(number))
    assert len(where._sent) < 10
