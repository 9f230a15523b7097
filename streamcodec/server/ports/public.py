"""The public port: WebSockets for clients, the page for browsers, and the little that plain HTTP gets besides."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

import websockets
from websockets.asyncio.server import Server as WebSocketServer
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol

import streamcodec
from streamcodec.protocol import READ_CONTROL_BYTES, SUBPROTOCOL
from streamcodec.server.address import explain_refusal, listening_sockets
from streamcodec.server.door import Door
from streamcodec.server.entrance import Entrance
from streamcodec.server.limits import Limits
from streamcodec.server.metrics import Metrics
from streamcodec.server.page import Answer, Page
from streamcodec.server.ports.acceptor import Acceptor
from streamcodec.server.ports.certificates import Certificates
from streamcodec.server.ports.routes import HttpRequest, Routes
from streamcodec.server.ports.tls import TlsEntrance
from streamcodec.server.proxies import Proxies
from streamcodec.server.refusals import Bound, Refusals
from streamcodec.server.sites import Sites
from streamcodec.server.turns import HandshakeTurns
from streamcodec.server.websocket import WRITE_LIMIT, MessageConnection

__all__ = ["HANDSHAKE_S", "PING_EVERY_S", "PublicPort"]

HANDSHAKE_S = 10.0
"""WebSocket's opening and closing handshakes may take so long."""
PING_EVERY_S = 10.0
"""How often a client is asked for a sign of life, and how long it may take to give one."""

log = logging.getLogger("streamcodec.server")


