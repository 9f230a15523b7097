"""The first protocol of a connection with TLS, whose handshake takes bounded time."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, cast

from streamcodec.server.door import Door
from streamcodec.server.refusals import Bound, Refusals
from streamcodec.server.websocket import FAREWELL_S, WRITE_LIMIT

__all__ = ["TlsEntrance"]


class TlsEntrance(asyncio.Protocol):
    """Does TLS' handshake by `context` within `patience_s`, and hands on to the protocol that `others` makes.

    Whoever connects has entered by the `door` from `host`, and leaves by it here where the handshake fails. `entrances` holds those whose
    handshake is not over.
    """

    def __init__(
        self,
        host: str,
        context: ssl.SSLContext,
        door: Door,
        refusals: Refusals,
        others: Callable[[], asyncio.Protocol],
        patience_s: float,
        entrances: set[TlsEntrance],
    ) -> None:
        self._host = host
        self._context = context
        self._door = door
        self._refusals = refusals
        self._others = others
        self._patience_s = patience_s
        self._entrances = entrances
        self._transport: asyncio.Transport
        self._received = bytearray()
        self._eof = self._lost = False
        self._task: asyncio.Task[None]

    def close(self) -> None:
        """Drop the connection."""
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is of no class of asyncio's
        self._entrances.add(self)
        # What TLS has encrypted waits here: that is latency, too.
        self._transport.set_write_buffer_limits(WRITE_LIMIT)
        loop = asyncio.get_running_loop()
        handshake = _Begun(
            loop.start_tls(
                self._transport,
                self,
                self._context,
                server_side=True,
                ssl_handshake_timeout=self._patience_s,
                ssl_shutdown_timeout=FAREWELL_S,
            )
        )
        self._task = loop.create_task(self._enter(handshake))

    # What comes between the handshake's end and the next protocol.

    def data_received(self, data: bytes) -> None:
        self._received += data

    def eof_received(self) -> None:
        self._eof = True

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._lost = True

    async def _enter(self, handshake: Awaitable[asyncio.Transport | None]) -> None:
        try:
            transport = await handshake
        except OSError as exc:
            transport = None
            if not isinstance(exc, ConnectionResetError):  # that is a client that has changed its mind
                self._refusals.note(Bound.TLS, self._host, f"no TLS: {getattr(exc, 'reason', None) or exc.strerror or exc}")
        finally:
            self._entrances.discard(self)
        if transport is None or self._lost:
            self._door.leave(self._host)
            self._transport.abort()
            return
        protocol = self._others()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if self._received:
            protocol.data_received(bytes(self._received))
        if self._eof:
            protocol.eof_received()


class _Begun(Awaitable[Any]):
    """A coroutine that has run up to where it waits first, and goes on there when it is awaited.

    `start_tls` takes the transport away from its protocol at its first step. A task would take that step after what the client has sent
    already was given to the protocol, where it would be lost (uvloop).
    """

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._coroutine = coroutine
        self._first = coroutine.send(None)

    def __await__(self) -> Generator[Any, Any, Any]:
        try:
            yield self._first
        except BaseException as exc:
            self._coroutine.throw(exc)
        return (yield from self._coroutine.__await__())
