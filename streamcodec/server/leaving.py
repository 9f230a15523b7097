"""How a server that drains empties: who has nothing more to wait for is sent away, until nobody is left or the time is over."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from streamcodec.server.connection import ClientHandler
from streamcodec.server.registry import Registry

__all__ = ["everybody_left"]

_LOOK_EVERY_S = 0.05


async def everybody_left(registry: Registry, connections: Collection[ClientHandler]) -> None:
    """Wait until no client that was let in is left, and no stream, but no longer than the registry's draining lasts."""
    draining = registry.draining
    while not draining.over and (registry.streams or any(client.permit is not None for client in connections)):
        for client in list(connections):
            listener = client.subscriber
            # Its stream will not come back here: it is to be elsewhere before its publisher begins there.
            if listener is not None and listener.empty and listener.options.stream not in registry.streams:
                client.peer.fail(draining.farewell())
        await asyncio.sleep(_LOOK_EVERY_S)
