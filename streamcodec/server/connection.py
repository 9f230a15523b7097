"""A client's connection from its hello to its end: who it is, whether it is let in, and what serves it then.

Whatever a client does wrong ends its own connection with a code and a reason; the other streams never notice.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator

from websockets.exceptions import ConnectionClosed

from streamcodec.errors import InputError, RemoteProtocolError, WireCode
from streamcodec.protocol import ListenHello, PublishHello
from streamcodec.server.auth.credential import Basis
from streamcodec.server.auth.gatekeeper import Gatekeeper
from streamcodec.server.auth.permits import Permit, Permits
from streamcodec.server.door import Door
from streamcodec.server.events import ServerEvent
from streamcodec.server.fanout.subscriber import Subscriber
from streamcodec.server.handshake import Handshake
from streamcodec.server.listening import serve_listener
from streamcodec.server.moving import check_hello
from streamcodec.server.peer import PeerConnection
from streamcodec.server.publishing import serve_publisher
from streamcodec.server.refusals import LimitReached
from streamcodec.server.registry import Registry
from streamcodec.server.websocket import MessageConnection

__all__ = ["ClientHandler"]


class ClientHandler:
    """Serves one client from its hello to its end.

    `id` names the connection to whoever runs the server, `since` is when it was made (s since 1970). `permit` is what it may do, once it
    has said hello, and `subscriber` what is sent to it, where it listens.
    """

    def __init__(
        self, ws: MessageConnection, registry: Registry, handshake: Handshake, gate: Gatekeeper, door: Door, permits: Permits
    ) -> None:
        self.peer = PeerConnection(ws, registry.draining)
        self._door = door
        self._gate = gate
        self._registry = registry
        self._handshake = handshake
        self._permits = permits
        self.id = ws.key
        self.since = time.time()
        self.permit: Permit | None = None
        self.subscriber: Subscriber | None = None

    async def serve(self) -> None:
        """Run the connection to its end. Errors end here: the peer gets them and they are counted."""
        peer = self.peer
        try:
            await self._serve()
        except ConnectionClosed:
            pass
        except RemoteProtocolError as exc:
            if exc.code is not WireCode.RATE_LIMITED:  # that is told where it was found, once for many
                peer.log.info("%s: %s", peer.name, exc)
            await self._give_up(exc)
        except Exception as exc:
            if peer.session.close_code is not None:
                # The session was closed meanwhile: messages that it could not take after that are no error.
                await peer.end()
                return
            peer.log.exception("%s: internal error", peer.name)
            await self._give_up(exc)
        finally:
            peer.release()

    async def close(self, why: RemoteProtocolError) -> None:
        """End the connection for the server's own reason."""
        await self.peer.close(why, why.reason)

    async def _give_up(self, exc: Exception) -> None:
        metrics = self._registry.metrics
        if self.peer.session.welcome is None:
            metrics.refused += 1
            code = _code(exc)
            metrics.refused_by_code[code] += 1
            if not isinstance(exc, LimitReached):
                self._registry.observe(ServerEvent("client.refused", {"code": str(code), "address": self.peer.name, "count": 1}, code))
        elif not (isinstance(exc, RemoteProtocolError) and exc.code in (WireCode.TAKEN_OVER, WireCode.MOVED)):
            metrics.failed += 1
            metrics.failed_by_code[_code(exc)] += 1
        await self.peer.give_up(exc, self._registry.limits.drain_s)

    async def _serve(self) -> None:
        peer, registry = self.peer, self._registry
        hello = await peer.hello(registry.limits.handshake_s)
        peer.log.concern(stream=hello.stream)
        token = hello.token or peer.bearer
        await peer.read_ahead()
        # No turn of the loop lies between the grant and the permit: whoever takes the grant back finds the permit.
        credential = await self._gate.admit(hello, peer.bearer, peer.host)
        self._handshake.check(hello)
        if registry.draining.begun and hello.resume is None:
            raise registry.draining.farewell(hello.role)
        with self._permits.holding(Permit(hello.role, hello.stream, credential, peer.fail)) as self.permit:
            asking = None
            if credential.revalidate_s is not None:
                asking = asyncio.create_task(self._gate.stay(self.permit, token, peer.host))
            try:
                await self._serve_role(hello)
            finally:
                if asking is not None:
                    asking.cancel()

    def _listens(self, subscriber: Subscriber) -> None:
        self.subscriber = subscriber

    async def _serve_role(self, hello: PublishHello | ListenHello) -> None:
        peer, registry = self.peer, self._registry
        await registry.newcomers.wait_for_room(hello, lambda: peer.gone)
        await check_hello(registry, hello)
        await peer.refuse_early()
        if peer.gone:
            return
        try:
            async with peer.unless_failed():
                with self._place(hello):
                    if isinstance(hello, PublishHello):
                        await serve_publisher(peer, hello, registry, self._handshake)
                    else:
                        await serve_listener(peer, hello, registry, self._handshake, self._listens)
        except InputError as exc:
            raise RemoteProtocolError(WireCode.BAD_REQUEST, str(exc)) from exc

    @contextlib.contextmanager
    def _place(self, hello: PublishHello | ListenHello) -> Iterator[None]:
        """One of the places that the client's address has."""
        with contextlib.ExitStack() as stack:
            if self.permit is not None and self.permit.credential.basis is Basis.ECHO:
                stack.enter_context(self._door.testing(self.peer.host, publishes=isinstance(hello, PublishHello)))
            if isinstance(hello, PublishHello):
                stack.enter_context(self._door.publishing(self.peer.host))
            yield


def _code(exc: Exception) -> WireCode:
    return exc.code if isinstance(exc, RemoteProtocolError) else WireCode.INTERNAL
