"""Connections are taken at a bounded pace, and whoever the door turns away is told at the socket."""

from __future__ import annotations

import asyncio
import socket
from http import HTTPStatus
from typing import Any

import pytest
from patience import TIMEOUT_S

from streamcodec.server.door import TurnedAway
from streamcodec.server.ports import acceptor as module
from streamcodec.server.ports.acceptor import Acceptor
from streamcodec.server.rate import Rate
from streamcodec.server.refusals import Bound

AWAY = TurnedAway(HTTPStatus.TOO_MANY_REQUESTS, Bound.NEW_CONNECTIONS, "too many")


class FakeDoor:
    """Lets everybody in, or nobody."""

    def __init__(self, away: TurnedAway | None = None) -> None:
        self.away = away
        self.entered: list[str] = []
        self.left: list[str] = []

    def enter(self, host: str) -> TurnedAway | None:
        self.entered.append(host)
        return self.away

    def leave(self, host: str) -> None:
        self.left.append(host)


class Greeting(asyncio.Protocol):
    """Says from where somebody has come, and closes."""

    def __init__(self, host: str) -> None:
        self._host = host

    def connection_made(self, transport: Any) -> None:
        transport.write(self._host.encode())
        transport.close()


async def said_to(port: int) -> bytes:
    """All that somebody is told who connects."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(TIMEOUT_S):
            return await reader.read()
    finally:
        writer.close()


def listening() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


@pytest.mark.parametrize(("told", "answer"), [(True, AWAY.response()), (False, b"")])
def test_who_is_turned_away_is_told_where_that_can_be_read(told: bool, answer: bytes) -> None:
    async def main() -> tuple[bytes, FakeDoor]:
        door, one = FakeDoor(AWAY), listening()
        accepting = Acceptor([one], Rate(1000, 1000), door, Greeting, told=told)  # type: ignore[arg-type]
        said = await said_to(one.getsockname()[1])
        accepting.close()
        await accepting.wait_closed()
        return said, door

    said, door = asyncio.run(main())
    assert said == answer
    assert door.entered == ["127.0.0.1"]
    assert door.left == []


def test_who_comes_faster_than_the_bound_waits_in_the_system_s_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        waits: list[float] = []
        reached, go_on, sleep = asyncio.Event(), asyncio.Event(), asyncio.sleep

        async def held(seconds: float) -> None:
            if not seconds:
                await sleep(0)
                return
            waits.append(seconds)
            reached.set()
            await go_on.wait()

        monkeypatch.setattr(asyncio, "sleep", held)
        door, one = FakeDoor(), listening()
        accepting = Acceptor([one], Rate(0.001, 2), door, Greeting, told=True)  # type: ignore[arg-type]
        port = one.getsockname()[1]
        assert [await said_to(port) for _ in range(2)] == [b"127.0.0.1"] * 2
        third = asyncio.create_task(said_to(port))
        async with asyncio.timeout(TIMEOUT_S):
            await reached.wait()
        assert waits[0] > 900
        assert len(door.entered) == 2
        go_on.set()
        assert await third == b"127.0.0.1"
        assert len(door.entered) == 3
        accepting.close()
        await accepting.wait_closed()
        assert one.fileno() == -1 and not accepting.is_serving()

    asyncio.run(main())


def test_a_system_that_gives_no_connection_is_told_and_asked_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> bytes:
        loop, one = asyncio.get_running_loop(), listening()
        accept, failed = loop.sock_accept, list[socket.socket]()

        async def failing(sock: socket.socket) -> Any:
            if not failed:
                failed.append(sock)
                raise OSError(24, "Too many open files")
            return await accept(sock)

        monkeypatch.setattr(loop, "sock_accept", failing)
        monkeypatch.setattr(module, "_NO_DESCRIPTOR_S", 0.01)
        accepting = Acceptor([one], Rate(1000, 1000), FakeDoor(), Greeting, told=True)  # type: ignore[arg-type]
        said = await said_to(one.getsockname()[1])
        accepting.close()
        await accepting.wait_closed()
        return said

    assert asyncio.run(main()) == b"127.0.0.1"
    assert "no connection can be taken for 0.01 s: Too many open files" in caplog.text


def test_who_has_asked_already_can_read_why_it_is_turned_away() -> None:
    async def main() -> bytes:
        one = listening()
        reader, writer = await asyncio.open_connection("127.0.0.1", one.getsockname()[1])
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        await writer.drain()
        accepting = Acceptor([one], Rate(1000, 1000), FakeDoor(AWAY), Greeting, told=True)  # type: ignore[arg-type]
        async with asyncio.timeout(TIMEOUT_S):
            said = await reader.read()
        writer.close()
        accepting.close()
        await accepting.wait_closed()
        return said

    assert asyncio.run(main()) == AWAY.response()
