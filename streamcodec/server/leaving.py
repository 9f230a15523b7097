"""How a server that drains empties: who has nothing more to wait for is sent away, until nobody is left or the time is over."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection

from streamcodec.errors import RemoteProtocolError
from streamcodec.server.connection import ClientHandler
from streamcodec.server.registry import Registry

__all__ = ["everybody_left", "send_away"]

_LOOK_EVERY_S = 0.05

log = logging.getLogger("streamcodec.server")


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


async def send_away(connections: Collection[ClientHandler], why: RemoteProtocolError, within_s: float) -> None:
    """Tell all clients why their connections end, and end them; who cannot be told within that time is dropped."""
    if not (closing := [asyncio.create_task(client.close(why)) for client in connections]):
        return
    done, late = await asyncio.wait(closing, timeout=within_s)
    if late:
        # A peer that reads nothing cannot be told.
        for client in connections:
            client.peer.abort()
        done, _ = await asyncio.wait(closing)
    for task in done:
        if (error := task.exception()) is not None:
            log.error("a connection did not close in order", exc_info=error)
