"""An event loop whose time is made up, and a line to a server in it: bytes take as long as a link of such a rate and delay needs."""

from __future__ import annotations

import asyncio
import selectors
from collections import deque
from collections.abc import Coroutine
from typing import Any

import pytest
from client_rig import MODEL

import streamcodec.client.connection as connection_module
import streamcodec.client.packetizer as packetizer_module
import streamcodec.client.uplink as uplink_module
from streamcodec.client.connection import Connection
from streamcodec.client.heartbeat import WatchedConnection
from streamcodec.protocol import ClientSession, End, Ended, Gap, Packet, Ping, Pong, PublishHello, ServerSession, Welcome


class _Winding(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
    """Nothing is waited for: the clock is wound instead."""

    now = 1000.0

    def select(self, timeout: float | None = None) -> list[Any]:
        assert timeout is not None, "everybody waits for ever"
        self.now += timeout
        return super().select(0)


class MadeUpLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.winding = _Winding()
        super().__init__(self.winding)

    def time(self) -> float:
        return self.winding.now


def run_in_made_up_time(monkeypatch: pytest.MonkeyPatch, main: Coroutine[Any, Any, None]) -> None:
    """Run `main` to its end; publishers and their connections read the made-up clock too."""
    loop = MadeUpLoop()
    for module in (connection_module, packetizer_module, uplink_module):
        monkeypatch.setattr(module, "now_us", lambda: round(loop.time() * 1e6))
    monkeypatch.setattr(uplink_module.time, "monotonic", loop.time)
    try:
        loop.run_until_complete(main)
    finally:
        loop.close()


class Line(WatchedConnection):
    """A client's end of a link of `rate` bytes/s and a round trip of `delay_s`, with no end to its buffers, and the server behind it.

    The server answers every ping. `arrived` has when a packet arrived (s) and its number, `gaps` what the publisher said it lost.
    """

    in_doubt = False

    def __init__(self, rate: float, delay_s: float) -> None:
        self.rate = rate
        self.delay_s = delay_s
        self.arrived: list[tuple[float, int]] = []
        self.gaps: list[Gap] = []
        self.arrivals = deque()
        self._free_at = self._arrives_at = 0.0
        self._on_its_way: deque[bytes] = deque()
        self._coming: asyncio.Queue[bytes] = asyncio.Queue()
        self._server = ServerSession()
        self._loop = asyncio.get_running_loop()

    async def send(self, data: Any, text: bool | None = None) -> None:  # noqa: ARG002
        self._free_at = max(self._loop.time(), self._free_at) + len(data) / self.rate
        # Nothing overtakes.
        self._arrives_at = max(self._arrives_at, self._free_at + self.delay_s / 2)
        self._on_its_way.append(data)
        self._loop.call_at(self._arrives_at, self._take)

    async def recv(self, decode: bool | None = None) -> Any:  # noqa: ARG002
        data = await self._coming.get()
        self.arrivals.append(round(self._loop.time() * 1e6))
        return data

    async def close(self, code: int = 1000, reason: str = "") -> None:
        pass

    async def watch(self, *, fast: bool = False) -> None:
        pass

    def _take(self) -> None:
        now = self._loop.time()
        for message in self._server.feed(self._on_its_way.popleft()):
            if isinstance(message, PublishHello):
                self._server.accept(
                    Welcome(
                        role="publish",
                        stream=message.stream,
                        model=MODEL,
                        format=message.format,
                        bandwidth=6.0,
                        n_q=8,
                        packet_frames=6,
                        start="primed",
                        epoch=0,
                        next_seq=0,
                        time=round(now * 1e6),
                        session="5e55",
                        resume_ms=10_000,
                    )
                )
            elif isinstance(message, Ping):
                self._server.send(Pong(time=message.time, server_time=round(now * 1e6)))
            elif isinstance(message, Packet):
                self.arrived.append((now, message.seq))
            elif isinstance(message, Gap):
                self.gaps.append(message)
            elif isinstance(message, End):
                self._server.send(Ended(received=len(self.arrived), emitted=0, dropped=0))
        for answer in self._server.data_to_send():
            self._loop.call_later(self.delay_s / 2, self._coming.put_nowait, answer)

    async def connect(self, _: str, hello: PublishHello, *, tls: None) -> Connection:  # noqa: ARG002
        """As `open_connection` does."""
        connection = Connection(self, ClientSession(hello), "the server")
        await connection.greet()
        return connection
