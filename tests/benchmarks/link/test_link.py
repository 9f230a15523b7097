"""The network that tests and benchmarks run on: what its conditions say by themselves, and what two ends of a connection feel."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import pytest
from patience import TIMEOUT_S

from benchmarks.link import Conditions, Direction, Link, LinkState

ALWAYS_200 = ((-math.inf, 0.2),)


def run(main: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(TIMEOUT_S):
            await main

    asyncio.run(bounded())


# Conditions --------------------------------------------------------------------------------------------------------------------------


def test_a_plain_link_takes_no_time_and_a_delay_is_a_delay() -> None:
    assert LinkState(Direction()).send(1.0, 1000) == 1.0
    assert LinkState(Direction(delay_s=0.05)).send(1.0, 1000) == pytest.approx(1.05)


def test_bytes_wait_for_the_link_to_be_free() -> None:
    course = LinkState(Direction(rates=((0.0, 1000.0),)))
    assert [course.send(t, 500) for t in (0.0, 0.1, 5.0)] == [pytest.approx(t) for t in (0.5, 1.0, 5.5)]


def test_a_rate_that_changes_while_something_goes_through_counts_from_then_on() -> None:
    course = LinkState(Direction(rates=((0.0, 1000.0), (1.0, 100.0), (2.0, None))))
    assert course.send(0.5, 550) == pytest.approx(1.5)
    assert course.send(1.5, 10_000) == pytest.approx(2.0), "behind the last step there is no limit"


def test_nothing_goes_through_in_a_stall_and_everything_after_it() -> None:
    course = LinkState(Direction(delay_s=0.01, stalls=((1.0, 3.0),)))
    assert [course.send(t, 100) for t in (0.9, 1.1, 2.9, 3.1)] == [pytest.approx(t) for t in (0.91, 3.01, 3.01, 3.11)]


def test_a_link_that_never_goes_on_delivers_never() -> None:
    assert LinkState(Direction(rates=((0.0, 0.0),))).send(1.0, 1) == math.inf
    assert LinkState(Direction(stalls=((0.0, math.inf),))).send(1.0, 1) == math.inf


def test_jitter_keeps_to_its_bounds_and_its_seed_and_to_the_order() -> None:
    direction = Direction(delay_s=0.02, jitters=ALWAYS_200, seed=3)
    times = [i * 0.013 for i in range(-50, 500)]
    travels = [direction.travel_at(t) for t in times]
    assert 0.02 <= min(travels) < 0.03 and 0.21 < max(travels) <= 0.22
    assert travels == [Direction(delay_s=0.02, jitters=ALWAYS_200, seed=3).travel_at(t) for t in times]
    assert travels != [Direction(delay_s=0.02, jitters=ALWAYS_200, seed=4).travel_at(t) for t in times]
    course = LinkState(direction)
    arrivals = [course.send(t, 100) for t in times]
    assert arrivals == sorted(arrivals)
    assert all(0.02 <= arrived - sent <= 0.2201 for sent, arrived in zip(times, arrivals, strict=True))


def test_a_cut_lasts_until_its_end() -> None:
    conditions = Conditions(cuts=((1.0, 2.0),))
    assert [conditions.cut_at(t) for t in (0.9, 1.0, 1.9, 2.0)] == [False, True, True, False]


# Sockets -----------------------------------------------------------------------------------------------------------------------------

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@contextlib.asynccontextmanager
async def server(handle: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[int]:
    """Serve on a free port, which it yields; all handlers are over at the end."""
    over: list[asyncio.Future[None]] = []

    async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        done = asyncio.get_running_loop().create_future()
        over.append(done)
        try:
            await handle(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            done.set_result(None)

    listening = await asyncio.start_server(guarded, "127.0.0.1", 0)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()
        await asyncio.gather(*over)


@contextlib.asynccontextmanager
async def connected(port: int) -> AsyncIterator[Streams]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1000):
        writer.write(data)
        await writer.drain()


@pytest.mark.parametrize(
    "direction",
    [
        Direction(),
        Direction(delay_s=0.02, jitters=((-math.inf, 0.05),), seed=1),
        Direction(rates=((-math.inf, 100_000.0),)),
        Direction(stalls=((0.05, 0.25),), buffer_bytes=500),
        Direction(
            delay_s=0.01, jitters=((0.0, 0.01), (0.5, 0.0)), rates=((0.0, 40_000.0), (0.2, None)), stalls=((0.1, 0.15), (0.3, 0.4)), seed=2
        ),
    ],
    ids=["plain", "jitter", "slow", "stall", "all"],
)
def test_bytes_arrive_complete_and_in_order(direction: Direction) -> None:
    sent = random.Random(0).randbytes(20_000)

    async def main() -> None:
        async with server(echo) as port, Link(port, Conditions(up=direction, down=direction)) as link, connected(link.port) as (r, w):
            link.begin()
            w.write(sent)
            w.write_eof()
            assert await r.read(-1) == sent
            assert link.passed == {"up": len(sent), "down": len(sent)}
            assert link.held_bytes == 0

    run(main())


def test_a_delay_is_felt_in_both_directions() -> None:
    async def main() -> None:
        conditions = Conditions(up=Direction(delay_s=0.05), down=Direction(delay_s=0.1))
        async with server(echo) as port, Link(port, conditions) as link, connected(link.port) as (r, w):
            begun = time.perf_counter()
            w.write(b"there and back")
            assert await r.readexactly(14) == b"there and back"
            assert time.perf_counter() - begun >= 0.149

    run(main())


def test_throughput_is_what_the_link_has_within_a_factor_of_two() -> None:
    async def main() -> None:
        conditions = Conditions(down=Direction(rates=((-math.inf, 20_000.0),)))
        async with server(echo) as port, Link(port, conditions) as link, connected(link.port) as (r, w):
            begun = time.perf_counter()
            w.write(bytes(20_000))
            await r.readexactly(20_000)
            # No faster than it may be; how much slower a busy machine makes it is not this link's doing.
            assert time.perf_counter() - begun >= 0.5

    run(main())


def test_a_stalled_link_lets_a_sender_send_only_so_much() -> None:
    async def main() -> None:
        async with server(echo) as port, Link(port, Conditions(up=Direction(stalls=((0.0, math.inf),), buffer_bytes=2000))) as link:
            link.begin()
            sender = socket.socket()
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            with sender:
                sender.connect(("127.0.0.1", link.port))
                sender.setblocking(False)
                taken, refused = 0, 0
                while refused < 10:
                    try:
                        taken += sender.send(bytes(1000))
                        refused = 0
                    except BlockingIOError:
                        refused += 1
                    await asyncio.sleep(0.005)
                assert taken < 64_000, "the rest waits with its sender"
                assert link.held_bytes == 2000
                assert link.passed["up"] == 0

    run(main())


def test_a_receiver_that_does_not_read_holds_the_link_up() -> None:
    async def main() -> None:
        stop = asyncio.Event()

        async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:  # noqa: ARG001
            writer.transport.set_write_buffer_limits(high=0)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    while True:
                        writer.write(bytes(1000))
                        await writer.drain()
            stop.set()
            writer.transport.abort()

        async with server(flood) as port, Link(port, Conditions(down=Direction(buffer_bytes=3000))) as link:
            receiver = socket.socket()
            receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            with receiver:
                receiver.connect(("127.0.0.1", link.port))
                await stop.wait()
                assert link.passed["down"] < 64_000

    run(main())


def test_a_cut_is_seen_by_both_ends_and_nobody_connects_before_it_is_over() -> None:
    async def main() -> None:
        seen: list[str] = []

        async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while data := await reader.read(100):
                    writer.write(data)
                seen.append("end")
            except ConnectionResetError:
                seen.append("reset")

        async with server(wait) as port, Link(port, Conditions(cuts=((1000.0, 2000.0),))) as link:
            async with connected(link.port) as (reader, writer):
                writer.write(b"hello")
                assert await reader.readexactly(5) == b"hello"
                # In the middle of the cut, which lasts longer than any machine takes for what follows.
                link.begin(time.perf_counter() - 1100.0)
                with pytest.raises(ConnectionResetError):
                    await reader.read(1)
            for _ in range(5):
                with pytest.raises(ConnectionResetError):
                    async with connected(link.port) as (reader, writer):
                        await reader.readexactly(1)
            link.begin(time.perf_counter() - 2100.0)
            async with connected(link.port) as (reader, writer):
                writer.write(b"again")
                assert await reader.readexactly(5) == b"again"
                writer.write_eof()
                assert await reader.read() == b""
        assert seen == ["reset", "end"]

    run(main())


def test_a_server_that_is_not_there_is_told_by_a_reset() -> None:
    async def main() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            async with Link(taken.getsockname()[1]) as link, connected(link.port) as (reader, _):
                with pytest.raises(ConnectionResetError):
                    await reader.read(1)

    run(main())


def test_connections_that_share_a_link_have_its_rate_together() -> None:
    async def main() -> None:
        conditions = Conditions(down=Direction(rates=((-math.inf, 20_000.0),)), shared=True)
        async with server(echo) as port, Link(port, conditions) as link, connected(link.port) as one, connected(link.port) as other:
            begun = time.perf_counter()
            for _, w in (one, other):
                w.write(bytes(10_000))
            await asyncio.gather(*(r.readexactly(10_000) for r, _ in (one, other)))
            # Each of them alone would need half a second.
            assert time.perf_counter() - begun >= 0.9

    run(main())
