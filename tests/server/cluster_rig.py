"""Several servers of one cluster in one process, over a bus in memory that a test can cut, and what their listeners have heard."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from patience import MovableLoop, pass_time
from server_rig import is_clean, serving, small_limits, until

from streamcodec.protocol import Gap, Packet
from streamcodec.server import ClusterOptions, Limits, Server
from streamcodec.server.cluster.bus import Bus
from streamcodec.server.cluster.joined import Joined
from streamcodec.server.cluster.memory import MemoryBus, MemoryHub

__all__ = ["RESUMING", "cluster_of", "contents", "cut", "heal", "knows", "nodes", "seconds"]

RESUMING = small_limits(resume_s=30.0)


def cluster_of(server: Server) -> Joined:
    assert server.cluster is not None
    return server.cluster


@contextlib.asynccontextmanager
async def nodes(
    count: int,
    make_bus: Callable[[], Bus] | None = None,
    *,
    limits: Limits = RESUMING,
    replicate: bool = False,
    **options: Any,
) -> AsyncIterator[list[Server]]:
    """So many servers that know each other; each must be left as it was found."""
    clock = None
    if make_bus is None:
        hub = MemoryHub(moved_s)
        make_bus, clock = lambda: MemoryBus(hub), moved_s
    async with contextlib.AsyncExitStack() as stack:
        cluster = ClusterOptions(make_bus, replicate=replicate, clock=clock)
        servers = [await stack.enter_async_context(serving(limits=limits, cluster=cluster, **options)) for _ in range(count)]
        await until(lambda: all(knows(one, other) for one in servers for other in servers), "the nodes do not know each other")
        yield servers
        for server in servers:
            await is_clean(server)
        if clock is not None:  # links are kept for a while after their last listener
            await seconds(8, servers)
            await until(lambda: not any(server.registry.links for server in servers), "links are left")


def moved_s() -> float:
    """A clock that stands still unless a test moves it: however slow the machine is, no node counts as dead."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, MovableLoop)
    return loop.moved_s


async def seconds(count: int, servers: list[Server]) -> None:
    """Let so many seconds pass, in each of which all nodes do what they do every second."""
    for _ in range(count):
        renewed = [cluster_of(server).ticks for server in servers]
        await pass_time(1.0)
        await until(lambda: all(cluster_of(server).ticks > was for server, was in zip(servers, renewed, strict=True)))  # noqa: B023
        buses = [cluster_of(server).bus for server in servers]
        for bus in buses:
            assert isinstance(bus, MemoryBus)
            bus.hub.expire()
        for _ in range(10):
            await asyncio.sleep(0)


def cut(server: Server) -> None:
    """Take the bus away from a node."""
    bus = cluster_of(server).bus
    assert isinstance(bus, MemoryBus)
    bus.hub.cut(bus)


def heal(server: Server) -> None:
    """Give the bus back to a node."""
    bus = cluster_of(server).bus
    assert isinstance(bus, MemoryBus)
    bus.hub.heal(bus)


def knows(server: Server, other: Server) -> bool:
    """Whether one server knows that the other one lives."""
    return cluster_of(server)._lives(cluster_of(other).node)


def contents(heard: Any) -> list[tuple[Any, ...]]:
    """What a listener has heard, without its own beginning: numbers, epochs and payloads."""
    return [
        (event.seq, event.epoch, event.payload) if isinstance(event, Packet) else (event.first_seq, event.count, event.reason)
        for event in heard.events
        if isinstance(event, (Packet, Gap))
    ]

