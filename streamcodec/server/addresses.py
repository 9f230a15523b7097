"""Who counts as one peer: an IPv4 address, or an IPv6 network of 64 bits, which one customer has whole. And how often it may do a thing."""

from __future__ import annotations

import asyncio
import ipaddress
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache

from streamcodec.server.address import is_loopback
from streamcodec.server.rate import Rate, TokenBucket

__all__ = ["MAX_REMEMBERED", "AddressRates", "host_of", "peer_key"]

MAX_REMEMBERED = 4096


def host_of(transport: asyncio.BaseTransport) -> str:
    """The address, without the port, from which somebody has connected; empty where the system does not know it any more."""
    address = transport.get_extra_info("peername")
    return str(address[0]) if isinstance(address, tuple) else ""


@lru_cache(maxsize=1024)  # thousands a second may come from one address
def peer_key(host: str, bound_loopback: bool) -> str | None:
    """The address, or the network, by which a peer that connects from `host` is counted; None for one on loopback that is not counted."""
    if is_loopback(host) and not bound_loopback:
        return None
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, 64), strict=False))


class AddressRates:
    """A bucket of tokens for each peer by its key. Of many, those that were asked for last are remembered; a full one is not needed."""

    def __init__(self, rate: Rate, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._clock = clock
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def of(self, key: str) -> TokenBucket:
        """The bucket of one peer."""
        bucket = self._buckets.get(key)
        if bucket is None:
            while self._buckets and (len(self) >= MAX_REMEMBERED or next(iter(self._buckets.values())).full):
                self._buckets.popitem(last=False)
            bucket = self._buckets[key] = TokenBucket(self._rate, self._clock)
        self._buckets.move_to_end(key)
        return bucket
