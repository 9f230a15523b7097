"""What a cluster of some streams and listeners has to carry, as arithmetic on what one message, one write and one node can do."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from streamcodec.server.cluster.links import ALIVE_EVERY_S
from streamcodec.server.cluster.membership import RENEW_EVERY_S

__all__ = ["PACKETS_PER_S", "Bounds", "ClusterLoad", "Costs", "Regions", "Room", "Sizes", "breaks_first", "grow", "part"]

PACKETS_PER_S = 12.5
_COPIES_PER_S = 1.0


@dataclass(frozen=True)
class Room:
    """What one node can do: so many live publishers of PCM, or so many listeners of codes; both share its cores."""

    publishers: int
    listeners: int


@dataclass(frozen=True)
class Sizes:
    """Bytes on the way to NATS and from it, with the lines of its protocol: of a packet, a node's record, and a copy of a stream."""

    packet_in: int
    packet_out: int
    record_out: int
    copy_in: int


@dataclass(frozen=True)
class Costs:
    """Processor time (us): of a node for a message that it sends, takes, or a write; of NATS for a message in, one out, and a write.

    `nats_copy_us` is NATS's for the write of a stream's copy, which is much longer than others.
    """

    send_us: float
    take_us: float
    write_us: float
    nats_in_us: float
    nats_out_us: float
    nats_write_us: float
    nats_copy_us: float


@dataclass(frozen=True)
class Bounds:
    """What there is of each: parts of a node's event loop for the bus, cores and bits per second of one NATS server."""

    node_cores: float = 0.5
    nats_cores: float = 8.0
    nats_bits_per_s: float = 10e9


@dataclass(frozen=True)
class ClusterLoad:
    """What `grow` finds; all rates are per second.

    `followed` is at how many other nodes a stream is heard, on average. Names with `node_` are of each node, with `nats_` of all of NATS.
    `used` says how much of each bound that is, 1 for all of it, by what it is.
    """

    nodes: int
    followed: float
    node_packets_in: float
    node_packets_to_listeners: float
    node_bus_out: float
    node_bus_in: float
    node_renewals: float
    node_bits: float
    node_cores: float
    subscriptions: float
    nats_messages: float
    nats_bits: float
    nats_cores: float
    writes: float
    copies: float
    copy_bits: float
    used: dict[str, float]


def breaks_first(used: Mapping[str, float]) -> str:
    """What is used most, of `ClusterLoad.used`."""
    return max(used, key=lambda what: used[what])


def grow(streams: int, listeners: int, life_s: float, room: Room, sizes: Sizes, costs: Costs, bounds: Bounds) -> ClusterLoad:
    """The load of `streams`, each with `listeners` and over after `life_s`, on as many nodes as have room for them.

    Listeners come to any node, as those of a load balancer do.
    """
    nodes = max(2, math.ceil(streams / room.publishers + streams * listeners / room.listeners))
    anywhere = 1.0 - 1.0 / nodes
    followed = (nodes - 1) * (1.0 - anywhere**listeners)
    heard_elsewhere = 1.0 - (1.0 / nodes) ** listeners
    packets = PACKETS_PER_S * streams
    out, into = packets * heard_elsewhere / nodes, packets * followed / nodes
    renewals = nodes / RENEW_EVERY_S
    questions = min(nodes - 1.0, streams * followed / nodes) / ALIVE_EVERY_S  # of each node; as many come to it
    writes = nodes / RENEW_EVERY_S + 2 * streams / life_s
    copies = _COPIES_PER_S * streams
    node_us = (
        (out + 2 * questions) * costs.send_us
        + (into + 2 * questions + renewals) * costs.take_us
        + (writes + copies) / nodes * costs.write_us
    )
    messages_in = nodes * (out + 2 * questions)
    messages_out = nodes * (into + 2 * questions + renewals)
    nats_us = messages_in * costs.nats_in_us + messages_out * costs.nats_out_us + writes * costs.nats_write_us + copies * costs.nats_copy_us
    heard_bytes = nodes * (into * sizes.packet_out + renewals * sizes.record_out)
    copy_bits = 8.0 * copies * sizes.copy_in
    nats_bits = 8.0 * heard_bytes
    return ClusterLoad(
        nodes=nodes,
        followed=followed,
        node_packets_in=packets / nodes,
        node_packets_to_listeners=packets * listeners / nodes,
        node_bus_out=out,
        node_bus_in=into,
        node_renewals=renewals,
        node_bits=8.0 * (out * sizes.packet_in + into * sizes.packet_out + renewals * sizes.record_out),
        node_cores=node_us / 1e6,
        subscriptions=streams * followed + streams * nodes * (1.0 - anywhere**listeners) + 2.0 * nodes,
        nats_messages=messages_in + messages_out,
        nats_bits=nats_bits,
        nats_cores=nats_us / 1e6,
        writes=writes,
        copies=copies,
        copy_bits=copy_bits,
        used={
            "each node's loop": node_us / 1e6 / bounds.node_cores,
            "NATS: renewals that all nodes hear": nodes * renewals * costs.nats_out_us / 1e6 / bounds.nats_cores,
            "NATS: audio": (nodes * out * costs.nats_in_us + nodes * into * costs.nats_out_us) / 1e6 / bounds.nats_cores,
            "NATS: copies (`--replicate`)": copies * costs.nats_copy_us / 1e6 / bounds.nats_cores,
            "NATS: its network": max(nats_bits, copy_bits) / bounds.nats_bits_per_s,
        },
    )


@dataclass(frozen=True)
class Regions:
    """What goes between regions, in bits per second: with one bus for all, and with a NATS of each region's own (leaf nodes)."""

    regions: int
    one_bus_bits: float
    leaf_bits: float


def part(streams: int, listeners: int, followed: float, regions: int, sizes: Sizes) -> Regions:
    """Between `regions` of as many nodes, publishers and listeners each: what leaves the region of a stream's publisher.

    On one bus each following node of another region gets its own copy of a packet; a leaf node gets one for its whole region.
    """
    packets = PACKETS_PER_S * streams
    elsewhere = 1.0 - 1.0 / regions
    nodes_elsewhere = followed * elsewhere
    heard_in = min(nodes_elsewhere, (regions - 1) * (1.0 - elsewhere**listeners))  # other regions where somebody listens
    return Regions(regions, 8.0 * packets * nodes_elsewhere * sizes.packet_out, 8.0 * packets * heard_in * sizes.packet_out)
