"""A publisher's way to the server: one connection after another, each taking packets from the same queue.

How much may be under way is bounded by `SendWindow`: 1 s and a round trip. What no pong has acknowledged is sent again where the connection
breaks and the server kept the stream.
"""

from __future__ import annotations

import asyncio
import math
import ssl
import time
from collections.abc import Callable
from dataclasses import replace

from streamcodec.client.connection import Connection
from streamcodec.client.kept_connection import KeptConnection
from streamcodec.client.reconnect import Note
from streamcodec.client.send_queue import Audio, Lost, SendQueue
from streamcodec.client.tokens import Token, with_token
from streamcodec.errors import ConnectionFailed
from streamcodec.protocol import Ended, Gap, PublishHello, Resume, now_us

__all__ = ["OnSent", "Uplink"]

OnSent = Callable[[int, int, int], None]

_ACK_EVERY_S = 0.5  # how often the server is asked how far it has read
_AGAIN_S = 3.0  # how much is kept of what was acknowledged where another server may go on from an older state
_MEASURED_S = 2.0  # how much more is kept than a resumption needs: the seconds in flight are counted there too


class Uplink:
    """Sends what `queue` holds until the stream is ended; `changed` is set whenever there may be more to send, or more room.

    A session that ends as its token has expired goes on where `token` gives another one. `on_sent` is told of each packet when the socket
    has taken it: its number, when its last sample was captured, and when it went (us).
    """

    def __init__(self, url: str, hello: PublishHello, note: Note, tls: ssl.SSLContext | None = None, token: Token = None) -> None:
        self.queue = SendQueue()
        self.changed = asyncio.Event()
        self.server_dropped = 0
        self.on_sent: OnSent = lambda *_: None
        self._hello = hello
        self._token = token
        self._kept = KeptConnection(url, note, tls, token)
        # What could not be sent while the connection was lost may wait until then.
        self._catch_up_until = -math.inf
        self._ended: asyncio.Future[Ended]
        self._task: asyncio.Task[None]

    async def open(self) -> None:
        """Connect, and begin to send."""
        self._keep(await self._kept.open(self._hello))
        self._ended = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Stop sending and close the connection."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._kept.close()

    @property
    def connection(self) -> Connection:
        """The connection that there is, or was last."""
        return self._kept.current

    @property
    def resumed(self) -> int:
        """How often the session went on with another connection."""
        return self._kept.resumed

    @property
    def catching_up(self) -> bool:
        """Whether the connection is or was lost a short time ago, or is in doubt: the queue may then be longer than usual."""
        return time.monotonic() < self._catch_up_until or self.connection.in_doubt

    def check(self) -> None:
        """Raise the reason why nothing is sent any more, if there is one."""
        if self._ended.done() and (failure := self._ended.exception()) is not None:
            raise failure

    async def end(self) -> Ended:
        """Send what waits, say that this is all, and return the server's count of it."""
        self.queue.close()
        self.changed.set()
        # Shielded: one waiter that gives up must not take the answer from the others.
        return await asyncio.shield(self._ended)

    async def _run(self) -> None:
        while True:
            connection = self.connection
            sending = asyncio.create_task(self._send(connection))
            try:
                await self._receive(connection)
                return
            except Exception as exc:
                lost = exc
            finally:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
            try:
                await self._resume(connection, lost)
            except Exception as exc:
                self._fail(exc)
                return

    async def _resume(self, broken: Connection, lost: Exception) -> None:
        secret, resume_s = broken.welcome.session, broken.welcome.resume_ms / 1000
        if secret is None:
            raise lost
        self._catch_up_until = math.inf

        def hello() -> PublishHello:
            next_seq = broken.session.next_seq + self.queue.numbers
            resume = Resume(session=secret, epoch=broken.session.epoch, next_seq=next_seq)
            return replace(with_token(self._hello, self._token), resume=resume)

        connection = await self._kept.resume(lost, hello)
        # The welcome tells this as a pong would: otherwise all that waits would be in flight before the first pong comes.
        connection.acknowledged = connection.session.next_seq
        self.queue.send_again(connection.session.next_seq)
        self._keep(connection)
        # An uplink that is too slow never catches up: after `resume_s` the queue has its usual bound again.
        self._catch_up_until = time.monotonic() + resume_s

    def _keep(self, connection: Connection) -> None:
        welcome = connection.welcome
        self.queue.keep_s = welcome.resume_ms / 1000 + _MEASURED_S
        self.queue.again_s = _AGAIN_S if welcome.alternates else 0.0

    async def _send(self, connection: Connection) -> None:
        session, queue = connection.session, self.queue
        connection.on_pong, connection.ahead_s = lambda: self._acknowledged(connection), lambda: queue.ahead_s
        unasked_s = 0.0
        try:
            while True:
                while queue and not self._is_full(connection):
                    entry, seq = queue.next(), session.next_seq
                    queue.sent(seq, entry)
                    if isinstance(entry, Lost):
                        session.send_gap(entry.count, entry.reason)
                    else:
                        captured = connection.clock.to_server(entry.captured)
                        session.send_packet(entry.payload, captured, entry.new_epoch, entry.n_q)
                        unasked_s += entry.duration_s
                    if unasked_s >= _ACK_EVERY_S or connection.window.in_doubt:
                        unasked_s = 0.0
                        await connection.ping()
                    else:
                        await connection.flush()
                    if isinstance(entry, Audio):
                        self.on_sent(seq, entry.captured + round(entry.duration_s * 1e6), now_us())
                    self.changed.set()
                if not queue:
                    self._catch_up_until = -math.inf
                    if queue.closed:
                        session.end()
                        await connection.flush()
                        return
                self.changed.clear()
                if unasked_s and connection.window.in_doubt:
                    # The round trip is measured once nothing is in flight, and only a pong tells that.
                    unasked_s = 0.0
                    await connection.ping()
                await self.changed.wait()
        except ConnectionFailed:
            return  # the task that receives learns why
        except Exception as exc:
            self._fail(exc)

    def _is_full(self, connection: Connection) -> bool:
        """Whether so much is in flight that more would only wait in buffers; unknown before the server's first pong."""
        return connection.acknowledged is not None and self.queue.sent_s > connection.window.max_s

    def _acknowledged(self, connection: Connection) -> None:
        if connection.acknowledged is not None:
            self.queue.acknowledge(connection.acknowledged)
        self.changed.set()

    async def _receive(self, connection: Connection) -> None:
        while True:
            message = await connection.receive()
            if isinstance(message, Gap):
                self.server_dropped += message.count
            elif isinstance(message, Ended):
                if not self._ended.done():
                    self._ended.set_result(message)
                return

    def _fail(self, exc: Exception) -> None:
        if not self._ended.done():
            self._ended.set_exception(exc)
            self._ended.exception()  # nobody may be waiting for it
        self.changed.set()
