"""One client's socket and its session: messages come in, messages go out, pings are answered, and the connection ends with a code.

It knows nothing of streams: what the messages are for is the handlers' business.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

from websockets.exceptions import ConcurrencyError, ConnectionClosed
from websockets.frames import CloseCode
from websockets.protocol import State

from streamcodec.errors import InputError, RemoteProtocolError, WireCode, printable
from streamcodec.protocol import (
    READ_BYTES,
    Error,
    ListenHello,
    Message,
    Packet,
    Ping,
    PublishHello,
    Report,
    ServerSession,
    Welcome,
    is_packet,
    parse,
)
from streamcodec.server.auth.gatekeeper import bearer_of
from streamcodec.server.draining import Draining
from streamcodec.server.logs import SubjectLog
from streamcodec.server.websocket import MessageConnection, framed

__all__ = ["PeerConnection", "broke", "retrieved"]

log = logging.getLogger("streamcodec.server")


class PeerConnection:
    """A connected client. `session` checks what it sends and what it is sent; `log` is for what concerns it."""

    def __init__(self, ws: MessageConnection, draining: Draining) -> None:
        self.session = ServerSession()
        self._draining = draining
        self.log = SubjectLog(log, connection=ws.key, address=ws.address)
        self._ws = ws
        self._reading: asyncio.Task[bytes | str] | None = None  # started before the hello is answered
        self._failure: Exception | None = None
        self._serving: asyncio.Timeout | None = None

    @property
    def name(self) -> str:
        """Its address, for the log."""
        return self._ws.address

    @property
    def host(self) -> str:
        """Its address without the port."""
        return self._ws.host

    @property
    def bearer(self) -> str | None:
        """The token that came with its request, which a hello may give as well."""
        request = self._ws.request
        return None if request is None else bearer_of(request.headers.get_all("Authorization"))

    @property
    def gone(self) -> bool:
        """Whether it does not wait for the answer to its hello any longer, or has sent more before that came."""
        assert self._reading is not None
        return self._ws.state is not State.OPEN or self._reading.done()

    @property
    def resumable(self) -> bool:
        """Whether it failed for a reason that lets its client go on with another connection."""
        return isinstance(self._failure, RemoteProtocolError) and self._failure.resumable

    @property
    def failing(self) -> bool:
        """Whether it was said why the connection cannot go on."""
        return self._failure is not None

    def fail(self, exc: Exception) -> None:
        """Say why the connection cannot go on: the block in `unless_failed` is left with `exc`."""
        if self._failure is None:
            self._failure = exc
            if self._serving is not None:
                self._serving.reschedule(asyncio.get_running_loop().time())

    @contextlib.asynccontextmanager
    async def unless_failed(self) -> AsyncIterator[None]:
        """Serve the peer inside this block: it is left as soon as the connection cannot go on, and raises why."""
        try:
            # A timeout that never comes by itself: `fail` lets it come at once, whatever the block waits for.
            async with asyncio.timeout(None) as self._serving:
                if self._failure is None:
                    yield
        except TimeoutError:
            if self._failure is None:
                raise
        finally:
            self._serving = None
        if isinstance(self._failure, InputError):
            raise RemoteProtocolError(WireCode.BAD_PAYLOAD, str(self._failure)) from self._failure
        if self._failure is not None:
            raise self._failure

    # In ------------------------------------------------------------------------------------------------------------------------------

    async def hello(self, within_s: float) -> PublishHello | ListenHello:
        """Its first message. Raises `RemoteProtocolError` TIMEOUT."""
        try:
            async with asyncio.timeout(within_s):
                data = await self._ws.recv()
        except TimeoutError:
            raise RemoteProtocolError(WireCode.TIMEOUT, f"no hello within {within_s:g} s") from None
        [hello] = self.session.feed(data)
        assert isinstance(hello, (PublishHello, ListenHello))
        return hello

    def read_packets(self) -> None:
        """Read messages that are as long as a packet may be, from now on."""
        self._ws.read_messages_of(READ_BYTES)

    async def read_ahead(self) -> None:
        """Read the next message already: one that comes before the hello is answered is out of turn."""
        self._reading = asyncio.create_task(self._ws.recv())
        await asyncio.sleep(0)  # so that it finds what has come with the hello

    async def refuse_early(self) -> None:
        """End the connection where a message has come before the hello was answered."""
        assert self._reading is not None
        if self._reading.done():
            self.session.feed(self._reading.result())
            await self._close(self.session.close_code or CloseCode.NORMAL_CLOSURE)

    def on_report(self, call: Callable[[Report], None]) -> None:
        """Let `call` take the reports that come while `messages` waits: they are many, and nobody has to be woken for one.

        One that is out of turn, or that `call` raises `RemoteProtocolError` for, comes through `messages` as any other message does.
        """

        def take(data: bytes) -> bool:
            try:
                if not isinstance(report := parse(data), Report) or not self.session.takes_reports:
                    return False
                call(report)
            except RemoteProtocolError:
                return False
            return True

        self._ws.taken = take

    def on_packet(self, call: Callable[[Packet], None]) -> None:
        """Let `call` take the packets that come while `messages` waits: they are many, and nobody has to be woken for one.

        One that the session does not allow, or that `call` raises for, ends the connection as `fail` does.
        """

        def take(data: bytes) -> bool:
            if not is_packet(data):
                return False
            if self._failure is None:
                try:
                    for packet in self.session.feed(data):
                        assert isinstance(packet, Packet)
                        call(packet)
                except Exception as exc:
                    self.fail(exc)
            return True

        self._ws.taken = take

    async def messages(self) -> AsyncIterator[Message]:
        """What it sends until it closes, except pings, which are answered."""
        while self.session.close_code is None:
            reading, self._reading = self._reading, None
            for message in self.session.feed(await (self._ws.recv() if reading is None else reading)):
                if isinstance(message, Ping):
                    if self._failure is not None:
                        continue  # a publisher that is about to be moved would read that the server closes, and end its stream
                    hello = self.session.hello
                    assert hello is not None
                    can_move = hello.role == "publish" and hello.can_move
                    self.session.send(self._draining.pong(message, hello.role, can_move=can_move))
                    await self.flush()
                elif isinstance(message, Error):
                    self.log.info("%s gave up: %s (%s)", self.name, printable(message.reason), message.code)
                else:
                    yield message
        await self._close(self.session.close_code)

    async def read_until(self, event: asyncio.Event) -> bool:
        """Wait for `event` and read meanwhile: pings are answered, all else is out of turn. Returns False where the peer gave up."""
        waits = {asyncio.create_task(self._read_on()), asyncio.create_task(self._wait_for(event))}
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waits:
                task.add_done_callback(retrieved)
                task.cancel()
        await asyncio.wait(waits)
        for task in done:
            task.result()
        return self.session.close_code is None

    async def _read_on(self) -> None:
        async for message in self.messages():
            raise AssertionError(f"a session that is draining took {message.type!r}")

    async def _wait_for(self, event: asyncio.Event) -> None:
        await event.wait()

    # Out -----------------------------------------------------------------------------------------------------------------------------

    def accept(self, welcome: Welcome) -> None:
        """Answer its hello; `flush` sends that."""
        self.session.accept(welcome)

    def on_writable(self, call: Callable[[], None]) -> None:
        """Let `call` be called whenever the socket takes more again."""
        self._ws.on_writable = call

    @property
    def writable(self) -> bool:
        """Whether `write` sends anything, and the socket has taken most of what was written before."""
        return self._ws.writable

    def write(self) -> None:
        """Hand what the session has to send to the socket, and wait for nothing; nothing happens where the connection is not open."""
        if self._ws.state is State.OPEN and (messages := self.session.data_to_send()):
            self._ws.write(messages)

    def relay(self, packet: Packet) -> bool:
        """Send a packet at once, which is the next that the session may send; returns False where the socket is full or not open."""
        ws, session = self._ws, self.session
        if not ws.writable or session.close_code is not None:
            return False
        ws.write_frames(framed(session.relay(packet)))
        return True

    async def flush(self) -> None:
        """Send what the session has to send, and wait until the socket has taken most of it. Raises `ConnectionClosed`."""
        if self._ws.state is State.OPEN:
            self.write()
            await self._ws.drain()
        for message in self.session.data_to_send():
            await self._ws.send(message)

    # The end -------------------------------------------------------------------------------------------------------------------------

    async def leave(self) -> None:
        """End the connection in order."""
        await self._close(CloseCode.NORMAL_CLOSURE)

    async def end(self) -> None:
        """Send the close frame of a session that is closed already."""
        assert self.session.close_code is not None
        await self._close(self.session.close_code)

    async def close(self, exc: Exception, reason: str) -> None:
        """End the connection because of `exc`; the client is told why."""
        await self._close(self.session.fail(exc), reason)

    async def give_up(self, exc: Exception, within_s: float) -> None:
        """End the connection because of what the client or this server did wrong; a client that reads nothing gets no close frame."""
        try:
            async with asyncio.timeout(within_s):
                await self.close(exc, str(exc) if isinstance(exc, RemoteProtocolError) else "internal error")
        except TimeoutError:
            self.abort()

    def abort(self) -> None:
        """Drop the connection without a close frame."""
        self._ws.transport.abort()

    def release(self) -> None:
        """Stop reading; the connection is over."""
        if self._reading is not None:
            self._reading.cancel()
            self._reading.add_done_callback(retrieved)

    async def _close(self, code: int, reason: str = "") -> None:
        discarding = asyncio.create_task(self._discard())
        try:
            await self.flush()
            # A close frame's reason may have 123 bytes.
            await self._ws.close(code, reason.encode()[:120].decode(errors="ignore"))
        except ConnectionClosed:
            pass
        finally:
            discarding.cancel()

    async def _discard(self) -> None:
        """Read what still comes: a peer's close frame comes after all that it sent before."""
        with contextlib.suppress(ConnectionClosed, ConcurrencyError):  # another task may be reading already
            if self._reading is not None:
                await self._reading
            while True:
                await self._ws.recv()


def retrieved(done: asyncio.Future[Any]) -> None:
    """Retrieve what a task has raised: asyncio complains about an exception that nobody retrieves."""
    if not done.cancelled():
        done.exception()


def broke(exc: ConnectionClosed) -> bool:
    """Whether a connection broke without a close frame or as pings were not answered (1011), not because of what was sent over it."""
    return all(close is None or close.code == CloseCode.INTERNAL_ERROR for close in (exc.rcvd, exc.sent))
