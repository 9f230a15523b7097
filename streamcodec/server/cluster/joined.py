"""A server as a node of a cluster: what it tells the other nodes, what it asks them, and what it makes of what they say."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from prometheus_client.core import Metric

from streamcodec.errors import RemoteProtocolError, WireCode
from streamcodec.protocol import PublishHello
from streamcodec.protocol.fields import shown
from streamcodec.server.cluster.bus import Bus, BusError, Entry, Subscription
from streamcodec.server.cluster.claims import Claims, Purpose
from streamcodec.server.cluster.handover import HandOver
from streamcodec.server.cluster.link import LinkTools, StreamLink
from streamcodec.server.cluster.links import Links
from streamcodec.server.cluster.membership import NODE_TTL_S, RENEW_EVERY_S, Membership, Placement
from streamcodec.server.cluster.names import Names, NameTakenError
from streamcodec.server.cluster.node_lease import NodeLease
from streamcodec.server.cluster.origin import OriginEntry, OriginTable
from streamcodec.server.cluster.own_record import record_of
from streamcodec.server.cluster.questions import NodeAnswer, NodeQuestion
from streamcodec.server.cluster.records import NodeRecord, RecordError, new_node_id
from streamcodec.server.cluster.subjects import CLUSTER_NAME, Subjects
from streamcodec.server.draining import Role
from streamcodec.server.fanout.entry import FanOutEntry
from streamcodec.server.fanout.fan_out import FanOut
from streamcodec.server.feeder import Feeder
from streamcodec.server.info import StreamInfo
from streamcodec.server.metrics import counter_family, gauge_family
from streamcodec.server.registry import Registry
from streamcodec.server.stream import Stream

__all__ = ["NAMES", "NODES", "ClusterOptions", "Joined"]

NODES, NAMES = "nodes", "names"
"""The stores of nodes and of claims."""

log = logging.getLogger("streamcodec.server")


@dataclass(frozen=True)
class ClusterOptions:
    """Which cluster a server is a node of.

    `make_bus` makes the connection to all nodes. Clients reach this node at `address`; None: at the server's own. With `replicate`
    snapshots of its streams go to other nodes every second. With `shares_address` other nodes may have the same address. `clock` (s) says
    how old entries are; None: the loop's.
    """

    make_bus: Callable[[], Bus]
    name: str = CLUSTER_NAME
    address: str | None = None
    replicate: bool = False
    shares_address: bool = False
    clock: Callable[[], float] | None = None


class Joined:
    """A `Cluster` whose other nodes are reached over a bus. Call `open` when the server takes connections."""

    def __init__(self, options: ClusterOptions, registry: Registry, fingerprint: str, address: Callable[[], str]) -> None:
        self.node = new_node_id()
        self.bus = options.make_bus()
        self.subjects = Subjects(options.name)
        self.nodes = Membership()
        self.placement = Placement(self.nodes, self.node, random.Random())
        self.lost = 0  # packets, between nodes
        self.ticks = 0
        self._registry = registry
        self._fingerprint = fingerprint
        self._address = address
        self._shares_address = options.shares_address
        self._loop = asyncio.get_running_loop()
        self._now = options.clock or self._loop.time
        self._entries = self.bus.store(NODES, ttl_s=NODE_TTL_S)
        self._lease = NodeLease(self._entries, self.node)
        claims = Claims(self.bus.store(NAMES), self._entries)
        self.names = Names(self.bus, self.subjects, claims, self.node, address)
        self.origins = OriginTable()
        tools = LinkTools(self.bus, self.subjects, self.node, registry.worker, registry.limits, self, self._count_lost)
        self.links = Links(tools, claims, registry, self._suits, self._now)
        self.handover = HandOver(
            tools, registry, self.names, self.links, self.origins, self._lives, fingerprint, replicate=options.replicate
        )
        self._subscriptions: list[Subscription] = []
        self._ticking: asyncio.Task[None] | None = None
        self._reconciling: asyncio.Task[None] | None = None
        self._opened = self._closed = False

    async def open(self) -> None:
        """Become known to the other nodes; where the bus is not there, that is tried again and again."""
        self.bus.on_connected(self._connection_changed)
        self._subscriptions += [
            self._entries.watch(self._node_changed),
            self.bus.answer(self.subjects.node(self.node), self._answer),
        ]
        try:
            await self._open_bus()
        except BusError as exc:
            log.warning("the cluster cannot be reached, this server goes on alone until it is: %s", exc)
        self._ticking = self._loop.create_task(self._tick())

    async def _open_bus(self) -> None:
        await self.bus.open()
        self._opened = True
        await self._renew_entry()

    async def close(self) -> None:
        """Leave the cluster."""
        self._closed = True
        for task in (self._ticking, self._reconciling):
            if task is not None:
                task.cancel()
        await asyncio.gather(*(task for task in (self._ticking, self._reconciling) if task is not None), return_exceptions=True)
        await self.links.close()
        await self.names.close()
        await self.handover.close()
        for subscription in self._subscriptions:
            subscription.close()
        try:
            await self._lease.end()
        except BusError as exc:
            log.debug("the other nodes are not told that this one stops: %s", exc)
        await self.bus.close()

    # What the registry asks ----------------------------------------------------------------------------------------------------------

    async def claim(self, stream: Stream) -> None:
        name, session = stream.info.name, stream.fan_out.session
        try:
            await self.names.claim(stream, Purpose.BEGIN)
            # Who listens here to a stream that had the name has to have all of that first.
            await self.links.end(name, "another publisher has its name")
        except BaseException as exc:
            self.names.free(name, session)
            self.origins.remove(self.origins.entries[session])
            if isinstance(exc, NameTakenError):
                raise RemoteProtocolError(WireCode.STREAM_TAKEN, f"stream {name!r} has a publisher already") from exc
            raise

    async def take_over(self, hello: PublishHello) -> Stream | None:
        return await self.handover.take(hello)

    def stream_gone(self, stream: Stream) -> None:
        session = stream.fan_out.session
        self.names.free(stream.info.name, session)
        self.links.stream_gone(stream.info.name)
        if (entry := self.origins.entries.get(session)) is not None:
            self._loop.call_later(self._registry.limits.resume_s, self.origins.remove, entry)

    def stream_moved(self, stream: Stream) -> None:
        self.handover.moved_away(stream)

    async def keep(self, stream: Stream) -> bool:
        return await self.handover.keep(stream)

    def entry(self, info: StreamInfo, fan_out: FanOut, behind: FanOutEntry) -> FanOutEntry:
        subject, bus = self.subjects.live(fan_out.session), self.bus
        entry = OriginEntry(info, fan_out, behind, lambda data: bus.publish(subject, data), self._now)
        self.origins.entries[fan_out.session] = entry
        return entry

    async def find(self, name: str, session: str | None = None) -> None:
        await self.links.find(name, session)

    def wanted(self, name: str) -> None:
        self.links.wanted(name)

    def unwanted(self, name: str) -> None:
        self.links.unwanted(name)

    def better(self, role: Role) -> str | None:
        # Where a client goes that is sent to this address again, nobody knows.
        now, address = self._now(), self._address()
        here = [record.node for record in self.nodes.living(now) if record.address == address]
        best = self.placement.place(role, self._fingerprint, now, without=here)
        return None if best is None else best.address

    def node_of(self, name: str) -> str | None:
        link = self.links.of(name)
        record = None if link is None or link.node is None else self.nodes.record(link.node)
        return None if record is None or record.address == self._address() else record.address

    async def where(self, name: str) -> str | None:
        return self.node_of(name) or await self.names.elsewhere(name)

    @property
    def moves(self) -> bool:
        registry, address = self._registry, self._address()
        # The processes of one machine drain together, and nobody is sent to his own address.
        alone = self._shares_address and all(one.address == address for one in self.nodes.living(self._now()))
        return registry.limits.resume_s > 0 and registry.worker.engine.config.granularity == "frames" and not alone

    @property
    def reached(self) -> bool:
        return self.bus.connected

    @property
    def alternates(self) -> tuple[str, ...]:
        return tuple(self.placement.alternates(self._fingerprint, self._now(), own_address=self._address()))

    @property
    def named(self) -> tuple[str, ...]:
        address = self._address()
        beside = self._shares_address and any(one.address == address and one.node != self.node for one in self.nodes.living(self._now()))
        return (address, *self.alternates) if beside else self.alternates

    def _suits(self, node: str) -> bool:
        """Whether a node lives and its streams can be heard here: they are of this node's model."""
        record = self.nodes.record(node)
        if record is not None and record.fingerprint != self._fingerprint:
            log.warning("the node at %s has another model: its streams are not heard here", record.address)
            return False
        return self._lives(node)

    def _lives(self, node: str) -> bool:
        return node == self.node or self.nodes.lives(node, self._now())

    # What links report ---------------------------------------------------------------------------------------------------------------

    def packet_waited(self, now_s: float, wait_s: float) -> None:
        self._registry.packet_waited(now_s, wait_s)

    def decoder_closed(self, stream: Feeder) -> None:
        self._registry.decoder_closed(stream)

    def origin_unknown(self, link: StreamLink) -> None:
        self.links.origin_unknown(link)

    def link_gone(self, link: Feeder) -> None:
        self._registry.link_gone(link)
        self.links.link_gone(link)

    def _count_lost(self, packets: int) -> None:
        self.lost += packets
        self._registry.metrics.gap("link")

    # The bus -------------------------------------------------------------------------------------------------------------------------

    async def _answer(self, data: bytes) -> bytes:
        try:
            question = NodeQuestion.parse(data)
        except RecordError as exc:
            log.warning("%s", exc)
            return NodeAnswer("unknown").pack()
        if question.kind == "give":
            return await self.handover.give(question)
        return self.origins.answer(question).pack()

    def _node_changed(self, node: str, entry: Entry | None) -> None:
        try:
            record = None if entry is None else NodeRecord.parse(entry.value)
            if record is not None and record.node != node:
                raise RecordError(f"the store of nodes has node {record.node} under the key {shown(node)}")
        except RecordError as exc:
            log.warning("%s", exc)
            return
        was = self.nodes.record(node) is not None
        self.nodes.heard(node, record, self._now())
        if node == self.node or was is (record is not None):
            return
        if record is None:
            log.info("a node of the cluster is gone: %s", node)
            self.origins.forget(node)
            self.links.node_gone(node)
        else:
            log.info("a node of the cluster is there: %s at %s", node, record.address)
            self.links.node_came(node)

    def _connection_changed(self, connected: bool) -> None:
        if self._closed:
            return
        if not connected:
            self.nodes.bus_lost(self._now())
            log.warning("the cluster is not reached any longer: streams go on here, and other nodes do not hear them")
            return
        self.nodes.bus_back(self._now())
        log.info("the cluster is reached")
        self.links.bus_back()
        self._reconcile_soon()

    def _reconcile_soon(self) -> None:
        if self._reconciling is None or self._reconciling.done():
            self._reconciling = self._loop.create_task(self._reconcile())

    async def _reconcile(self) -> None:
        """After the bus was gone: the store decides whose each name is."""
        try:
            await self._lease.renew(self._own_record())
            await self.names.free_what_is_over()
            for name, stream in list(self._registry.streams.items()):
                if self._registry.streams.get(name) is stream and not stream.ending:
                    await self._keep_name(stream)
        except BusError as exc:
            log.warning("the names of this node's streams could not be compared with the other nodes': %s", exc)

    async def _keep_name(self, stream: Stream) -> None:
        try:
            await self.names.renew(stream)
        except NameTakenError as exc:
            if self._registry.streams.get(stream.info.name) is stream:  # it may have been given away meanwhile
                self.handover.lost_to(stream, exc.claim)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(RENEW_EVERY_S)
            try:
                await (self._renew_entry() if self._opened else self._open_bus())
                if not self.names.settled:
                    self._reconcile_soon()
            except BusError as exc:
                log.debug("this node's entry could not be renewed: %s", exc)
            self.origins.forget()
            self.links.tick()
            self.handover.tick()
            self.ticks += 1

    def _own_record(self) -> NodeRecord:
        return record_of(self.node, self._address(), self._registry, self._fingerprint)

    async def _renew_entry(self) -> None:
        if await self._lease.renew(self._own_record()):
            self._reconcile_soon()

    # For whoever runs the node -------------------------------------------------------------------------------------------------------

    def listed(self) -> list[dict[str, object]]:
        """All nodes, this one first."""
        others = [record for record in self.nodes.living(self._now()) if record.node != self.node]
        records = [self._own_record(), *sorted(others, key=lambda one: one.address)]
        return [record.listed(here=record.node == self.node) for record in records]

    def families(self) -> Iterable[Metric]:
        """For `Metrics.collect_from`."""
        yield gauge_family("cluster_bus_connected", "Whether the message bus of the cluster is reached.", float(self.bus.connected))
        yield gauge_family("cluster_nodes", "Nodes of the cluster that live, this one included.", len(self.listed()))
        yield gauge_family("cluster_links", "Streams of other nodes that are followed here.", len(self.links))
        yield gauge_family("cluster_joined", "Streams of this node that others follow, once for each of them.", self.origins.num_joined)
        yield gauge_family("cluster_unclaimed", "Streams whose names no other node knows of.", self.names.num_unclaimed)
        yield counter_family("cluster_messages_published", "Messages of streams that went to other nodes.", self.origins.published)
        yield counter_family("cluster_packets_lost", "Packets that were lost between nodes, and told as gaps.", self.lost)
        yield counter_family("cluster_copies", "Copies of streams' states that went to the bus.", self.handover.copied)
        yield counter_family("cluster_restored", "Streams that went on here from a copy, as their node was gone.", self.handover.restored)
        for direction, count in (("in", self.handover.taken), ("out", self.handover.given)):
            yield counter_family(f"cluster_handovers_{direction}", "Streams that moved to or from another node.", count)
