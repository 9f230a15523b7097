"""One WebSocket connection: bytes between the socket and a session, and the session's messages to and from a stream.

Whatever a peer does wrong ends its own connection with a code and a reason; the other streams never notice.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConcurrencyError, ConnectionClosed
from websockets.frames import CloseCode
from websockets.protocol import State

from streamcodec.errors import InputError, RemoteProtocolError, WireCode
from streamcodec.protocol import (
    End,
    Ended,
    Error,
    Gap,
    ListenHello,
    Message,
    ModelInfo,
    Packet,
    Ping,
    Pong,
    PublishHello,
    Report,
    ServerSession,
    now_us,
)
from streamcodec.server.auth import Tokens
from streamcodec.server.fanout.subscriber import Subscriber, SubscriberOptions
from streamcodec.server.handshake import check_hello, welcome_to
from streamcodec.server.registry import Registry
from streamcodec.server.stream import Stream

__all__ = ["Connection"]

T = TypeVar("T")

log = logging.getLogger("streamcodec.server")


class Connection:
    """Serves one client from its hello to its end."""

    def __init__(self, ws: ServerConnection, registry: Registry, model: ModelInfo, tokens: Tokens, banner: str) -> None:
        self._ws = ws
        self._registry = registry
        self._model = model
        self._tokens = tokens
        self._banner = banner
        self._session = ServerSession()
        self._sending = asyncio.Lock()
        self._reading: asyncio.Task[bytes | str] | None = None  # started before the hello is answered
        self._failure: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()

    async def serve(self) -> None:
        """Run the connection to its end. Errors end here: the peer gets them and they are counted."""
        try:
            await self._serve()
        except ConnectionClosed:
            pass
        except RemoteProtocolError as exc:
            log.info("%s: %s", self._peer, exc)
            await self._give_up(exc)
        except Exception as exc:
            if self._session.close_code is not None:
                # The session was closed meanwhile: messages that it could not take after that are no error.
                await self._close(self._session.close_code)
                return
            log.exception("%s: internal error", self._peer)
            await self._give_up(exc)
        finally:
            if self._reading is not None:
                self._reading.cancel()
                self._reading.add_done_callback(_retrieved)

    async def close(self, code: WireCode, reason: str) -> None:
        """End the connection for the server's own reason."""
        await self._close(self._session.fail(RemoteProtocolError(code, reason)), reason)

    def abort(self) -> None:
        """Drop the connection without a close frame."""
        self._ws.transport.abort()

    @property
    def _peer(self) -> str:
        address = self._ws.remote_address
        return f"{address[0]}:{address[1]}" if isinstance(address, tuple) else "peer"

    async def _give_up(self, exc: Exception) -> None:
        metrics = self._registry.metrics
        if self._session.welcome is None:
            metrics.refused += 1
        elif not (isinstance(exc, RemoteProtocolError) and exc.code is WireCode.TAKEN_OVER):
            metrics.failed += 1
        code = self._session.fail(exc)
        try:
            async with asyncio.timeout(self._registry.limits.drain_s):
                await self._close(code, str(exc) if isinstance(exc, RemoteProtocolError) else "internal error")
        except TimeoutError:
            # A peer that reads nothing gets no close frame.
            self.abort()

    async def _close(self, code: int, reason: str = "") -> None:
        discarding = asyncio.create_task(self._discard())
        try:
            await self._flush()
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

    async def _serve(self) -> None:
        limits = self._registry.limits
        try:
            data = await asyncio.wait_for(self._ws.recv(), limits.handshake_s)
        except TimeoutError:
            raise RemoteProtocolError(WireCode.TIMEOUT, f"no hello within {limits.handshake_s:g} s") from None
        [hello] = self._session.feed(data)
        assert isinstance(hello, (PublishHello, ListenHello))
        check_hello(hello, self._model, self._tokens, self._registry.worker.engine.config)
        # A message before the answer is out of turn. One after it is taken by the first that reads then.
        self._reading = asyncio.create_task(self._ws.recv())
        await asyncio.sleep(0)  # so that it finds what has come with the hello
        await self._registry.wait_for_room(hello, self._gone)
        if self._reading.done():
            self._session.feed(self._reading.result())
            await self._close(self._session.close_code or CloseCode.NORMAL_CLOSURE)
        if self._gone():
            return
        try:
            if isinstance(hello, PublishHello):
                await self._publisher(hello)
            else:
                await self._listener(hello)
        except InputError as exc:
            raise RemoteProtocolError(WireCode.BAD_REQUEST, str(exc)) from exc

    def _gone(self) -> bool:
        """Whether the client does not wait for an answer any longer."""
        assert self._reading is not None
        return self._ws.state is not State.OPEN or self._reading.done()

    async def _flush(self) -> None:
        async with self._sending:
            for message in self._session.data_to_send():
                await self._ws.send(message)

    # Publishers ----------------------------------------------------------------------------------------------------------------------

    async def _publisher(self, hello: PublishHello) -> None:
        stream = self._registry.publish(hello)
        stream.attach(self, self._stream_failed, self._taken_over)
        lost = False
        try:
            self._session.accept(welcome_to(hello, stream, self._model, self._registry.limits, self._banner))
            if hello.resume is None:
                self._registry.metrics.publishers_accepted += 1
                self._registry.announce(stream)
                what = f"{hello.format}, {stream.info.bandwidth:g} kbps, {stream.info.packet_frames} frames a packet"
                log.info("%s publishes %s: %s", self._peer, hello.stream, what)
            else:
                self._registry.metrics.publishers_resumed += 1
                log.info("%s resumes publishing %s", self._peer, hello.stream)
            await self._flush()
            await self._read_publisher(hello, stream)
        except ConnectionClosed as exc:
            lost = _broke(exc)
            raise
        finally:
            stream.detach(self, resume_s=self._registry.limits.resume_s if lost else 0.0)

    async def _read_publisher(self, hello: PublishHello, stream: Stream) -> None:
        reported = stream.totals.dropped
        late_until = 0 if hello.resume is None else hello.resume.next_seq
        async for message in self._messages():
            if isinstance(message, Packet):
                stream.feed(message)
                if hello.pace == "fast":
                    await self._unless_failed(stream.back_pressure.room())
                elif message.seq < late_until:
                    await self._unless_failed(stream.back_pressure.caught_up())
            elif isinstance(message, Gap):
                stream.publisher_gap(message)
            elif isinstance(message, End):
                stream.publisher_end()
                if not await self._read_until(stream.ended):
                    return
                self._send_dropped(stream, reported)
                totals = stream.totals
                self._session.send(Ended(received=totals.received, emitted=totals.emitted, dropped=totals.dropped))
                await self._close(1000)
                return
            if stream.totals.dropped > reported:
                reported = self._send_dropped(stream, reported)
                await self._flush()

    async def _read_until(self, event: asyncio.Event) -> bool:
        """Wait for `event` and read meanwhile: pings are answered, all else is out of turn. Returns False where the peer gave up."""
        reading = asyncio.create_task(self._read_on())
        try:
            await self._unless_failed(event.wait(), reading)
        finally:
            reading.add_done_callback(_retrieved)
            reading.cancel()
        await asyncio.wait({reading})
        return self._session.close_code is None

    async def _read_on(self) -> None:
        async for message in self._messages():
            raise AssertionError(f"a session that is draining took {message.type!r}")

    def _taken_over(self) -> None:
        self._stream_failed(RemoteProtocolError(WireCode.TAKEN_OVER, "another connection has resumed this session: do not resume it here"))

    def _send_dropped(self, stream: Stream, reported: int) -> int:
        """Send the publisher a gap for the packets that were dropped since the last one: the newest ones that it sent."""
        if stream.totals.dropped > reported:
            count = stream.totals.dropped - reported
            reason = "closing" if stream.ending else "overload"
            self._session.send(Gap(first_seq=self._session.next_seq - count, count=count, reason=reason))
        return stream.totals.dropped

    def _stream_failed(self, exc: Exception) -> None:
        if not self._failure.done():
            self._failure.set_result(exc)

    # Listeners -----------------------------------------------------------------------------------------------------------------------

    async def _listener(self, hello: ListenHello) -> None:
        registry, config = self._registry, self._registry.worker.engine.config
        stream = registry.expect(hello)
        n_q = None if hello.bandwidth is None else config.n_q_for(hello.bandwidth)
        history_s = registry.limits.history_s if hello.history_ms is None else min(hello.history_ms / 1000, registry.limits.history_s)
        min_n_q = None if hello.min_bandwidth is None else config.n_q_for(hello.min_bandwidth)
        options = SubscriberOptions(hello.stream, hello.format, n_q, min_n_q, history_s)
        listener = Subscriber(options, registry.limits, observer=registry.metrics)
        listener.failed = self._stream_failed
        self._session.accept(welcome_to(hello, stream, self._model, self._registry.limits, self._banner))
        registry.metrics.listeners_accepted += 1
        log.info("%s listens to %s: %s", self._peer, hello.stream, hello.format)
        # Before the welcome is sent: from then on the listener has what it was admitted for.
        if registry.subscribe(listener, hello.resume):
            registry.metrics.listeners_resumed += 1
        writer = asyncio.create_task(self._write_listener(listener))
        lost = False
        try:
            await self._flush()
            async for message in self._messages(writer):
                if isinstance(message, Report):
                    self._take_report(listener, message)
        except ConnectionClosed as exc:
            lost = _broke(exc)
            raise
        finally:
            writer.cancel()
            writer.add_done_callback(_retrieved)
            registry.unsubscribe(listener, lost=lost)

    def _take_report(self, listener: Subscriber, report: Report) -> None:
        asks = None
        if report.bandwidth is not None:
            if listener.format != "codes":
                raise RemoteProtocolError(WireCode.BAD_REQUEST, "report: bandwidth is for listeners of codes")
            # It is a bound: any number will do.
            asks = self._registry.worker.engine.config.bandwidth_to_n_q(report.bandwidth)
        listener.reported(report, asks)

    async def _write_listener(self, listener: Subscriber) -> None:
        metrics = self._registry.metrics
        while True:
            message = await listener.get()
            if self._session.close_code is not None:
                return
            self._session.send(message)
            if isinstance(message, Packet):
                metrics.packets_sent += 1
            await self._flush()

    # Both ----------------------------------------------------------------------------------------------------------------------------

    async def _messages(self, writer: asyncio.Task[None] | None = None) -> AsyncIterator[Message]:
        """What the peer sends until it closes, except pings, which are answered. Raises what broke the stream or the writer."""
        while self._session.close_code is None:
            reading, self._reading = self._reading, None
            data = await self._unless_failed(reading or self._ws.recv(), writer)
            for message in self._session.feed(data):
                if isinstance(message, Ping):
                    self._session.send(Pong(time=message.time, server_time=now_us()))
                    await self._flush()
                elif isinstance(message, Error):
                    log.info("%s gave up: %s (%s)", self._peer, message.reason, message.code)
                else:
                    yield message
        await self._close(self._session.close_code)

    async def _unless_failed(self, work: Coroutine[Any, Any, T] | asyncio.Future[T], writer: asyncio.Task[None] | None = None) -> T:
        """Await `work`; raise the reason where the stream or the writer breaks first."""
        task = asyncio.ensure_future(work)
        others: set[asyncio.Future[Any]] = {self._failure} if writer is None else {self._failure, writer}
        try:
            await asyncio.wait({task, *others}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            # Where both broke, only the other's reason is raised: asyncio complains about an exception that nobody retrieves.
            task.add_done_callback(_retrieved)
            if not task.done():
                task.cancel()
        if self._failure.done():
            exc = self._failure.result()
            raise RemoteProtocolError(WireCode.BAD_PAYLOAD, str(exc)) if isinstance(exc, InputError) else exc
        if writer is not None and writer.done():
            writer.result()
        return await task


def _retrieved(done: asyncio.Future[Any]) -> None:
    """Retrieve what a task has raised: asyncio complains about an exception that nobody retrieves."""
    if not done.cancelled():
        done.exception()


def _broke(exc: ConnectionClosed) -> bool:
    """Whether a connection broke without a close frame or as pings were not answered (1011), not because of what was sent over it."""
    return all(close is None or close.code == CloseCode.INTERNAL_ERROR for close in (exc.rcvd, exc.sent))
