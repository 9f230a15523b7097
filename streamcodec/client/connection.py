"""A client's end of one connection: it joins a socket to a session, turns its errors into ours, and estimates the server's clock."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import deque
from collections.abc import Callable
from typing import Any

from websockets.asyncio.client import connect
from websockets.exceptions import ConcurrencyError, ConnectionClosed, InvalidHandshake, InvalidURI, NegotiationError
from websockets.typing import Subprotocol

from streamcodec.client.heartbeat import WatchedConnection
from streamcodec.client.route import may_follow
from streamcodec.errors import (
    ConnectionFailed,
    InputError,
    LocalProtocolError,
    Refused,
    RemoteProtocolError,
    UntrustedServerError,
    WireCode,
)
from streamcodec.protocol import (
    READ_BYTES,
    SUBPROTOCOL,
    ClientSession,
    ClockEstimate,
    Error,
    ListenHello,
    Message,
    Pong,
    PublishHello,
    Refuse,
    Welcome,
    now_us,
    unwrap_timestamp,
)
from streamcodec.protocol.transitions import State
from streamcodec.protocol.window import Departure, SendWindow

__all__ = ["Connection", "open_connection"]

_PINGS_AT_START = 4
_PING_EVERY_S = 5.0
# How much of a publisher's audio may be in flight, besides one round trip of it. The quickest of the last pings gives the round trip.
_WINDOW_S = 1.0
_TRIPS = 8


async def open_connection(
    url: str, hello: PublishHello | ListenHello, timeout_s: float = 10.0, *, tls: ssl.SSLContext | None = None
) -> Connection:
    """Connect, say hello and wait for the answer; `tls` says whom to trust (`trusting`), where the system's authorities do not.

    Raises `Refused` where the server says no, `UntrustedServerError` for its certificate, `ConnectionFailed` where there is no server or it
    speaks something else, and `InputError` for a malformed `url`.
    """
    secured: dict[str, Any] = {} if tls is None else {"ssl": tls}
    try:
        ws = await connect(
            url,
            subprotocols=[Subprotocol(SUBPROTOCOL)],
            compression=None,
            max_size=READ_BYTES,
            open_timeout=timeout_s,
            write_limit=4096,
            # The library's own pings end in a close frame, far too late to resume.
            ping_interval=None,
            proxy=None,
            create_connection=WatchedConnection,
            **secured,
        )
        assert isinstance(ws, WatchedConnection)
    except ssl.SSLCertVerificationError as exc:
        told = f"{url} shows a certificate that is not trusted: {exc.verify_message}"
        raise UntrustedServerError(f"{told}. Its own one, or its authority's, can be named: --tls-ca FILE") from exc
    except ssl.SSLError as exc:
        raise ConnectionFailed(f"{url} answers, but not by TLS as it should ({exc.reason or exc})") from exc
    except (InvalidURI, ValueError) as exc:
        raise InputError(f"{url!r} is no WebSocket address, expected for instance ws://127.0.0.1:8765") from exc
    except NegotiationError as exc:
        raise ConnectionFailed(f"{url} answers, but does not speak {SUBPROTOCOL}") from exc
    except InvalidHandshake as exc:
        raise ConnectionFailed(f"{url} answers, but not as a WebSocket server: {exc}") from exc
    except TimeoutError as exc:
        raise ConnectionFailed(f"{url} does not answer within {timeout_s:g} s") from exc
    except (OSError, EOFError) as exc:
        how = "streamcodec serve --tls-certificate, or a proxy that speaks TLS" if url.startswith("wss:") else "streamcodec serve"
        raise ConnectionFailed(f"cannot connect to {url}: {_short(exc)}. Is the server running ({how})?") from exc
    if ws.subprotocol != SUBPROTOCOL:
        await ws.close()
        raise ConnectionFailed(f"{url} answers, but does not speak {SUBPROTOCOL}")
    connection = Connection(ws, ClientSession(hello), url)
    try:
        async with asyncio.timeout(timeout_s):
            await connection.greet()
    except TimeoutError as exc:
        ws.transport.abort()  # a server that says nothing would not answer a close frame either
        await connection.close()
        raise ConnectionFailed(f"{url} does not answer the hello within {timeout_s:g} s") from exc
    except BaseException:
        await connection.close()
        raise
    return connection


class Connection:
    """An established connection. One task may receive; any may send.

    `acknowledged` is the number up to which the server has taken a publisher's packets, as far as its pongs tell: it reads in order.
    `window` says how much of them may be under way, from the pings' trips; for that `ahead_s` tells how much is, in front of a ping.
    `closing` is what the server will say when it closes, once it has said that it will.
    `received` is when the last message came that `receive` has returned, or passed over (us of `now_us`).
    """

    def __init__(self, ws: WatchedConnection, session: ClientSession, url: str) -> None:
        self.session = session
        self.url = url
        self.clock = ClockEstimate()
        self.received = now_us()
        self.acknowledged: int | None = None
        self.closing: Refused | None = None
        self.on_pong: Callable[[], None] = lambda: None
        self.window = SendWindow(_WINDOW_S, trips=_TRIPS, guess_s=0.0, clock=lambda: now_us() / 1e6)
        self.ahead_s: Callable[[], float] = lambda: 0.0
        self.welcome: Welcome
        # Our time, the next number then, whether it is for the clock, and how it left.
        self._pings: deque[tuple[int, int, bool, Departure]] = deque()
        self._ws = ws
        self._sending = asyncio.Lock()
        self._pinger: asyncio.Task[None] | None = None
        self._watcher: asyncio.Task[None] | None = None

    @property
    def in_doubt(self) -> bool:
        """Whether nothing comes from the server, so that the connection may be lost already."""
        return self._ws.in_doubt

    async def greet(self) -> None:
        """Send the hello and take the welcome."""
        sent = now_us()
        await self.flush()
        message = await self.receive()
        if not isinstance(message, Welcome):
            raise LocalProtocolError(f"the server answered the hello with {message.type!r}")
        self.welcome = message
        self.clock = self.clock.update(sent, message.time, now_us())
        self._pinger = asyncio.create_task(self._ping())
        hello = self.session.hello
        self._watcher = asyncio.create_task(self._ws.watch(fast=isinstance(hello, PublishHello) and hello.pace == "fast"))

    async def receive(self) -> Message:
        """The next message, clock exchanges aside.

        Raises `Refused` for a refusal or an error of the server's, `RemoteProtocolError` where it breaks the rules, `ConnectionFailed` when
        the connection is over.
        """
        while True:
            try:
                data = await self._ws.recv()
            except ConnectionClosed as exc:
                raise self._lost(exc) from exc
            self.received = self._ws.arrivals.popleft()
            try:
                messages = self.session.feed(data)
            except RemoteProtocolError:
                await self.close()
                raise
            if not messages and self.session.state is State.CLOSED:
                raise ConnectionFailed(f"the connection to {self.url} is closed")
            for message in messages:
                if isinstance(message, Pong):
                    self._take_pong(message)
                elif isinstance(message, Refuse):
                    wait_s = (message.retry_after_ms or 0) / 1000 or None
                    raise Refused(message.code, message.reason, message.retry, wait_s, self._go_to(message))
                elif isinstance(message, Error):
                    raise Refused(message.code, message.reason, _retry(message.code), go_to=self._go_to(message))
                else:
                    return message

    async def flush(self) -> None:
        """Send what the session has queued."""
        async with self._sending:
            for data in self.session.data_to_send():
                try:
                    await self._ws.send(data)
                except ConnectionClosed as exc:
                    raise self._lost(exc) from exc

    async def close(self) -> None:
        """Close the socket; harmless when it is closed."""
        if self._pinger is not None:
            self._pinger.cancel()
        discarding = asyncio.create_task(self._discard())
        try:
            with contextlib.suppress(ConnectionFailed):
                await self.flush()
            await self._ws.close(self.session.close_code or 1000)
        finally:
            discarding.cancel()
            if self._watcher is not None:
                self._watcher.cancel()

    async def _discard(self) -> None:
        """Read what still comes: the server's close frame comes after all that it sent before."""
        with contextlib.suppress(ConnectionClosed, ConcurrencyError):  # another task that reads already does this as well
            while True:
                await self._ws.recv()

    def server_time(self, timestamp: int) -> int:
        """A packet's 32-bit timestamp as a whole time on the server's clock (us)."""
        return unwrap_timestamp(timestamp, self.clock.to_server(now_us()))

    async def ping(self, *, clock: bool = False) -> None:
        """Ask the server how far it has read. With `clock`, use its time as well: a ping among packets is often too late for that."""
        sent = now_us()
        self._pings.append((sent, self.session.next_seq, clock, self.window.depart(self.ahead_s())))
        self.session.ping(sent)
        await self.flush()

    def _take_pong(self, pong: Pong) -> None:
        if pong.closing_ms is not None:
            code = WireCode.SERVER_CLOSING
            self.closing = Refused(code, f"the server closes in {pong.closing_ms / 1000:g} s", code.retry, go_to=self._go_to(pong))
        while self._pings:
            sent, next_seq, clock, departure = self._pings.popleft()
            if sent == pong.time:
                self.acknowledged = next_seq
                self.window.answered(departure)
                if clock:
                    self.clock = self.clock.update(sent, pong.server_time, now_us())
                break
        self.on_pong()

    async def _ping(self) -> None:
        count = 0
        try:
            while True:
                await asyncio.sleep(0.05 if count < _PINGS_AT_START else _PING_EVERY_S)
                if self.session.close_code is not None:
                    return
                await self.ping(clock=True)
                count += 1
        except (ConnectionFailed, LocalProtocolError):
            return  # the task that receives or sends learns why

    def _go_to(self, told: Refuse | Error | Pong) -> str | None:
        """Where the server sends this client, if it may go there."""
        return told.go_to if told.go_to is not None and may_follow(self.url, told.go_to) else None

    def _lost(self, exc: ConnectionClosed) -> ConnectionFailed:
        if exc.rcvd is not None and 4000 <= exc.rcvd.code < 5000:
            code = next((c for c in WireCode if c.close_code == exc.rcvd.code), WireCode.INTERNAL)
            return Refused(code, exc.rcvd.reason or "the server closed the connection", code.retry)
        why = "nothing came any more" if self._ws.dead else str(exc)
        return ConnectionFailed(f"the connection to {self.url} was lost: {why}")


def _retry(code: str) -> bool:
    return any(known == code and known.retry for known in WireCode)


def _short(exc: BaseException) -> str:
    return getattr(exc, "strerror", None) or str(exc) or type(exc).__name__
