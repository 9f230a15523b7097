"""Whether the other end is still there: a connection that dies silently is noticed by asking, and by looking how long nothing comes.

Silence is counted in looks, not read from a clock: a program that was too busy to look was too busy to listen. Every byte breaks it, and
it does not count while the question is on its way behind what was sent before: a slow link is no dead one.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import sys
from collections import deque
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.frames import Frame, Opcode
from websockets.protocol import Event, State

from streamcodec.protocol import now_us

if sys.platform == "linux":
    import fcntl
    import termios

__all__ = ["WatchedConnection"]

_DATA = (Opcode.TEXT, Opcode.BINARY, Opcode.CONT)
_LOOK_EVERY_S = 0.5
_ASK_AFTER = 2  # looks
_GIVE_UP_AFTER = 8
# A server may stop reading while a fast publisher sends more than it can encode.
_GIVE_UP_FAST_AFTER = 40


class WatchedConnection(ClientConnection):
    """A WebSocket connection that notices when the other end gives no sign of life; `dead` says that it was given up for that.

    `arrivals` are the times (us) at which the messages came that nobody has received yet.
    """

    dead = False
    _quiet = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.arrivals: deque[int] = deque()

    @property
    def in_doubt(self) -> bool:
        """Whether the other end was asked for a sign of life and none has come yet."""
        return self._quiet >= _ASK_AFTER

    def data_received(self, data: bytes) -> None:
        self._quiet = 0
        super().data_received(data)

    def process_event(self, event: Event) -> None:
        if isinstance(event, Frame) and event.opcode in _DATA and event.fin:
            self.arrivals.append(now_us())
        super().process_event(event)

    async def watch(self, *, fast: bool = False) -> None:
        """Break the connection off where nothing comes for 4 s; for 20 s where the other end may leave a `fast` sender waiting.

        It is aborted, not closed: a close frame would be a goodbye, and its answer would be waited for.
        """
        give_up_after, taken, question = _GIVE_UP_FAST_AFTER if fast else _GIVE_UP_AFTER, 0, 0
        while self._quiet < give_up_after:
            await asyncio.sleep(_LOOK_EVERY_S)
            if not self.transport.is_reading():
                self._quiet = 0  # nobody reads here: nothing can come
                continue
            self._quiet += 1
            before, (taken, left) = taken, self._sent()
            if self._quiet == _ASK_AFTER and self.protocol.state is State.OPEN:
                # Not by `ping`, which waits for as long as writing is paused.
                self.protocol.send_ping(b"")
                self.send_data()
                question = taken + left + 1
            elif self.in_doubt and before < taken < question:
                self._quiet = _ASK_AFTER
        self.dead = True
        self.transport.abort()

    def _sent(self) -> tuple[int, int]:
        """Bytes that the other end's system has confirmed so far, and those that it has not; zeros where this system does not tell."""
        if sys.platform == "linux":
            with contextlib.suppress(OSError, ValueError, struct.error):  # closed, of another kind, or an old kernel
                sock = self.transport.get_extra_info("socket")
                # The place of `tcpi_bytes_acked` in `struct tcp_info`.
                [taken] = struct.unpack_from("Q", sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 128), 120)
                waiting = int.from_bytes(fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
                return taken, self.transport.get_write_buffer_size() + waiting
        return 0, 0
