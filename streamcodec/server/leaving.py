"""How a server empties. When it drains, who has nothing more to wait for is sent away, until nobody is left or the time is over."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Callable, Collection

from streamcodec.errors import RemoteProtocolError
from streamcodec.protocol import PublishHello
from streamcodec.server.connection import ClientHandler
from streamcodec.server.moving import farewell, heir, moved
from streamcodec.server.registry import Registry
from streamcodec.server.stream import Stream

__all__ = ["MovePace", "all_sent", "everybody_left", "send_away"]

_LOOK_EVERY_S = 0.05
_LOOK_OFTEN_S = 0.01
_APART_S = 0.1

log = logging.getLogger("streamcodec.server")


class MovePace:
    """Lets publishers go one after the other, so that no stream waits for the connections of all others; `clock` tells seconds.

    They go 100 ms apart, or closer where there are so many that they would not be gone after `within_s`.
    """

    def __init__(self, clock: Callable[[], float], within_s: float) -> None:
        self._clock = clock
        self._until = clock() + within_s
        self._next = -math.inf

    def due(self, waiting: int) -> int:
        """How many of those that wait may go now; ask again and again."""
        now = self._clock()
        apart_s = min(_APART_S, max(0.0, self._until - now) / max(1, waiting))
        self._next = max(self._next, now - _LOOK_EVERY_S)
        going = 0
        while going < waiting and self._next <= now:
            self._next += apart_s
            going += 1
        return going


def _move_publishers(registry: Registry, connections: Collection[ClientHandler], pace: MovePace) -> None:
    """Send publishers to other servers of the cluster, if there are any, where their streams go on. Who cannot move leaves by itself."""
    movable = [client.peer for client in connections if _can_move(registry, client)]
    for peer in movable[: pace.due(len(movable))]:
        if (to := heir(registry)) is None:
            return  # there is room for nobody else either
        peer.fail(moved(to))


def _can_move(registry: Registry, client: ClientHandler) -> bool:
    hello, peer = client.peer.session.hello, client.peer
    if not isinstance(hello, PublishHello) or not hello.can_move or peer.failing:
        return False
    stream = registry.streams.get(hello.stream)
    # One that has ended its stream waits here for the counts, and one that says hello is not the stream's publisher yet.
    return stream is not None and stream.lease.held_by(peer) and not stream.ending


async def everybody_left(registry: Registry, connections: Collection[ClientHandler]) -> None:
    """Wait until no client that was let in is left, and no stream, but no longer than the registry's draining lasts.

    Whoever can move is sent to another server as soon as there is one, also who has come back here meanwhile.
    """
    draining = registry.draining
    pace = MovePace(asyncio.get_running_loop().time, draining.left_s / 2)
    while not draining.over and (registry.streams or any(client.permit is not None for client in connections)):
        _move_publishers(registry, connections, pace)
        for client in list(connections):
            listener = client.subscriber
            # Its stream will not come back here: it is to be elsewhere before its publisher begins there.
            if listener is None or client.peer.failing:
                continue
            if listener.empty and listener.options.stream not in registry.streams:
                client.peer.fail(farewell(registry, listener.options.stream))
        await asyncio.sleep(_LOOK_EVERY_S)


async def all_sent(registry: Registry) -> None:
    """End all streams, and wait until what was accepted has gone out; each of these two takes its part of a stop at most.

    A stream whose publisher is away, and may resume elsewhere, does not end where other servers have its state.
    """
    await _keep_waiting(registry)
    streams = list(registry.streams.values())
    for stream in streams:
        stream.end("the server is closing")
    await _until(registry, lambda: all(stream.ended.is_set() for stream in streams))
    await _until(registry, lambda: all(listener.empty for group in registry.listeners.values() for listener in group))


async def _keep_waiting(registry: Registry) -> None:
    async def keep(stream: Stream) -> None:
        if await registry.cluster.keep(stream) and stream.lease.waiting:  # its publisher may be back by now
            stream.abandon()

    waiting = [keep(stream) for stream in registry.streams.values() if stream.lease.waiting]
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(registry.draining.part_s(registry.limits.drain_s)):
            await asyncio.gather(*waiting)


async def _until(registry: Registry, condition: Callable[[], bool]) -> None:
    loop = asyncio.get_running_loop()
    give_up = loop.time() + registry.draining.part_s(registry.limits.drain_s)
    while not condition() and loop.time() < give_up:  # noqa: ASYNC110 - a few rounds, once in a server's life
        await asyncio.sleep(_LOOK_OFTEN_S)


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
