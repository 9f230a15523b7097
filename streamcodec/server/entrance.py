"""The first protocol of each connection: it reads one request, gives a browser the page's files, and hands all others to WebSocket.

It is small, as many connections end here: those that never send a request. The others wait here for their turn.

`websockets` closes a connection with its answer, and drops what its peer has not read ten seconds later: that is for short answers. A file
goes out as fast as its reader takes it here, and only who takes nothing for long is dropped.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any, cast

from websockets.datastructures import Headers
from websockets.http11 import Request
from websockets.streams import StreamReader

from streamcodec.server.addresses import peer_key
from streamcodec.server.door import Door, TurnedAway
from streamcodec.server.page import Answer
from streamcodec.server.proxies import Proxies
from streamcodec.server.refusals import Bound
from streamcodec.server.turns import HandshakeTurns

__all__ = ["Entrance", "request_in"]

MAX_HEAD = 16_384
"""Bytes of a request that are read before somebody else decides about it."""
PIECE = 32_768
"""Bytes that wait in front of a reader's socket at most."""
STALL_S = 30.0
"""Who takes nothing for so long is dropped."""
KERNEL_BUFFER = 131_072
"""Bytes that the system keeps for a reader. It asks for more only when a third of them is free, which must not take a slow one too long."""

Answering = Callable[[Headers, str], "Answer | None"]


class Entrance(asyncio.Protocol):
    """Asks `answer` about each plain GET; what it knows nothing about, and whatever is no plain GET, gets the protocol that `others` makes.

    Whoever connects has entered by the `door` from `host`, and leaves by it here, or by the other protocol; `turns` say when that one
    begins. Who has not sent a whole request after `patience_s` is dropped, and who has waited so long for a turn is told. `entrances`
    holds those that still read or answer a request, or wait.
    """

    def __init__(
        self,
        host: str,
        answer: Answering,
        door: Door,
        turns: HandshakeTurns,
        others: Callable[[], asyncio.Protocol],
        patience_s: float,
        entrances: set[Entrance],
        *,
        proxies: Proxies,
    ) -> None:
        self._answer = answer
        self._door = door
        self._turns = turns
        self._host: str | None = host  # of whoever has entered by the door and not left
        self._group: str | None = None  # in which it waits for its turn
        self._client = ""
        self._others = others
        self._proxies = proxies
        self._patience_s = patience_s
        self._entrances = entrances
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._received = bytearray()
        self._left = memoryview(b"")
        self._answering = False
        self._paused = False
        self._timer: asyncio.TimerHandle | None = None

    def close(self) -> None:
        """Drop the connection."""
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is of no class of asyncio's
        self._entrances.add(self)
        self._wait(self._patience_s, self.close)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        if self._host is not None:
            self._door.leave(self._host)
            self._host = None
        self._entrances.discard(self)
        self._stop_waiting()
        self._leave_queue()
        self._left = memoryview(b"")

    def data_received(self, data: bytes) -> None:
        if self._answering:
            return  # the connection ends behind the answer
        self._received += data
        if self._group is not None:
            return  # what had come when reading was paused
        is_get = self._received.startswith(b"GET "[: len(self._received)])
        whole = b"\r\n\r\n" in self._received
        if is_get and not whole and len(self._received) <= MAX_HEAD:
            return
        request = request_in(bytes(self._received)) if is_get and whole else None
        found = None if request is None or "Upgrade" in request.headers else self._answer(request.headers, request.path.partition("?")[0])
        host = self._host or ""
        client = host if request is None else self._proxies.client(host, request.headers)
        if found is None:
            self._queue_up(client)
            return
        self._stop_waiting()
        if (away := self._door.know(host, client)) is not None:
            self._turn_away(away)
            return
        self._answering = True
        self._host = client
        self._entrances.add(self)
        if found.packed:
            self._loop.run_in_executor(None, found.unpacked).add_done_callback(lambda done: self._send(done.result()))
        else:
            self._send(found)

    def pause_writing(self) -> None:
        self._paused = True
        self._drop_stalled()

    def resume_writing(self) -> None:
        self._paused = False
        self._stop_waiting()
        self._loop.call_soon(self._write)  # a transport that is just writing must not be closed

    def _send(self, answer: Answer) -> None:
        if self._transport.is_closing():
            return
        self._transport.set_write_buffer_limits(PIECE)
        self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BUFFER)
        self._left = memoryview(answer.body)
        self._transport.write(answer.head())
        self._write()

    def _write(self) -> None:
        while self._left and not self._paused:
            piece, self._left = self._left[:PIECE], self._left[PIECE:]
            self._transport.write(piece)
        if not self._left and not self._transport.is_closing():
            self._transport.close()  # once all of it is out
            self._drop_stalled()

    def _drop_stalled(self, before: int | None = None) -> None:
        """Look every `STALL_S` whether the reader has taken anything since."""
        left = self._transport.get_write_buffer_size()
        if left == before:
            self.close()
        else:
            self._wait(STALL_S, partial(self._drop_stalled, left))

    def _turn_away(self, away: TurnedAway) -> None:
        self._answering = True
        self._transport.write(away.response())
        self._transport.close()

    def _queue_up(self, client: str) -> None:
        """Wait for a turn, and read nothing meanwhile."""
        self._stop_waiting()
        if self._transport.is_closing():
            return
        self._client = client
        self._group = peer_key(client, bound_loopback=True) or client
        self._transport.pause_reading()
        self._wait(self._patience_s, self._give_up_queue)
        self._turns.ask(self._group, self._let_through)

    def _give_up_queue(self) -> None:
        self._leave_queue()
        told = f"too many connect at once: no turn came within {self._patience_s:g} s"
        self._turn_away(self._door.turn_away(self._client, TurnedAway(HTTPStatus.SERVICE_UNAVAILABLE, Bound.HANDSHAKES, told)))

    def _leave_queue(self) -> None:
        if self._group is not None:
            self._turns.withdraw(self._group, self._let_through)
            self._group = None

    def _let_through(self) -> None:
        """Let another protocol go on as if it had been here from the start."""
        self._stop_waiting()
        self._entrances.discard(self)
        self._group = None
        if self._transport.is_closing():
            return
        self._transport.resume_reading()
        self._host = None  # the next protocol leaves by the door
        protocol = self._others()
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        if self._received:
            protocol.data_received(bytes(self._received))

    def _wait(self, seconds: float, then: Callable[[], Any]) -> None:
        self._stop_waiting()
        self._timer = self._loop.call_later(seconds, then)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def request_in(received: bytes) -> Request | None:
    """The request that these bytes begin with; None where they are none."""
    reader = StreamReader()
    reader.feed_data(received)
    parsing = Request.parse(reader.read_line)
    try:
        next(parsing)
    except StopIteration as done:
        request: Request = done.value
        return request
    except Exception:  # whatever is wrong with it, the next protocol says so
        return None
    return None
