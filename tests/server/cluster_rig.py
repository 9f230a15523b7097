"""Several servers of one cluster in one process, over a bus in memory that a test can cut, and what their listeners have heard."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from patience import pass_time
from server_rig import is_clean, serving, small_limits, until

from streamcodec.protocol import Gap, Packet
from streamcodec.server import ClusterOptions, Limits, Server
from streamcodec.server.cluster.bus import Bus
from streamcodec.server.cluster.joined import Joined
from streamcodec.server.cluster.memory import MemoryBus, MemoryHub

__all__ = ["RESUMING", "cluster_of", "contents", "knows", "nodes", "unnumbered"]

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
    if make_bus is None:
        hub = MemoryHub()
        make_bus = lambda: MemoryBus(hub)  # noqa: E731
    async with contextlib.AsyncExitStack() as stack:
        cluster = ClusterOptions(make_bus, replicate=replicate)
        servers = [await stack.enter_async_context(serving(limits=limits, cluster=cluster, **options)) for _ in range(count)]
        await until(lambda: all(knows(one, other) for one in servers for other in servers), "the nodes do not know each other")
        yield servers
        for server in servers:
            await is_clean(server)
        # Links are kept for a while after their last listener.
        for _ in range(8):
            await pass_time(1.0)
        await until(lambda: not any(server.registry.links for server in servers), "links are left")


def knows(server: Server, other: Server) -> bool:
    """Whether one server knows that the other one lives."""
    return cluster_of(server).nodes.lives(cluster_of(other).node, asyncio.get_running_loop().time())


def contents(heard: Any) -> list[tuple[Any, ...]]:
    """What a listener has heard, without its own beginning: numbers, epochs and payloads."""
    return [
        (event.seq, event.epoch, event.payload) if isinstance(event, Packet) else (event.first_seq, event.count, event.reason)
        for event in heard.events
        if isinstance(event, (Packet, Gap))
    ]


def unnumbered(heard: Any) -> list[Gap]:
    """The gaps that a listener was told of."""
    gaps: list[Gap] = heard.of(Gap)
    return gaps
