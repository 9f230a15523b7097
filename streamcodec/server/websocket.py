"""The server's end of a WebSocket: that of `websockets`, which also writes messages without waiting, in frames that connections share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.frames import Frame, Opcode
from websockets.protocol import Event, State

__all__ = ["WRITE_LIMIT", "MessageConnection", "framed"]

WRITE_LIMIT = 4096
"""Bytes that may wait in front of a client's socket. A few packets: what waits there is latency that no queue of ours sees."""


@lru_cache(maxsize=64)
def framed(message: bytes) -> bytes:
    """A server's frame around one binary message; it is not masked, so the frame of a message that many clients get is made once."""
    return Frame(Opcode.BINARY, message).serialize(mask=False)


class MessageConnection(ServerConnection):
    """A client's connection. `on_writable` is called whenever its socket takes more again.

    `taken` sees each binary message when it comes, if `recv` waits for it: one that it takes wakes nobody.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.on_writable: Callable[[], None] = lambda: None
        self.taken: Callable[[bytes], bool] = lambda _: False

    @property
    def writable(self) -> bool:
        """Whether the connection is open, and less than `WRITE_LIMIT` waits in front of its socket."""
        return not self.paused and self.protocol.state is State.OPEN

    def write(self, messages: Sequence[bytes]) -> None:
        """Hand messages to the socket, at once and in one piece. Only while the connection is open."""
        self.transport.write(framed(messages[0]) if len(messages) == 1 else b"".join(map(framed, messages)))

    def process_event(self, event: Event) -> None:
        if isinstance(event, Frame) and event.opcode is Opcode.BINARY and event.fin:
            waiting = self.recv_messages
            if waiting.get_in_progress and not len(waiting.frames) and self.taken(bytes(event.data)):
                return
        super().process_event(event)

    def resume_writing(self) -> None:
        super().resume_writing()
        self.on_writable()
