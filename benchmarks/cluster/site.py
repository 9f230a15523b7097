"""The nodes of a run and their NATS: how all are started, and what is asked of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from benchmarks.cluster.nats_server import NatsProgram
from benchmarks.cluster.node import Node, serve_node
from benchmarks.harness.models import Loading
from benchmarks.harness.processes import Address, Process, Processes

__all__ = ["PATIENCE_S", "Site", "until"]

PATIENCE_S = 120.0
"""Whatever has not happened by then does not happen."""
_LOOK_EVERY_S = 0.1


class Site:
    """NATS, and nodes that know each other once `start` has returned."""

    def __init__(self, nats: NatsProgram, processes: Processes, loading: Loading) -> None:
        self.nats = nats
        self.nodes: list[Process] = []
        self.addresses: list[Address] = []
        self._processes = processes
        self._loading = loading

    async def start(self, urls: Sequence[str], *, replicate: bool = False) -> list[Address]:
        """Start a node for each address of NATS, and wait until each knows all others. Raises `RuntimeError`."""
        self.nodes = [self._processes.start(serve_node, Node(self._loading, url, replicate)) for url in urls]
        for node in self.nodes:
            self.addresses.append(await asyncio.to_thread(node.receive))

        async def all_known() -> bool:
            return all(state["nodes"] == len(self.nodes) for state in await self.states())

        await until(all_known, "the nodes do not know each other")
        return self.addresses

    async def states(self, *, but: int | None = None) -> list[dict[str, Any]]:
        """How each node is; `but` is the one that is not there any more."""
        return [await asyncio.to_thread(node.ask, "state") for at, node in enumerate(self.nodes) if at != but]


async def until(holds: Callable[[], bool | Awaitable[bool]], what: str, patience_s: float = PATIENCE_S) -> None:
    """Wait until something holds. Raises `RuntimeError`, which says `what`, where it does not come about."""
    give_up = time.perf_counter() + patience_s
    while not (found if isinstance(found := holds(), bool) else await found):
        if time.perf_counter() > give_up:
            raise RuntimeError(what)
        await asyncio.sleep(_LOOK_EVERY_S)
