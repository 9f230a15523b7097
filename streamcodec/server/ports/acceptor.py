"""Takes connections from listening sockets, at a bounded pace, and turns away at the socket whoever the door does not let in.

An event loop's own server makes a transport of each connection before anybody can look at it, and takes as many at a time as there are: a
thousand a second that come only to be refused would keep the loop from the streams. Here a refusal takes a few calls of the system, and who
comes faster than that waits in the system's queue.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Sequence

from streamcodec.server.door import Door
from streamcodec.server.rate import Rate, TokenBucket

__all__ = ["Acceptor"]

_IN_A_ROW = 16  # then the loop has a turn
_NO_DESCRIPTOR_S = 1.0
_REQUEST = 65_536

log = logging.getLogger("streamcodec.server")


class Acceptor:
    """Accepts at most `rate` connections on `sockets`; `protocol` makes the protocol of one that has entered by the `door` from a host.

    That protocol leaves by the door. With `told` whoever is turned away gets the reason as HTTP. It accepts from the start, and closes the
    sockets in the end. To `websockets` it is what an `asyncio.Server` is.
    """

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        rate: Rate,
        door: Door,
        protocol: Callable[[str], asyncio.Protocol],
        *,
        told: bool,
    ) -> None:
        self.sockets = tuple(sockets)
        self._loop = asyncio.get_running_loop()
        self._bucket = TokenBucket(rate, self._loop.time)
        self._door = door
        self._protocol = protocol
        self._told = told
        self._entering: set[asyncio.Task[None]] = set()
        for one in self.sockets:
            one.setblocking(False)
        self._accepting = [self._loop.create_task(self._accept(one)) for one in self.sockets]

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """The loop that it runs on."""
        return self._loop

    def is_serving(self) -> bool:
        """Whether it takes connections."""
        return not all(task.done() for task in self._accepting)

    def close(self) -> None:
        """Take nothing more; connections stay."""
        for task in self._accepting:
            task.cancel()

    async def wait_closed(self) -> None:
        """Wait until the sockets are closed and whoever was accepted has its protocol."""
        await asyncio.gather(*self._accepting, *self._entering, return_exceptions=True)
        for one in self.sockets:
            one.close()

    async def _accept(self, listening: socket.socket) -> None:
        in_a_row = 0
        while True:
            if (wait_s := self._bucket.take()) or in_a_row >= _IN_A_ROW:
                in_a_row = 0
                await asyncio.sleep(wait_s)
            in_a_row += 1
            try:
                connected, address = await self._loop.sock_accept(listening)
            except ConnectionError:
                continue  # it has gone again already
            except OSError as exc:
                log.error("no connection can be taken for %g s: %s", _NO_DESCRIPTOR_S, exc.strerror or exc)
                await asyncio.sleep(_NO_DESCRIPTOR_S)
                continue
            self._take(connected, str(address[0]))

    def _take(self, connected: socket.socket, host: str) -> None:
        away = self._door.enter(host)
        if away is None:
            task = self._loop.create_task(self._enter(connected, host))
            self._entering.add(task)
            task.add_done_callback(self._entering.discard)
            return
        with connected, contextlib.suppress(OSError):
            if self._told:
                connected.setblocking(False)
                connected.send(away.response())
                connected.recv(_REQUEST)  # closed with something unread, a socket takes its answer back

    async def _enter(self, connected: socket.socket, host: str) -> None:
        made = False

        def protocol() -> asyncio.Protocol:
            nonlocal made
            made = True
            return self._protocol(host)

        try:
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self._loop.connect_accepted_socket(protocol, connected)
        except OSError as exc:
            log.debug("%s: gone before it could be asked anything: %s", host, exc)
            connected.close()
            if not made:
                self._door.leave(host)
