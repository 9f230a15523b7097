"""A node's process: it serves as any server of a cluster does, says how it is, and drains when its pipe says so."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from typing import Any

from benchmarks.harness.machine import usage
from benchmarks.harness.models import Loading
from benchmarks.harness.processes import Address, run_loop
from streamcodec.gc_freeze import freeze_gc
from streamcodec.server import ClusterOptions, Limits, Server
from streamcodec.server.cluster.joining import nats_bus
from streamcodec.server.cluster.nats_settings import NatsSettings

__all__ = ["Node", "serve_node", "state_of"]

_FRAMES, _BATCHES = 6, (1, 2, 4)


@dataclass(frozen=True)
class Node:
    """What the process is told: the model, NATS's address as this node sees it, whether to replicate, and how long a drain may take."""

    loading: Loading
    nats: str
    replicate: bool = False
    drain_s: float = 8.0


def serve_node(pipe: Pipe, node: Node) -> None:
    """Serve until told to stop: sends an `Address`; answers "state" with `state_of`; "drain" lets it drain and stop, and has no answer."""
    codec = node.loading()
    codec.warm_up(_FRAMES)
    engine: Any = codec.engine
    if hasattr(engine, "wait_until_compiled"):
        # A node that has run for a while has compiled what it needs, and what is measured here is no start.
        engine.prepare(_FRAMES, _BATCHES, decoder=True)
        engine.wait_until_compiled()
    run_loop(_serve(pipe, codec, node))


async def _serve(pipe: Pipe, codec: Any, node: Node) -> None:
    joining = ClusterOptions(lambda: nats_bus(NatsSettings((node.nats,))), replicate=node.replicate)
    async with Server(codec, "127.0.0.1", port=0, limits=Limits(capacity=None), insecure=True, cluster=joining) as server:
        freeze_gc()
        pipe.send(Address(server.port, codec.fingerprint))
        over = [asyncio.create_task(_obey(pipe, server, node)), asyncio.create_task(server.until_over())]
        await asyncio.wait(over, return_when=asyncio.FIRST_COMPLETED)
        for task in over:
            task.cancel()


async def _obey(pipe: Pipe, server: Server, node: Node) -> None:
    while (asked := await asyncio.to_thread(pipe.recv)) != "stop":
        if asked == "drain":
            server.drain(node.drain_s)
        else:
            pipe.send(state_of(server))


def state_of(server: Server) -> dict[str, Any]:
    """What a node has now: names of streams whose publishers are here, what it follows and keeps, and what it has used."""
    cluster, registry = server.cluster, server.registry
    assert cluster is not None
    return {
        "streams": sorted(name for name, stream in registry.streams.items() if not stream.ending),
        "connected": cluster.bus.connected,
        "nodes": len(cluster.listed()),
        "moved_here": cluster.handover.taken,
        "restored": cluster.handover.restored,
        "lost_between_nodes": cluster.lost,
        "kept": {
            "streams": len(registry.streams),
            "links": len(cluster.links),
            "origins": len(cluster.origins.entries),
            "past streams": len(registry.past),
            "names of listeners": len(registry.listeners),
            "tasks": len(asyncio.all_tasks()),
        },
        "usage": usage(),
    }
