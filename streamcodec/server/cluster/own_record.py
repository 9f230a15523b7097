"""What a server says of itself to the other nodes of its cluster."""

from __future__ import annotations

import math
from collections.abc import Callable

import streamcodec
from streamcodec.errors import InputError
from streamcodec.server.cluster.records import NodeRecord
from streamcodec.server.draining import checked_address
from streamcodec.server.registry import Registry

__all__ = ["EVERY_NETWORK", "address_for_clients", "record_of"]

EVERY_NETWORK = ("", "0.0.0.0", "::", "*")
"""Addresses to listen on, by which no client reaches a server."""


def address_for_clients(given: str | None, host: str, url: Callable[[], str]) -> Callable[[], str]:
    """Where clients reach the node: as `given`, or else at the server's own `url`. Raises `InputError` where that is nobody's."""
    if given is not None:
        checked = checked_address(given)
        return lambda: checked
    if host in EVERY_NETWORK:
        raise InputError(
            f"a node of a cluster on {host or 'every network'} has no address of its own, expected --cluster-address, as in "
            "wss://voice-1.example.org"
        )
    return url


def record_of(node: str, address: str, registry: Registry, fingerprint: str) -> NodeRecord:
    """The entry of a node as it is now."""
    limits, publishers, listeners = registry.limits, len(registry.streams), registry.num_listeners
    fullness, most = registry.admission.fullness(registry.demand), registry.admission.room()
    places = max(0, limits.max_publishers - publishers)
    room = places if fullness is None or most is None else min(places, max(0, math.floor(most * (1 - fullness) + 1e-6)))
    load = max(fullness or 0.0, publishers / limits.max_publishers, listeners / limits.max_listeners)
    return NodeRecord(
        node=node,
        address=address,
        publishers=publishers,
        listeners=listeners,
        room=room,
        listener_room=max(0, limits.max_listeners - listeners),
        load=min(load, 1000.0),
        draining=registry.closing or registry.draining.begun,
        fingerprint=fingerprint,
        version=streamcodec.__version__[:64],
    )
