"""A connection of the load: it is over before its event loop is, whatever the peer does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from benchmarks.capacity import connection
from benchmarks.capacity.connection import LoadConnection, close_all
from streamcodec.protocol import ListenHello, Message

HELLO = ListenHello(stream="alice", format="codes", model="0" * 32)

Peer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def met(peer: Peer) -> tuple[LoadConnection, list[str]]:
    """A connection that `peer` has taken, closed; and what it was told of its end."""
    taken, lost = asyncio.Event(), list[str]()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        taken.set()
        await peer(reader, writer)

    async with await asyncio.start_server(take, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        one = LoadConnection(f"ws://127.0.0.1:{port}", HELLO, list[Message]().append, lost.append)
        one.open()
        await taken.wait()
        await close_all([one])
        return one, lost


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.close()


async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.read(1024):
        pass
    writer.close()


@pytest.mark.parametrize("peer", [hang_up, never_answer])
def test_it_is_over_before_its_event_loop_is(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_CLOSES_S", 0.05)
    one, lost = asyncio.run(met(peer))
    assert one.over
    assert lost == []


def test_one_that_nobody_takes_is_over_at_once() -> None:
    async def main() -> tuple[LoadConnection, list[str]]:
        lost: list[str] = []
        one = LoadConnection("ws://127.0.0.1:1", HELLO, list[Message]().append, lost.append)
        one.open()
        await one.wait_closed()
        return one, lost

    one, [reason] = asyncio.run(main())
    assert one.over and "127.0.0.1" in reason
