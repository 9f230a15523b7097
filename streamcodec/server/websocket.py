"""The server's end of a WebSocket: that of `websockets`, which takes no more than a peer may send and writes messages without waiting.

`websockets` parses all that a socket has brought at once, and answers pings by itself. So what a peer sends is taken in by small pieces
here, and counted behind each of them: what comes too fast is not read yet, and who sends too many control frames is cut off.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, cast

from websockets.asyncio.server import ServerConnection
from websockets.frames import CTRL_OPCODES, Frame, Opcode
from websockets.protocol import Event, State

from streamcodec.errors import WireCode
from streamcodec.server.door import Door
from streamcodec.server.limits import Limits
from streamcodec.server.metrics import Metrics
from streamcodec.server.rate import TokenBucket

__all__ = ["WRITE_LIMIT", "MessageConnection", "framed"]

WRITE_LIMIT = 4096
"""Bytes that may wait in front of a client's socket. A few packets: what waits there is latency that no queue of ours sees."""
PIECE = 2048
"""Bytes that are taken in before they are counted. The smallest frames take 6 of them each, and 2 ms together."""
FAREWELL_S = 2.0
"""How long a peer that nothing more is read from has to read why, and to close the connection."""


@lru_cache(maxsize=64)
def framed(message: bytes) -> bytes:
    """A server's frame around one binary message; it is not masked, so the frame of a message that many clients get is made once."""
    return Frame(Opcode.BINARY, message).serialize(mask=False)


class MessageConnection(ServerConnection):
    """A client's connection, from `host` and `address` (that with the port); `key` is its name in the log.

    `on_writable` is called whenever its socket takes more again. `taken` sees each binary message when it comes, if `recv` waits for it:
    one that it takes wakes nobody. `cut_off_by` is called with the reason when the connection ends as its peer breaks a limit. Its peer has
    entered by the `door`, and leaves by it here.
    """

    def __init__(
        self,
        *args: Any,
        limits: Limits,
        door: Door,
        cut_off_by: Callable[[MessageConnection, str], None],
        metrics: Metrics,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.host, self.address = "", "peer"
        self.key = self.id.hex[:12]
        self._door = door
        self._metrics = metrics
        self.on_writable: Callable[[], None] = lambda: None
        self.taken: Callable[[bytes], bool] = lambda _: False
        self._cut_off_by = cut_off_by
        self._frames = TokenBucket(limits.frames, self.loop.time)
        self._bytes = TokenBucket(limits.incoming_bytes, self.loop.time)
        self._control_frames = TokenBucket(limits.control_frames, self.loop.time)
        self._inbox = bytearray()
        self._wait_s = 0.0
        self._over_limit: str | None = None
        # Why nothing is read now: the queue is full, it came too fast, or it is over.
        self._holds: set[str] = set()
        self._reading = True
        self._stalled: asyncio.TimerHandle | None = None

    # In ------------------------------------------------------------------------------------------------------------------------------

    def read_messages_of(self, most: int) -> None:
        """Read messages of up to `most` bytes from now on; a longer one ends the connection."""
        self.protocol.max_message_size = most

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it
        # Noted now: a transport that is closed may not tell them.
        if isinstance(found := self.remote_address, tuple):
            self.host, self.address = str(found[0]), f"{found[0]}:{found[1]}"
        super().connection_made(transport)
        queue = self.recv_messages
        queue.pause, queue.resume = lambda: self._hold("full"), lambda: self._release("full")

    def data_received(self, data: bytes) -> None:
        self._metrics.received_bytes += len(data)
        if self.protocol.eof_sent:
            # Nothing that comes now is looked at; it is waited for the peer to close the connection.
            self._slow_down(self._bytes.take(len(data)))
        else:
            self._inbox += data
            self._take_in()

    def _take_in(self) -> None:
        while self._inbox and not self._holds:
            piece = bytes(self._inbox[:PIECE])
            del self._inbox[:PIECE]
            self._wait_s = self._bytes.take(len(piece))
            super().data_received(piece)
            if self._over_limit is not None:
                self._cut_off(self._over_limit)
                return
            if self.protocol.eof_sent:
                self._inbox.clear()
                self.loop.call_later(FAREWELL_S, self.transport.abort)
            self._slow_down(self._wait_s)
        self._read_or_not()

    def _slow_down(self, wait_s: float) -> None:
        """Read nothing for so long."""
        if wait_s:
            self._hold("fast")
            self.loop.call_later(wait_s, self._release, "fast")

    def process_event(self, event: Event) -> None:
        if isinstance(event, Frame):
            if event.opcode in CTRL_OPCODES:
                if not self._control_frames.takes():
                    self._over_limit = f"more than {self._control_frames.rate.per_s:g} pings and pongs a second"
            else:
                self._wait_s = max(self._wait_s, self._frames.take())
            if event.opcode is Opcode.BINARY and event.fin:
                waiting = self.recv_messages
                if waiting.get_in_progress and not len(waiting.frames) and self.taken(bytes(event.data)):
                    return
        super().process_event(event)

    def _hold(self, why: str) -> None:
        self._holds.add(why)
        self._read_or_not()

    def _release(self, why: str) -> None:
        self._holds.discard(why)
        # Not at once: it is called by whoever takes a message out of the queue.
        self.loop.call_soon(self._take_in)

    def _read_or_not(self) -> None:
        wanted = not self._holds and not self._inbox
        if wanted is not self._reading and not self.transport.is_closing():
            self._reading = wanted
            if wanted:
                self.transport.resume_reading()
            else:
                self.transport.pause_reading()

    def _cut_off(self, reason: str) -> None:
        """Close with the reason, read nothing more, and drop the connection soon: a peer that floods or does not read answers no close."""
        self._inbox.clear()
        self._hold("over")
        if self.protocol.state is State.OPEN:
            self.protocol.fail(WireCode.RATE_LIMITED.close_code, reason)
            self.send_data()
        self.loop.call_later(FAREWELL_S, self.transport.abort)
        self._cut_off_by(self, reason)

    # Out -----------------------------------------------------------------------------------------------------------------------------

    @property
    def writable(self) -> bool:
        """Whether the connection is open, and less than `WRITE_LIMIT` waits in front of its socket."""
        return not self.paused and self.protocol.state is State.OPEN

    def write(self, messages: Sequence[bytes]) -> None:
        """Hand messages to the socket, at once and in one piece. Only while the connection is open."""
        self.write_frames(framed(messages[0]) if len(messages) == 1 else b"".join(map(framed, messages)))

    def write_frames(self, data: bytes) -> None:
        """Hand frames that are made already to the socket."""
        self._metrics.sent_bytes += len(data)
        self.transport.write(data)

    def pause_writing(self) -> None:
        super().pause_writing()
        # The library's own pings wait for as long as the peer reads nothing, so they would never notice it.
        if self.ping_interval is not None and self.ping_timeout is not None:
            self._stalled = self.loop.call_later(self.ping_interval + self.ping_timeout, self._give_up_stalled)

    def resume_writing(self) -> None:
        self._let_stall()
        super().resume_writing()
        self.on_writable()

    def connection_lost(self, exc: Exception | None) -> None:
        self._door.leave(self.host)
        self._inbox.clear()
        self._let_stall()
        super().connection_lost(exc)

    def _give_up_stalled(self) -> None:
        self.transport.abort()

    def _let_stall(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None
