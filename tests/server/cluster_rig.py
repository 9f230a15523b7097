"""Several servers of one cluster in one process, over a bus in memory that a test can cut, and what their listeners have heard."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import numpy as np
import numpy.typing as npt
import server_rig
from counting_engine import counting_codec
from patience import MovableLoop, pass_time
from server_rig import PACKET, Heard, is_clean, listening, serving, small_limits, until

from streamcodec.protocol import Gap, Packet, StreamStart, unpack_codes
from streamcodec.server import ClusterOptions, Limits, Server
from streamcodec.server.cluster.bus import Bus
from streamcodec.server.cluster.joined import Joined
from streamcodec.server.cluster.memory import MemoryBus, MemoryHub

RESUMING = small_limits(resume_s=30.0)
MODEL = "counting"


def run(main: Coroutine[Any, Any, None], *, errors_expected: bool = False) -> None:
    """As every test of a server runs, without a model."""
    server_rig.run(main, errors_expected=errors_expected, warmed=False)


def voice(seed: int, packets: int) -> npt.NDArray[np.float32]:
    """So many packets of noise that a 16-bit wire does not change."""
    return np.random.default_rng(seed).integers(-(2**14), 2**14, packets * PACKET).astype(np.float32) / 32_768


async def feed(publisher: Any, x: Any, at: int, packets: int) -> None:
    """Publish so many packets of samples [T] or of codes [n_q, F] from the `at`-th on."""
    size = PACKET if x.ndim == 1 else 6
    for number in range(at, at + packets):
        await publisher.send(x[..., number * size : (number + 1) * size])


async def coded(stack: contextlib.AsyncExitStack, server: Server, stream: str = "a", **options: Any) -> Heard:
    """A listener of codes at a node."""
    return await listening(stack, server.url, stream, model=MODEL, **options)


async def as_pcm(stack: contextlib.AsyncExitStack, server: Server, stream: str = "a") -> Heard:
    """A listener of PCM at a node."""
    return await listening(stack, server.url, stream, format="pcm_f32le")


def live_codes(heard: Heard) -> npt.NDArray[np.int32]:
    """The codes [n_q, F] that a listener has got of the first stream that it has heard, without the history."""
    starts, packets = heard.of(StreamStart), heard.of(Packet)
    session = [packet for packet in packets if packet.seq >= starts[0].live_seq]
    return np.concatenate([unpack_codes(packet.payload, packet.n_q, 10) for packet in session], axis=1)


def pcm_of(heard: Heard) -> npt.NDArray[np.float32]:
    """The samples that a listener has got."""
    return np.concatenate([np.frombuffer(packet.payload, "<f4") for packet in heard.of(Packet)])


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
    memory_bus: Callable[[MemoryHub], MemoryBus] = MemoryBus,
    **options: Any,
) -> AsyncIterator[list[Server]]:
    """So many servers that know each other; each must be left as it was found."""
    clock = None
    if make_bus is None:
        hub = MemoryHub(moved_s)
        make_bus, clock = lambda: memory_bus(hub), moved_s
    async with contextlib.AsyncExitStack() as stack:
        cluster = ClusterOptions(make_bus, replicate=replicate, clock=clock)
        starting = [serving(counting_codec(), limits=limits, cluster=cluster, **options) for _ in range(count)]
        servers = [await stack.enter_async_context(one) for one in starting]
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
