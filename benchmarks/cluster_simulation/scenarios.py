"""What happens to the cluster, one thing at a time, and the figures of each."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence

import numpy as np

from benchmarks.cluster_simulation.crowd import find_place
from benchmarks.cluster_simulation.virtual_time import run_virtually
from benchmarks.cluster_simulation.world import MODEL, Assumptions, SimNode, World
from benchmarks.harness.sections import Figures
from streamcodec.server.cluster.claims import Purpose
from streamcodec.server.cluster.membership import RENEW_EVERY_S
from streamcodec.server.cluster.records import Claim, NodeRecord, secret_hash
from streamcodec.server.cluster.subjects import escaped

__all__ = ["RULES", "drain", "growth", "herd", "partition"]

_SETTLED_S = 3.0
_GIVE_UP_S = 60.0
_LIFE_S = 600.0
RULES = ("two choices", "any node", "the emptiest")


async def _settled(world: World, nodes: int) -> list[SimNode]:
    there = [world.join() for _ in range(nodes)]
    await asyncio.sleep(_SETTLED_S)
    return there


def herd(nodes: int, clients: int, fullness: tuple[float, float], seed: int) -> Figures:
    """One node dies, and all of its listeners look for another; the other nodes are as full as a random number between two says."""

    async def main() -> Figures:
        world = World(random.Random(seed), Assumptions())
        there = await _settled(world, nodes)
        dead, *others = there
        most = world.conditions.listeners
        for node in others:
            node.listeners = round(most * min(1.0, world.rng.uniform(*fullness)))
        dead.listeners = clients
        await asyncio.sleep(2 * RENEW_EVERY_S)
        before = {node.id: node.listeners for node in others}
        told = [dead.placement.alternates(MODEL, world.now) for _ in range(clients)]
        dead.die()

        async def take(node: SimNode) -> bool:
            node.listeners += 1
            return True

        chances = [random.Random(world.rng.getrandbits(64)) for _ in range(clients)]
        found = await asyncio.gather(
            *(find_place(world, "listen", addresses, take, rng, _GIVE_UP_S) for addresses, rng in zip(told, chances, strict=True))
        )
        placed = [one for one in found if one is not None]
        arrived = [node.listeners - before[node.id] for node in others if before[node.id] < most]
        full = [node.listeners / most for node in others]
        await world.close()
        return {
            "nodes": nodes,
            "clients": clients,
            "spare": int(sum(most - there for there in before.values())),
            "placed": len(placed),
            "after_s": _spread([one.after_s for one in placed]),
            "hops": _spread([float(one.hops) for one in placed]),
            "arrived_max_over_mean": float(max(arrived) / np.mean(arrived)),
            "fullest": float(max(full)),
            "times": [float(value) for value in np.quantile([one.after_s for one in placed], np.linspace(0, 1, 101))],
        }

    return run_virtually(main())


def drain(nodes: int, draining: int, publishers: int, rule: str, seed: int) -> Figures:
    """Some nodes drain at once, and each sends its publishers to others by one of `RULES`."""

    async def main() -> Figures:
        world = World(random.Random(seed), Assumptions(publishers=2 * publishers))
        there = await _settled(world, nodes)
        for node in there:
            _fill(world, node, publishers)
        await asyncio.sleep(2 * RENEW_EVERY_S)
        leaving, staying = there[:draining], there[draining:]
        for node in leaving:
            node.draining = True
        await asyncio.sleep(2 * RENEW_EVERY_S)
        hops: list[float] = []

        async def move(node: SimNode, claim: Claim) -> None:
            chosen = _chosen(rule, node, world)
            if chosen is None:
                return

            async def take(target: SimNode) -> bool:
                return await target.publish(claim.name, claim.session, Purpose.RESUME)

            placed = await find_place(world, "publish", [chosen.address], take, world.rng, _GIVE_UP_S)
            if placed is not None:
                hops.append(float(placed.hops))

        await asyncio.gather(*(move(node, claim) for node in leaving for claim in list(node.streams.values())))
        loads = [len(node.streams) for node in staying]
        await world.close()
        return {
            "rule": rule,
            "nodes": nodes,
            "draining": draining,
            "publishers": draining * publishers,
            "placed": len(hops),
            "hops": _spread(hops),
            "max_over_mean": float(max(loads) / np.mean(loads)),
            "fullest": max(loads) / world.conditions.publishers,
        }

    return run_virtually(main())


def _chosen(rule: str, node: SimNode, world: World) -> NodeRecord | None:
    """Where a node sends a client: as the server does, or by another rule, to compare with."""
    if rule == RULES[0]:
        return node.placement.place("publish", MODEL, world.now)
    known = [record for record in world.view.living(world.now) if not record.draining and record.room]
    if rule == RULES[1]:
        return world.rng.choice(known)
    return min(known, key=lambda record: record.publishers)


def partition(nodes: int, cut: int, streams: int, contested: int, lasts_s: float, seed: int) -> Figures:
    """Some nodes lose the bus for a while, and publishers on both sides begin streams of the same names."""

    async def main() -> Figures:
        world = World(random.Random(seed), Assumptions())
        there = await _settled(world, nodes)
        away, others = there[:cut], there[cut:]
        for number in range(streams):
            _fill(world, there[number % nodes], 1)
        await asyncio.sleep(RENEW_EVERY_S)
        world.cut(away)
        names_away = [name for node in away for name in node.streams][:contested]
        names_here = [name for node in others for name in node.streams][:contested]
        new = [f"new{number}" for number in range(contested)]
        begun: Counter[str] = Counter()

        async def begin(node: SimNode, name: str) -> None:
            """A publisher that tries again for as long as the partition lasts, as each does."""
            secret = f"{node.id}-{name}"
            await asyncio.sleep(world.rng.uniform(0, lasts_s / 2))
            while any(one.cut for one in away):
                if await node.publish(name, secret, Purpose.BEGIN):
                    begun["taken" if not node.cut else "without the bus"] += 1
                    return
                await asyncio.sleep(world.rng.uniform(0.5, 1.5))

        trying = [asyncio.ensure_future(begin(world.rng.choice(others), name)) for name in [*names_away, *new]]
        trying += [asyncio.ensure_future(begin(world.rng.choice(away), name)) for name in [*names_here, *new]]
        await asyncio.sleep(lasts_s)
        doubles_before = sum(len(holders) > 1 for holders in world.holders().values())
        world.heal(away)
        healed = world.now
        resolved_s = 0.0
        while world.now - healed < 10.0:
            await asyncio.sleep(0.01)
            if sum(len(holders) > 1 for holders in world.holders().values()):
                resolved_s = world.now - healed
        await asyncio.gather(*trying)
        holders = world.holders()
        claims = {key: Claim.parse(entry.value) for key, entry in world.tables["names"].entries().items()}
        agreed = sum(len(found) == 1 and claims.get(escaped(name)) == found[0].streams[name] for name, found in holders.items())
        await world.close()
        return {
            "nodes": nodes,
            "cut": cut,
            "lasts_s": lasts_s,
            "streams": streams,
            "contested": 3 * contested,
            "begun": dict(begun),
            "doubles_at_the_end": doubles_before,
            "doubles_after": sum(len(found) > 1 for found in holders.values()),
            "names_after": len(holders),
            "agreed_after": agreed,
            "orphans_after": len(claims) - len(holders),
            "ended": sum(node.yielded for node in there),
            "resolved_s": resolved_s,
        }

    return run_virtually(main())


def growth(nodes: int, streams: int, lasts_s: float, seed: int) -> Figures:
    """Streams come and go, nodes die and others join: what the stores have to carry, and how soon publishers go on elsewhere."""

    async def main() -> Figures:
        room = max(200, 2 * -(-streams // nodes))
        world = World(random.Random(seed), Assumptions(publishers=room))
        there = await _settled(world, nodes)
        for number in range(streams):
            _fill(world, there[number % nodes], 1)
        await asyncio.sleep(RENEW_EVERY_S)
        world.counts.clear()
        resumed: list[float] = []
        hops: list[float] = []
        tasks: list[asyncio.Future[None]] = []
        failed = 0

        async def come_and_go() -> None:
            number = 0
            while True:
                await asyncio.sleep(world.rng.expovariate(max(1e-9, streams / _LIFE_S)))
                number += 1
                tasks.append(asyncio.ensure_future(_new_stream(world, f"later{number}")))
                busy = [node for node in world.rng.sample(world.up(), min(30, len(world.up()))) if node.streams]
                if busy:
                    node = world.rng.choice(busy)
                    tasks.append(asyncio.ensure_future(node.end(next(iter(node.streams)))))

        async def resume(claim: Claim, told: list[str]) -> None:
            nonlocal failed

            async def take(node: SimNode) -> bool:
                return await node.publish(claim.name, claim.session, Purpose.RESUME)

            placed = await find_place(world, "publish", told, take, world.rng, _GIVE_UP_S)
            if placed is None:
                failed += 1
            else:
                resumed.append(placed.after_s)
                hops.append(float(placed.hops))

        coming = asyncio.ensure_future(come_and_go())
        deaths = 5
        for _ in range(deaths):
            await asyncio.sleep(lasts_s / deaths)
            dying = max(world.rng.sample(world.up(), min(20, nodes)), key=lambda node: len(node.streams))
            told = {name: dying.placement.alternates(MODEL, world.now) for name in dying.streams}
            tasks += [asyncio.ensure_future(resume(claim, told[name])) for name, claim in dying.die().items()]
            world.join()
        coming.cancel()
        await asyncio.gather(*tasks)
        counted = {kind: count / lasts_s for kind, count in sorted(world.counts.items())}
        loads = [len(node.streams) for node in world.up()]
        doubles = sum(len(found) > 1 for found in world.holders().values())
        await world.close()
        return {
            "nodes": nodes,
            "streams": streams,
            "seconds": lasts_s,
            "deaths": deaths,
            "per_s": counted,
            "resumed": len(resumed),
            "failed": failed,
            "resumed_s": _spread(resumed),
            "hops": _spread(hops),
            "doubles": doubles,
            "max_over_mean": float(max(loads) / np.mean(loads)) if any(loads) else None,
        }

    return run_virtually(main())


async def _new_stream(world: World, name: str) -> None:
    async def take(node: SimNode) -> bool:
        return await node.publish(name, name, Purpose.BEGIN)

    await find_place(world, "publish", [], take, world.rng, _GIVE_UP_S)


def _fill(world: World, node: SimNode, publishers: int) -> None:
    """Let streams be there, with their claims, without the time that it takes to begin them."""
    for _ in range(publishers):
        name = f"s{world.tables['names'].revision}"
        claim = Claim(name, node.id, node.address, name, secret_hash(name), 0.0)
        world.tables["names"].create(escaped(name), claim.pack(), world.now)
        node.streams[name] = claim


def _spread(values: Sequence[float]) -> Figures | None:
    if not values:
        return None
    return {
        "mean": float(np.mean(values)),
        **{f"p{part}": float(np.quantile(values, part / 100)) for part in (50, 99)},
        "max": float(max(values)),
    }
