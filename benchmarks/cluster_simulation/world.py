"""The model around the real decisions: a bus whose stores answer after a while, and nodes that take one hello after the other."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from streamcodec.server.cluster.bus import BusError, Entry, Subscription
from streamcodec.server.cluster.claims import ClaimOutcome, Claims, Purpose
from streamcodec.server.cluster.keys import KeyTable
from streamcodec.server.cluster.membership import NODE_TTL_S, RENEW_EVERY_S, Membership, Placement
from streamcodec.server.cluster.node_lease import NodeLease
from streamcodec.server.cluster.records import Claim, NodeRecord, secret_hash

__all__ = ["MODEL", "Assumptions", "SimNode", "World"]

T = TypeVar("T")

MODEL = "sha256:simulated"


@dataclass(frozen=True)
class Assumptions:
    """What is assumed of networks and machines. Delays are one way, uniform between two times (s)."""

    bus_s: tuple[float, float] = (0.0003, 0.002)
    client_s: tuple[float, float] = (0.005, 0.05)
    hello_s: float = 0.002
    """What a hello costs a node, which takes one after the other."""
    publishers: int = 200
    """Publishers that a node has room for."""
    listeners: int = 12_000


@dataclass
class World:
    """All nodes and the bus. `counts` are the bus's operations by kind."""

    rng: random.Random
    conditions: Assumptions
    nodes: dict[str, SimNode] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.view = Membership()  # all nodes that are connected hear the same, so they share what they know
        self.tables = {"names": KeyTable(), "nodes": KeyTable(NODE_TTL_S, self._node_changed)}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def join(self) -> SimNode:
        """A new node, which renews its entry from now on."""
        node = SimNode(self, f"n{len(self.nodes)}")
        self.nodes[node.id] = node
        self.start(node)
        return node

    def start(self, node: SimNode) -> None:
        task = asyncio.get_running_loop().create_task(node.run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def up(self) -> list[SimNode]:
        return [node for node in self.nodes.values() if node.up]

    def at(self, address: str) -> SimNode:
        return self.nodes[address.removeprefix("ws://")]

    def holders(self) -> dict[str, list[SimNode]]:
        """The nodes that have a stream of each name now."""
        found: dict[str, list[SimNode]] = {}
        for node in self.up():
            for name in node.streams:
                found.setdefault(name, []).append(node)
        return found

    def cut(self, nodes: list[SimNode]) -> None:
        """Take the bus away from some nodes; their clients still have them."""
        frozen = copy.deepcopy(self.view)
        frozen.bus_lost(self.now)
        for node in nodes:
            node.cut = True
            node.sees(frozen)

    def heal(self, nodes: list[SimNode]) -> None:
        """Let them connect again, each within half a second."""
        for node in nodes:
            asyncio.get_running_loop().call_later(self.rng.uniform(0.0, 0.5), node.connected_again)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def delay(self, between: tuple[float, float]) -> float:
        return self.rng.uniform(*between)

    def _node_changed(self, key: str, entry: Entry | None) -> None:
        self.view.heard(key, None if entry is None else NodeRecord.parse(entry.value), self.now)


class SimNode:
    """One node: its claims, its lease and its placement are the server's own."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.id = name
        self.address = f"ws://{name}"
        self.up = True
        self.cut = False
        self.draining = False
        self.streams: dict[str, Claim] = {}
        self.listeners = 0
        self.yielded = 0
        self.admitted = 0
        """Publishers that have their place and not yet their name."""
        self._rng = random.Random(world.rng.getrandbits(64))
        self._busy_until = 0.0
        self._back = asyncio.Event()
        names, nodes = _SimStore(self, "names"), _SimStore(self, "nodes")
        self.claims = Claims(names, nodes)
        self.lease = NodeLease(nodes, name)
        self.sees(world.view)

    @property
    def record(self) -> NodeRecord:
        most = self.world.conditions
        load = len(self.streams) / most.publishers
        return NodeRecord(
            self.id,
            self.address,
            len(self.streams),
            self.listeners,
            max(0, most.publishers - len(self.streams)),
            max(0, most.listeners - self.listeners),
            load,
            self.draining,
            MODEL,
            "1",
        )

    def sees(self, view: Membership) -> None:
        """Know what a view knows."""
        self.placement = Placement(view, self.id, self._rng)

    def connected_again(self) -> None:
        self.cut = False
        self.sees(self.world.view)
        self._back.set()

    async def run(self) -> None:
        """Renew the entry, and each claim where it had lapsed or the bus was away."""
        await asyncio.sleep(self._rng.uniform(0, RENEW_EVERY_S))
        first = True
        while self.up:
            back = self._back.is_set()
            self._back.clear()
            with contextlib.suppress(BusError):
                lapsed = await self.lease.renew(self.record)
                if (lapsed and not first) or back:
                    await asyncio.gather(*(self.renew(claim) for claim in list(self.streams.values())))
                first = False
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RENEW_EVERY_S):
                    await self._back.wait()

    async def hello(self) -> None:
        """The wait for its turn, and what a hello takes."""
        self._busy_until = max(self._busy_until, self.world.now) + self.world.conditions.hello_s
        await asyncio.sleep(self._busy_until - self.world.now)

    async def publish(self, name: str, secret: str, purpose: Purpose) -> bool:
        """Take a publisher, as a server does: without the bus too."""
        claim = Claim(name, self.id, self.address, secret, secret_hash(secret), self.world.now)
        self.admitted += 1
        try:
            taken = (await self.claims.take(claim, purpose)).outcome.ours
        except BusError:
            taken = name not in self.streams
        finally:
            self.admitted -= 1
        if taken and self.up:
            self.streams[name] = claim
        return taken and self.up

    async def renew(self, claim: Claim) -> None:
        """Hold on to a claim after the bus was away, or let the stream end."""
        try:
            result = await self.claims.take(claim, Purpose.RENEW)
        except BusError:
            return  # it is away again
        if not result.outcome.ours and self.streams.get(claim.name) == claim:
            del self.streams[claim.name]
            self.yielded += result.outcome is ClaimOutcome.TAKEN

    async def end(self, name: str) -> None:
        """The publisher has ended its stream."""
        claim = self.streams.pop(name, None)
        if claim is not None:
            with contextlib.suppress(BusError):
                await self.claims.release(claim)

    def die(self) -> dict[str, Claim]:
        """Be gone without a word; returns what was published here."""
        self.up = False
        streams, self.streams = self.streams, {}
        return streams


class _SimStore:
    """A node's way to a table: there and back takes a while, and may fail on either way."""

    def __init__(self, node: SimNode, name: str) -> None:
        self._node = node
        self._name = name

    async def get(self, key: str) -> Entry | None:
        return await self._there_and_back("read", lambda table, _: table.get(key))

    async def create(self, key: str, value: bytes) -> int:
        return await self._there_and_back("written", lambda table, now: table.create(key, value, now))

    async def update(self, key: str, value: bytes, revision: int) -> int:
        return await self._there_and_back("written", lambda table, now: table.update(key, value, revision, now))

    async def put(self, key: str, value: bytes) -> int:
        return await self._there_and_back("written", lambda table, now: table.put(key, value, now))

    async def delete(self, key: str, revision: int | None = None) -> None:
        await self._there_and_back("written", lambda table, _: table.delete(key, revision))

    def watch(self, changed: Callable[[str, Entry | None], None]) -> Subscription:
        raise NotImplementedError("the nodes of a simulation share what they know")

    async def _there_and_back(self, kind: str, what: Callable[[KeyTable, float], T]) -> T:
        world = self._node.world
        await self._way()
        table = world.tables[self._name]
        table.expire(world.now)
        world.counts[f"{self._name} {kind}"] += 1
        try:
            return what(table, world.now)
        finally:
            await self._way()

    async def _way(self) -> None:
        await asyncio.sleep(self._node.world.delay(self._node.world.conditions.bus_s))
        if self._node.cut or not self._node.up:
            raise BusError("the bus cannot be reached")
