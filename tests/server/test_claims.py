"""Whose a name is: every race has one winner, whatever bus decides it, and a partition ends with one holder of each name."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from pathlib import Path

import pytest
from bus_rig import NATS_SERVER, MemorySite, NatsSite, Site, at
from live_rig import until
from programs import needs

from streamcodec.server.cluster.bus import Bus, BusError
from streamcodec.server.cluster.claims import ClaimOutcome, ClaimResult, Claims, ClaimStep, Purpose, decide
from streamcodec.server.cluster.node_lease import NodeLease
from streamcodec.server.cluster.records import Claim, NodeRecord, secret_hash

both = pytest.mark.parametrize("kind", ["memory", pytest.param("nats", marks=needs(NATS_SERVER))])
OURS = Claim("news", "n1", "ws://n1", "s1", secret_hash("ours"), 1.0)
THEIRS = Claim("news", "n2", "ws://n2", "s2", secret_hash("theirs"), 2.0)
MOVED = dataclasses.replace(OURS, node="n2", address="ws://n2")
NEXT = dataclasses.replace(OURS, session="s3", secret_hash=secret_hash("next"))
BEGIN, RESUME, RENEW = Purpose.BEGIN, Purpose.RESUME, Purpose.RENEW


@pytest.fixture
def site(kind: str, tmp_path: Path) -> Site:
    return MemorySite() if kind == "memory" else NatsSite(tmp_path)


@pytest.mark.parametrize("lives", [True, False])
@pytest.mark.parametrize("purpose", Purpose)
def test_a_free_name_is_created_and_an_own_one_is_kept_whatever_it_is_for(purpose: Purpose, lives: bool) -> None:
    assert decide(None, OURS, purpose, holder_lives=lives) is ClaimStep.CREATE
    assert decide(OURS, OURS, purpose, holder_lives=lives) is ClaimStep.KEEP
    assert decide(OURS, NEXT, purpose, holder_lives=lives) is ClaimStep.REPLACE, "a node decides alone about its own streams"


@pytest.mark.parametrize(
    ("found", "purpose", "lives", "step"),
    [
        (THEIRS, BEGIN, True, ClaimStep.YIELD),
        (THEIRS, RESUME, True, ClaimStep.YIELD),
        (THEIRS, RENEW, True, ClaimStep.YIELD),
        (THEIRS, BEGIN, False, ClaimStep.REPLACE),
        (THEIRS, RESUME, False, ClaimStep.REPLACE),
        (THEIRS, RENEW, False, ClaimStep.REPLACE),
        (MOVED, BEGIN, True, ClaimStep.YIELD),
        (MOVED, RESUME, True, ClaimStep.REPLACE),
        (MOVED, RENEW, True, ClaimStep.YIELD),
        (MOVED, RENEW, False, ClaimStep.REPLACE),
    ],
)
def test_another_nodes_name_is_taken_where_it_is_dead_or_the_publisher_proves_itself(
    found: Claim, purpose: Purpose, lives: bool, step: ClaimStep
) -> None:
    assert decide(found, OURS, purpose, holder_lives=lives) is step


class Node:
    """A node with a lease and claims."""

    def __init__(self, bus: Bus, number: int, ttl_s: float | None = None) -> None:
        self.bus = bus
        self.id = f"n{number}"
        self.record = NodeRecord(self.id, f"ws://{self.id}", 0, 0, 1, 1, 0.0, False, "model", "1")
        nodes = bus.store("nodes", ttl_s=ttl_s)
        self.lease = NodeLease(nodes, self.id)
        self.claims = Claims(bus.store("names"), nodes)

    def claim(self, secret: str, session: str = "s") -> Claim:
        return Claim("news", self.id, self.record.address, session, secret_hash(secret), 1.0)

    async def take(self, secret: str, purpose: Purpose = BEGIN) -> ClaimResult:
        return await self.claims.take(self.claim(secret), purpose)


async def nodes_at(site: Site, count: int) -> list[Node]:
    nodes = [Node(await site.node(), number) for number in range(1, count + 1)]
    for node in nodes:
        assert await node.lease.renew(node.record), "the first entry stands for one that had lapsed"
        assert not await node.lease.renew(node.record)
    return nodes


@both
def test_of_many_publishers_of_one_name_one_has_it_and_all_others_hear_who(site: Site) -> None:
    async def main(site: Site) -> None:
        nodes = await nodes_at(site, 4)
        results = await asyncio.gather(*(node.take(node.id) for node in nodes))
        [winner] = [node for node, result in zip(nodes, results, strict=True) if result.outcome is ClaimOutcome.CLAIMED]
        assert [result.outcome for result in results].count(ClaimOutcome.TAKEN) == 3
        assert {result.claim for result in results} == {winner.claim(winner.id)}
        assert await nodes[0].claims.find("news") == winner.claim(winner.id)
        assert (await winner.take(winner.id, RENEW)).outcome is ClaimOutcome.KEPT

    at(site, main)


@both
def test_a_dead_nodes_name_goes_to_one_of_those_who_want_it(site: Site) -> None:
    async def main(site: Site) -> None:
        dead, *others = await nodes_at(site, 4)
        assert (await dead.take("ours")).outcome.ours
        await dead.lease.end()
        assert await others[0].claims.find("news") is None
        assert await others[0].claims.find_any("news") == dead.claim("ours")
        results = await asyncio.gather(*(node.take(node.id) for node in others))
        assert sorted(result.outcome for result in results) == [ClaimOutcome.TAKEN, ClaimOutcome.TAKEN, ClaimOutcome.TAKEN_OVER]
        assert not await dead.claims.release(dead.claim("ours")), "it is another's by now"

    at(site, main)


@both
def test_a_publisher_that_proves_itself_takes_its_name_along(site: Site) -> None:
    async def main(site: Site) -> None:
        one, other = await nodes_at(site, 2)
        await one.take("ours")
        assert (await other.take("strangers", RESUME)).outcome is ClaimOutcome.TAKEN
        assert (await other.take("ours", RESUME)).outcome is ClaimOutcome.TAKEN_OVER
        moved = await one.take("ours", RENEW)
        assert (moved.outcome, moved.claim) == (ClaimOutcome.MOVED, other.claim("ours"))
        assert not await one.claims.release(one.claim("ours"))
        assert await one.claims.find("news") == other.claim("ours")

    at(site, main)


@both
def test_a_name_is_given_back_by_its_node_and_by_the_publishers_secret_alone(site: Site) -> None:
    async def main(site: Site) -> None:
        one, other = await nodes_at(site, 2)
        await one.take("ours")
        assert not await other.claims.free("news", "strangers")
        assert await other.claims.free("news", "ours")
        assert not await other.claims.free("news", "ours")
        await one.take("ours")
        assert await one.claims.release(one.claim("ours"))
        assert (await other.take("theirs")).outcome is ClaimOutcome.CLAIMED

    at(site, main)


@both
def test_what_is_no_claim_is_replaced(site: Site) -> None:
    async def main(site: Site) -> None:
        one, other = await nodes_at(site, 2)
        for junk in (b"junk", dataclasses.replace(other.claim("theirs"), name="another").pack()):
            await one.bus.store("names").put("news", junk)
            assert await one.claims.find("news") is None
            assert (await other.take("theirs")).outcome is ClaimOutcome.CLAIMED
            await other.claims.release(other.claim("theirs"))

    at(site, main)


@both
def test_a_partition_ends_with_one_publisher_and_the_other_side_hears_who(site: Site) -> None:
    async def main(site: Site) -> None:
        one, other = [Node(await site.node(), number, ttl_s=1.0) for number in (1, 2)]
        await one.lease.renew(one.record)
        await one.take("ours")
        site.cut(one.bus)
        await until(lambda: not one.bus.connected)
        with pytest.raises(BusError):
            await one.take("ours", RENEW)
        for wait_s in itertools.repeat(0.01):  # until the lease of the one is over; the other's lasts
            await other.lease.renew(other.record)
            result = await other.take("theirs")
            if result.outcome is not ClaimOutcome.TAKEN:
                break
            await asyncio.sleep(wait_s)
        assert result.outcome is ClaimOutcome.TAKEN_OVER
        await site.heal(one.bus)
        await until(lambda: one.bus.connected)
        await other.lease.renew(other.record)
        assert await one.lease.renew(one.record), "it knows that others may have its names by now"
        assert await one.take("ours", RENEW) == ClaimResult(ClaimOutcome.TAKEN, other.claim("theirs"))

    at(site, main)


def test_a_node_that_comes_back_just_in_time_keeps_its_name() -> None:
    """Another node has seen it dead, and is about to write: the renewal, which changes nothing, makes that write fail."""

    async def main(site: MemorySite) -> None:
        one, other = await nodes_at(site, 2)
        await one.take("ours")
        await one.lease.end()
        entry = await other.bus.store("names").get("news")
        assert entry is not None and not await other.claims.lives("n1")

        async def come_back() -> None:
            await one.lease.renew(one.record)
            assert (await one.take("ours", RENEW)).outcome is ClaimOutcome.KEPT

        names = other.bus.store("names")
        claims = Claims(Interrupted(names, come_back), other.bus.store("nodes"))
        await one.lease.end()
        result = await claims.take(other.claim("theirs"), BEGIN)
        assert result == ClaimResult(ClaimOutcome.TAKEN, one.claim("ours"))

    at(MemorySite(), main)


class Interrupted:
    """A store whose first update comes after something else."""

    def __init__(self, store: object, first: object) -> None:
        self._store = store
        self._first = [first]

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    async def update(self, key: str, value: bytes, revision: int) -> int:
        while self._first:
            await self._first.pop()()
        return await self._store.update(key, value, revision)


def test_a_name_that_changes_all_the_time_is_given_up() -> None:
    async def main(site: MemorySite) -> None:
        [one] = await nodes_at(site, 1)
        names = one.bus.store("names")

        class Restless(Interrupted):
            async def create(self, key: str, value: bytes) -> int:
                await names.put(key, b"junk")
                return await names.create(key, value)

            async def update(self, key: str, value: bytes, revision: int) -> int:
                await names.put(key, b"junk")
                return await names.update(key, value, revision)

        with pytest.raises(BusError, match="times meanwhile"):
            await Claims(Restless(names, None), one.bus.store("nodes")).take(one.claim("ours"), BEGIN)

    at(MemorySite(), main)
