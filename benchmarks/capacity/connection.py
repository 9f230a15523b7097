"""One WebSocket connection at little cost: an asyncio protocol around the state machines of `websockets` and of this project, no task."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import cast

from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from streamcodec.errors import StreamCodecError
from streamcodec.protocol import MAX_MESSAGE_BYTES, SUBPROTOCOL, ClientSession, ListenHello, Message, PublishHello

__all__ = ["LoadConnection", "close_all"]

_CLOSES_S = 10.0


class LoadConnection(asyncio.Protocol):
    """One connection: calls `heard` with each message, `lost` when it is over."""

    def __init__(self, url: str, hello: PublishHello | ListenHello, heard: Callable[[Message], None], lost: Callable[[str], None]):
        self.session = ClientSession(hello)
        self._ws = ClientProtocol(parse_uri(url), subprotocols=[Subprotocol(SUBPROTOCOL)], max_size=MAX_MESSAGE_BYTES)
        self._heard = heard
        self._lost = lost
        self._transport: asyncio.Transport | None = None
        self._over = asyncio.Event()

    @property
    def unsent(self) -> int:
        """Bytes that the socket has not taken yet."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    @property
    def over(self) -> bool:
        """It is closed, or never came about."""
        return self._over.is_set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it
        self._ws.send_request(self._ws.connect())
        self._write()

    def data_received(self, data: bytes) -> None:
        self._ws.receive_data(data)
        for event in self._ws.events_received():
            if not isinstance(event, Frame):
                if self._ws.handshake_exc is not None:
                    self._lost(f"no WebSocket: {self._ws.handshake_exc}")
                    return
                self.flush()
            elif event.opcode is Opcode.BINARY:
                try:
                    messages = self.session.feed(bytes(event.data))
                except StreamCodecError as exc:
                    self._lost(f"{type(exc).__name__}: {exc}")
                    return
                for message in messages:
                    self._heard(message)
        self._write()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._over.set()
        self._lost("the connection is over" if exc is None else str(exc))

    def flush(self) -> None:
        """Send what the session has queued."""
        for message in self.session.data_to_send():
            self._ws.send_binary(message)
        self._write()

    def close(self) -> None:
        """Begin to close; what comes afterwards is ignored."""
        self._lost = lambda reason: None  # noqa: ARG005
        self._heard = lambda message: None  # noqa: ARG005
        if self._transport is None:
            return
        if self._ws.state is State.OPEN:
            self._ws.send_close(1000)
            self._write()
        elif self._ws.state is State.CONNECTING:
            self._transport.close()

    async def wait_closed(self) -> None:
        """Wait until the connection is over, or never came about; after a while it is cut."""
        try:
            async with asyncio.timeout(_CLOSES_S):
                await self._over.wait()
        except TimeoutError:
            if self._transport is not None:
                self._transport.abort()
                await self._over.wait()

    def _write(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        for data in self._ws.data_to_send():
            if data:
                self._transport.write(data)
            else:
                self._transport.close()

    def open(self) -> None:
        """Connect, with nobody waiting for it."""
        self._opening = asyncio.create_task(self._open())

    async def _open(self) -> None:
        uri = self._ws.uri
        try:
            await asyncio.get_running_loop().create_connection(lambda: self, uri.host, uri.port)
        except OSError as exc:
            self._over.set()
            self._lost(str(exc))


async def close_all(connections: Iterable[LoadConnection]) -> None:
    """Close all, and wait until they are: an event loop that ends before its connections do raises what nobody can handle."""
    closing = list(connections)
    for connection in closing:
        connection.close()
    for connection in closing:
        await connection.wait_closed()