class PublicPort:
    """Lets clients in by the `door` and hands each that completes WebSocket's handshake to `handle`. `open` it, then `close` it.

    `sites` says which websites may come through a browser, `routes` what is answered to plain HTTP; `page` is given to browsers.
    With `certificates` all of it goes by TLS. `proxies` are believed when they say whom they pass on. With `shares_port` other
    processes of the same server may have the port, too, and the system chooses one of them for each connection.
    """

    def __init__(
        self,
        host: str,
        routes: Routes,
        *,
        sites: Sites,
        page: Page | None,
        certificates: Certificates | None,
        proxies: Proxies,
        limits: Limits,
        door: Door,
        refusals: Refusals,
        metrics: Metrics,
        handle: Callable[[MessageConnection], Awaitable[None]],
        shares_port: bool = False,
    ) -> None:
        self.host = host
        self._shares_port = shares_port
        self.entrances: set[Entrance] = set()
        self._routes = routes
        self._sites = sites
        self._page = page
        self._certificates = certificates
        self._proxies = proxies
        self._handshakes: set[TlsEntrance] = set()
        self._limits = limits
        self._door = door
        self._refusals = refusals
        self._metrics = metrics
        self._handle = handle
        self._server: WebSocketServer

    async def open(self, port: int) -> int:
        """Take connections on `port`, 0 for any free one; returns which. Raises `StreamCodecError` where the address cannot be had."""
        self._turns = HandshakeTurns(self._limits.handshakes, asyncio.get_running_loop())
        # Many may come at once; one that finds no place waits for a second before it asks again.
        backlog = self._limits.max_listeners + self._limits.max_publishers
        try:
            sockets = await listening_sockets(self.host, port, backlog, shared=self._shares_port)
        except (OSError, UnicodeError) as exc:
            raise explain_refusal(self.host, port, exc) from exc
        acceptor = Acceptor(sockets, self._limits.accepted, self._door, self._first_protocol, told=self._certificates is None)

        async def accepting() -> Any:
            return acceptor

        server = serve(
            self._serve,
            open_timeout=HANDSHAKE_S,
            process_request=self._admit,
            process_response=_unless_over,
            server_header=f"streamcodec/{streamcodec.__version__}",
        )
        server.create_server = accepting  # in place of the loop's own server
        self._server = await server
        found: int = sockets[0].getsockname()[1]
        return found

    def close(self) -> None:
        """Take no newcomers, and drop who has asked for a file or for nothing yet; WebSockets stay open."""
        self._server.close(close_connections=False)
        self._turns.close()
        waiting: list[Entrance | TlsEntrance] = [*self._handshakes, *self.entrances]
        for entrance in waiting:
            entrance.close()

    async def wait_closed(self, within_s: float) -> None:
        """Wait until all connections have ended, but no longer than that."""
        try:
            async with asyncio.timeout(within_s):
                await self._server.wait_closed()
        except TimeoutError:
            log.warning("a client that has sent no hello kept its connection open")

    async def _serve(self, ws: ServerConnection) -> None:
        assert isinstance(ws, MessageConnection)
        await self._handle(ws)

    def _first_protocol(self, host: str) -> asyncio.Protocol:
        """The first protocol of a connection from `host`; the one of a WebSocket is made when its turn has come."""

        def behind_tls() -> asyncio.Protocol:
            return Entrance(
                host, self._page_answer, self._door, self._turns, self._websocket, HANDSHAKE_S, self.entrances, proxies=self._proxies
            )

        if self._certificates is None:
            return behind_tls()
        return TlsEntrance(host, self._certificates.context, self._door, self._refusals, behind_tls, HANDSHAKE_S, self._handshakes)

    def _websocket(self) -> MessageConnection:
        protocol = ServerProtocol(
            subprotocols=[websockets.Subprotocol(SUBPROTOCOL)],
            max_size=READ_CONTROL_BYTES,  # until a publisher is let in
        )
        return MessageConnection(
            protocol,
            self._server,
            ping_interval=PING_EVERY_S,
            ping_timeout=PING_EVERY_S,
            close_timeout=HANDSHAKE_S,
            max_queue=8,
            write_limit=WRITE_LIMIT,
            limits=self._limits,
            door=self._door,
            cut_off_by=self._cut_off,
            metrics=self._metrics,
        )

    def _page_answer(self, headers: Headers, path: str) -> Answer | None:
        # A request that is refused is refused by `_admit`.
        if self._page is None or self._sites.refusal(headers, self.host) is not None:
            return None
        return self._page.answer(path, headers)

    async def _admit(self, ws: ServerConnection, request: Request) -> Response | None:
        assert isinstance(ws, MessageConnection)
        client = self._proxies.client(ws.host, request.headers)
        if (away := self._door.know(ws.host, client)) is not None:
            response = ws.respond(away.status, f"{away.reason}.\n")
            response.headers["Retry-After"] = away.retry_after
            return response
        if client != ws.host:
            ws.host = ws.address = client
        if (foreign := self._sites.refusal(request.headers, self.host)) is not None:
            self._refusals.note(foreign.bound, ws.address, foreign.reason, ws.key)
            return ws.respond(foreign.status, f"{foreign.reason}.\n")
        asked = HttpRequest("GET", request.path.partition("?")[0], request.headers, host=ws.host)
        if self._routes.knows(asked.path):
            reply = await self._routes.answer(asked)
            response = ws.respond(reply.status, "")
            response.body = reply.payload()
            for name, value in {**reply.headers, "Content-Type": reply.media_type, "Content-Length": str(len(response.body))}.items():
                response.headers.pop(name, None)
                response.headers[name] = value
            return response
        if "Upgrade" not in request.headers:
            return ws.respond(HTTPStatus.UPGRADE_REQUIRED, f"A WebSocket server for the subprotocol {SUBPROTOCOL}: see PROTOCOL.md.\n")
        return None

    def _cut_off(self, ws: MessageConnection, reason: str) -> None:
        self._refusals.note(Bound.CONTROL_FRAMES, ws.address, f"cut off for {reason}", ws.key)


async def _unless_over(ws: ServerConnection, _: Request, __: Response) -> None:
    """Drop whoever has sent nonsense behind its request: `websockets` has ended that connection, and would log a fault of its own."""
    if ws.protocol.eof_sent:
        ws.transport.abort()
        await ws.wait_closed()
