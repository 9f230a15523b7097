"""Clients that look for a place: the addresses that they were told, one hop after the other, as a client of the protocol does."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from benchmarks.cluster_simulation.world import MODEL, SimNode, World
from streamcodec.server.draining import Role

__all__ = ["MAX_HOPS", "Placed", "find_place"]

MAX_HOPS = 5
"""So often a client follows a redirection before it waits and begins anew."""
_AGAIN_S = (0.5, 1.5)


@dataclass(frozen=True)
class Placed:
    """Where a client came to, how long that took (s), and how many nodes it asked."""

    node: SimNode
    after_s: float
    hops: int


async def find_place(
    world: World, role: Role, told: list[str], take: Callable[[SimNode], Awaitable[bool]], rng: random.Random, within_s: float
) -> Placed | None:
    """Let a client find a node: first those that it was told of, then any. `take` lets a node with room take it, or not.

    None where nobody has taken it in time.
    """
    began, hops = world.now, 0
    while world.now - began < within_s:
        targets = [*told] or [rng.choice(world.up()).address]
        told = []
        redirected = 0
        while targets:
            node = world.at(targets.pop(0))
            await asyncio.sleep(2 * world.delay(world.conditions.client_s))
            hops += 1
            if not node.up:
                continue
            await node.hello()
            if has_room(node, role) and await take(node):
                return Placed(node, world.now - began, hops)
            other = node.placement.place(role, MODEL, world.now)
            if other is not None and redirected < MAX_HOPS:
                redirected += 1
                targets.insert(0, other.address)
        await asyncio.sleep(rng.uniform(*_AGAIN_S))
    return None


def has_room(node: SimNode, role: Role) -> bool:
    """Whether a node admits one more."""
    if not node.up or node.draining:
        return False
    most = node.world.conditions
    return len(node.streams) + node.admitted < most.publishers if role == "publish" else node.listeners < most.listeners
