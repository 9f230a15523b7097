"""The private port: plain HTTP for whoever runs the server, one request a connection, within bounds of time, size and number.

It answers while the public port takes nothing any more, until the server has stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from http import HTTPStatus

import h11
from websockets.datastructures import Headers

from streamcodec.server.address import explain_refusal, is_loopback, url_of, where_to_listen
from streamcodec.server.addresses import host_of
from streamcodec.server.ports.routes import MAX_BODY_BYTES, HttpReply, HttpRequest, Routes
from streamcodec.server.refusals import Refusals
from streamcodec.server.sites import Sites

__all__ = ["MAX_CONNECTIONS", "REQUEST_S", "PrivatePort"]

MAX_CONNECTIONS = 32
"""So many may ask at a time, and as many more are told that they may not; descriptors are kept for all of them."""
REQUEST_S = 10.0
"""A request must have come within so long, and its answer must be taken within so long."""
FAREWELL_S = 2.0
"""A peer that does not close behind its answer is dropped after so long."""
_MAX_HEAD = 16_384
_READ = 4096

log = logging.getLogger("streamcodec.server")


class PrivatePort:
    """Answers by `routes` on `host` and `port`; 0 takes any free one, and `port` then says which. `open` it, then `close` it.

    Pages of websites get nothing here, and none does by a name that was made to mean this machine: `sites` says so, as on the public port.
    """

    def __init__(self, host: str, port: int, routes: Routes, sites: Sites, refusals: Refusals) -> None:
        self.host = host
        self.port = port
        self.routes = routes
        self._sites = sites
        self._refusals = refusals
        self._server: asyncio.Server
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Where it answers."""
        return url_of("http", self.host, self.port)

    async def open(self) -> None:
        """Take connections. Raises `StreamCodecError` where the address cannot be had."""
        try:
            where = await where_to_listen(self.host, self.port)
            self._server = await asyncio.start_server(self._connected, limit=_READ, **where)
        except (OSError, UnicodeError) as exc:
            raise explain_refusal(self.host, self.port, exc, option="--private-port") from exc
        self.port = self._server.sockets[0].getsockname()[1]
        if not is_loopback(self.host):
            log.warning("the private port is open to other machines: %s tells them about the server", self.url)

    async def close(self) -> None:
        """Take nothing more, and drop whoever still waits for an answer."""
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._tasks) >= 2 * MAX_CONNECTIONS:
            writer.transport.abort()  # an answer would take a descriptor for a while
            return
        # A task of our own: asyncio complains about its own ones where they are cancelled.
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host = host_of(writer.transport)
        exchange = _Exchange(reader, writer)
        try:
            if len(self._tasks) > MAX_CONNECTIONS:
                reply = HttpReply(HTTPStatus.SERVICE_UNAVAILABLE, f"The private port has its {MAX_CONNECTIONS} connections.\n")
            else:
                reply = await self._reply(exchange, host)
            async with asyncio.timeout(REQUEST_S):
                await exchange.send(reply)
            await exchange.linger()
        except OSError:  # also a time that is over
            pass
        finally:
            # Nobody waits for a peer that does not take its answer.
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _reply(self, exchange: _Exchange, host: str) -> HttpReply:
        try:
            async with asyncio.timeout(REQUEST_S):
                request = await exchange.receive(host)
        except TimeoutError:
            return HttpReply(HTTPStatus.REQUEST_TIMEOUT, f"The request took longer than {REQUEST_S:g} s.\n")
        except h11.RemoteProtocolError as exc:
            return HttpReply(HTTPStatus(exc.error_status_hint), "Expected a request of HTTP/1.1.\n")
        if len(request.body) > MAX_BODY_BYTES:
            return HttpReply(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"A body may have {MAX_BODY_BYTES} bytes.\n")
        if (foreign := self._sites.refusal(request.headers, self.host)) is not None:
            self._refusals.note(foreign.bound, host, foreign.reason)
            return HttpReply(foreign.status, f"{foreign.reason}.\n")
        return await self.routes.answer(request)


class _Exchange:
    """One request and its answer on a connection, by h11."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_HEAD)
        self._reader = reader
        self._writer = writer
        self._wants_body = True

    async def receive(self, host: str) -> HttpRequest:
        """Read the request, of a body that is too long no more than shows that it is.

        Raises `h11.RemoteProtocolError`, `ConnectionError`.
        """
        head: h11.Request | None = None
        body = b""
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                if self._http.they_are_waiting_for_100_continue:
                    self._write(h11.InformationalResponse(status_code=HTTPStatus.CONTINUE, headers=[]))
                self._http.receive_data(await self._reader.read(_READ))
            elif isinstance(event, h11.Request):
                head, self._wants_body = event, event.method != b"HEAD"
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.ConnectionClosed):
                raise ConnectionResetError
            if head is not None and (isinstance(event, h11.EndOfMessage) or len(body) > MAX_BODY_BYTES):
                headers = Headers((name.decode("latin-1"), value.decode("latin-1")) for name, value in head.headers)
                path = head.target.decode("latin-1").partition("?")[0]
                return HttpRequest(head.method.decode("latin-1"), path, headers, body, host)

    async def send(self, reply: HttpReply) -> None:
        """Answer, and wait until the socket has taken most of it."""
        body = reply.payload()
        headers = {**reply.headers, "Content-Type": reply.media_type, "Content-Length": str(len(body)), "Connection": "close"}
        headers |= {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
        self._write(h11.Response(status_code=reply.status, reason=reply.status.phrase, headers=list(headers.items())))
        if self._wants_body:
            self._write(h11.Data(data=body))
        self._write(h11.EndOfMessage())
        await self._writer.drain()

    async def linger(self) -> None:
        """Wait until the peer closes: what it still sends must not make the system drop the answer. Raises `TimeoutError`."""
        with contextlib.suppress(OSError):  # the peer has reset the connection
            self._writer.write_eof()
        async with asyncio.timeout(FAREWELL_S):
            while await self._reader.read(_READ):
                pass

    def _write(self, event: h11.Event) -> None:
        self._writer.write(self._http.send(event) or b"")
