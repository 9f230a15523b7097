"""A server that drains lets nobody in, tells everybody when it closes and where to go, loses nothing, and is over in time."""

from __future__ import annotations

import asyncio
import contextlib

import numpy as np
import pytest
from patience import TIMEOUT_S, pass_time
from server_rig import (
    OURS,
    http_get,
    listen_hello,
    offline_codec,
    packet,
    publish_hello,
    raw,
    run,
    same_codes,
    serving,
    small_limits,
    until,
    voice,
)

from streamcodec.client import Destination, keep_trying, listen, now_us, publish, publish_source
from streamcodec.client.publisher import PublishOptions
from streamcodec.client.route import MAX_HOPS
from streamcodec.errors import ConnectionFailed, InputError, Refused
from streamcodec.protocol import Gap, Packet, Ping, parse, unpack_codes
from streamcodec.server import Operations
from streamcodec.server.cluster.alone import Alone
from streamcodec.server.draining import CLOSING_S, Draining
from streamcodec.server.leaving import MovePace


class HeldSource:
    """Samples that stop in their middle until `go_on` is set. `given` says up to where each attempt came."""

    label, sample_rate, channels, dropped_s = "made up", 24_000, 1, 0.0

    def __init__(self, x):
        self.go_on = asyncio.Event()
        self.given = []
        self._x = x
        self._at = 0

    @property
    def exhausted(self):
        return self._at >= len(self._x)

    async def blocks(self):
        if self._at:
            self.given.append(self._at)
        while not self.exhausted:
            block = self._x[self._at : self._at + 1000]
            self._at += len(block)
            yield block[None], now_us()
            if self._at >= len(self._x) / 2:
                await self.go_on.wait()
        self.given.append(self._at)

    def close(self):
        pass


ELSEWHERE = "wss://b.example/voice"


class Clock:
    now = 50.0

    def __call__(self):
        return self.now


@pytest.mark.parametrize(("within_s", "lasts_s"), [(60, 60 - CLOSING_S), (2 * CLOSING_S, CLOSING_S), (2, 1)])
def test_there_is_time_left_to_close(within_s, lasts_s):
    clock = Clock()
    draining = Draining(clock)
    assert not draining.begun and draining.pong(Ping(time=7)).closing_ms is None
    assert draining.farewell().retry_after_ms is None
    draining.begin(within_s, ELSEWHERE)
    assert draining.begun
    pong = draining.pong(Ping(time=7))
    assert (pong.time, pong.closing_ms, pong.go_to) == (7, 1000 * lasts_s, ELSEWHERE)
    farewell = draining.farewell()
    assert (farewell.code, farewell.retry_after_ms, farewell.go_to) == ("server_closing", 1000 * lasts_s, ELSEWHERE)
    clock.now += lasts_s
    assert draining.over and draining.pong(Ping(time=7)).closing_ms == 0


@pytest.mark.parametrize(("within_s", "after_s"), [(60, 51), (8, 2.5), (2, 0.5)])
def test_who_may_still_move_is_told_late_that_the_server_closes(within_s, after_s):
    clock, others = Clock(), Alone()
    others.moves = True
    draining = Draining(clock, others=lambda: others)
    draining.begin(within_s)
    ping = Ping(time=7)
    assert draining.pong(ping).closing_ms is not None and draining.pong(ping, can_move=True).closing_ms is None
    clock.now += after_s - 0.01
    assert draining.pong(ping, can_move=True).closing_ms is None
    clock.now += 0.02
    assert draining.pong(ping, can_move=True).closing_ms > 0
    others.moves = False
    clock.now = 50.0
    assert draining.pong(ping, can_move=True).closing_ms is not None, "there is nowhere to go with the stream"


def test_each_part_of_a_stop_leaves_time_for_the_others():
    clock = Clock()
    draining = Draining(clock)
    assert draining.part_s(5) == 5
    draining.begin(8)
    assert draining.part_s(5) == 4
    clock.now += 6
    assert draining.part_s(5) == 1
    clock.now += 3
    assert draining.part_s(5) == 0


def test_the_earlier_of_two_times_holds():
    clock = Clock()
    draining = Draining(clock, "ws://127.0.0.1:1")
    draining.begin(20)
    draining.begin(1000)
    clock.now += 17
    assert draining.over and draining.go_to == "ws://127.0.0.1:1"


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ((-1,), "the time to drain is -1"),
        (("5",), "the time to drain is '5'"),
        ((True,), "the time to drain is True"),
        ((float("nan"),), "the time to drain is nan"),
        ((1e9,), "expected 1 to 86400 s"),
        ((5, "http://b.example"), "no address of a server"),
        ((5, "wss://b.example/\n"), "no address of a server"),
        ((5, 7), "no address of a server"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_begins(asked, why):
    draining = Draining(Clock())
    with pytest.raises(InputError, match=why):
        draining.begin(*asked)
    assert asked[0] == 5 or not draining.begun


@pytest.mark.parametrize(
    ("given", "told", "goes"),
    [
        ("ws://a", "ws://b", "ws://b"),
        ("ws://a", "wss://b", "wss://b"),
        ("wss://a", "wss://b", "wss://b"),
        ("wss://a", "ws://b", "wss://a"),
        ("ws://a", None, "ws://a"),
    ],
)
def test_a_client_goes_where_it_is_sent_but_not_where_others_could_read_its_token(given, told, goes):
    to = Destination(given)
    assert to.next(Refused("server_closing", "", True, None, told), lasted=False) == (goes == told)
    assert to.url == goes


def test_a_client_is_sent_on_only_so_often_and_then_goes_where_it_was_told_first():
    to = Destination("ws://a")
    sent = Refused("server_closing", "", True, None, "ws://b")
    assert [to.next(sent, lasted=False) for _ in range(MAX_HOPS + 2)] == [True] * MAX_HOPS + [False] * 2
    assert to.url == "ws://a"
    assert to.next(sent, lasted=True) and to.url == "ws://b"
    assert not to.next(ConnectionFailed("no server"), lasted=False) and to.url == "ws://a"
    assert not to.next(Refused("unauthorized", "", False, None, "ws://b"), lasted=False)


def test_newcomers_are_refused_health_fails_and_everybody_is_told_where_to_go():
    async def main():
        async with contextlib.AsyncExitStack() as stack:
            server = await stack.enter_async_context(serving(limits=small_limits(resume_s=TIMEOUT_S)))
            async with raw(server.url) as publisher, raw(server.url) as listener, raw(server.url) as waiting:
                await publisher.send(publish_hello("here"))
                session = (await publisher.receive())["session"]
                await listener.send(listen_hello("here", format="codes", model=OURS))
                await waiting.send(listen_hello("nowhere"))
                assert [(await listener.receive())["type"] for _ in range(2)] == ["welcome", "start"]
                assert [(await waiting.receive())["type"] for _ in range(2)] == ["welcome", "waiting"]
                assert await http_get(server, "/readyz") == (200, "ok\n")
                server.drain(600, ELSEWHERE)
                assert await http_get(server, "/readyz") == (503, "the server is closing\n")
                assert (await http_get(server, "/healthz"))[0] == 200
                for hello in (publish_hello("new"), listen_hello("here")):
                    async with raw(server.url) as newcomer:
                        await newcomer.send(hello)
                        word, code = await newcomer.last_word()
                        assert (word["type"], word["code"], code) == ("refuse", "server_closing", 4501)
                        assert word["go_to"] == ELSEWHERE and word["retry"] and word["retry_after_ms"] <= 597_000
                word, code = await waiting.last_word()
                assert (word["type"], word["code"], word["go_to"], code) == ("error", "server_closing", ELSEWHERE, 4501)
                await publisher.send({"type": "ping", "time": 7})
                pong = await publisher.receive()
                assert 0 < pong["closing_ms"] <= 597_000 and pong["go_to"] == ELSEWHERE
                await publisher.send(packet(0))
                assert (await listener.receive())[0] == 0
                publisher.ws.transport.abort()
                await publisher.ws.wait_closed()
                async with raw(server.url) as again:
                    await again.send(publish_hello("here", resume={"session": session, "epoch": 0, "next_seq": 1}))
                    assert (await again.receive())["next_seq"] == 1
                    await again.send(packet(1))
                    await again.send({"type": "end", "last_seq": 1})
                    assert (await again.receive())["type"] == "ended"
                assert (await listener.receive())[0] == 1
                word, code = await listener.last_word()
                assert (word["type"], word["code"], word["go_to"], code) == ("error", "server_closing", ELSEWHERE, 4501)
                assert await server.until_over() is None

    run(main())


def test_a_publisher_that_is_moved_is_not_told_before_that_the_server_closes(monkeypatch):
    monkeypatch.setattr(Alone, "moves", True)
    monkeypatch.setattr(Alone, "reached", True)
    monkeypatch.setattr(Alone, "alternates", (ELSEWHERE,))
    monkeypatch.setattr(Alone, "better", lambda *_: ELSEWHERE)

    async def main():
        async with serving(limits=small_limits(resume_s=0.5)) as server, raw(server.url) as publisher:
            await until(lambda: server._connections, "the connection is not there")
            [client] = server._connections
            receive = client.peer._ws.recv

            async def drain_at_the_second_ping():
                if parse(data := await receive()) == Ping(time=2):
                    server.drain(600)
                return data

            client.peer._ws.recv = drain_at_the_second_ping
            await publisher.send(publish_hello("live", can_move=True))
            assert (await publisher.receive())["type"] == "welcome"
            await publisher.send({"type": "ping", "time": 1})
            assert (await publisher.receive())["closing_ms"] is None
            await publisher.send({"type": "ping", "time": 2})
            while (word := await publisher.receive())["type"] == "pong":
                assert word["closing_ms"] is None
            assert (word["type"], word.get("code"), word["go_to"]) == ("error", "moved", ELSEWHERE)

    run(main())


def test_who_does_not_leave_is_told_when_the_time_is_over():
    async def main():
        async with serving() as server, raw(server.url) as publisher:
            await publisher.send(publish_hello())
            assert (await publisher.receive())["type"] == "welcome"
            server.drain(60, "ws://127.0.0.1:1")
            over = asyncio.create_task(server.until_over())
            await pass_time(56)
            assert not over.done()
            await pass_time(1.5)
            assert await over is None
            server.draining._stops += TIMEOUT_S  # no verdict depends on how fast the machine is
            stopping = asyncio.create_task(server.stop())
            word, code = await publisher.last_word()
            assert (word["type"], word["code"], word["go_to"], code) == ("error", "server_closing", "ws://127.0.0.1:1", 4501)
            await stopping

    run(main())


def test_an_empty_server_is_drained_at_once_and_says_so_to_whoever_must_see_to_the_time():
    async def main():
        async with serving(operations=Operations(drain_s=750, drain_to=ELSEWHERE)) as server:
            told = []
            server.on_drain = told.append
            server.drain()
            server.drain()
            assert await server.until_over() is None
            assert told == [750, 750]
            assert server.draining.go_to == ELSEWHERE

    run(main())


def test_a_publisher_and_a_listener_move_and_no_packet_is_lost():
    codec = offline_codec()
    x = voice(3, 3.0)

    async def main():
        async with serving() as first, serving() as second:
            heard, ended, moved = [], [], asyncio.Event()

            async def hear(to):
                async with listen(to.url, "moving", model=codec.fingerprint) as listener:
                    if to.url == second.url:
                        moved.set()
                    async for event in listener:
                        heard.append((to.url, event))

            async def say(to):
                if to.url == second.url:
                    await moved.wait()
                async with publish(to.url, "moving", PublishOptions(bandwidth=6.0, pace="fast")) as publisher:
                    seen = asyncio.create_task(closing(publisher))
                    ended.append(await publish_source(source, publisher, on_interrupt=ended.append))
                    seen.cancel()

            async def closing(publisher):
                await until(lambda: any(isinstance(event, Packet) for _, event in heard))
                first.drain(TIMEOUT_S, second.url)
                await publisher._uplink.connection.ping()
                await until(lambda: publisher.closing is not None)
                source.go_on.set()

            source = HeldSource(x)
            from_here, to_here = Destination(first.url), Destination(first.url)
            hearing = asyncio.create_task(keep_trying(lambda: hear(to_here), destination=to_here))
            await until(lambda: first.registry.num_listeners == 1)
            await keep_trying(lambda: say(from_here), destination=from_here)
            assert await first.until_over() is None
            await until(lambda: sum(isinstance(event, Packet) for _, event in heard) == sum(one.emitted for one in ended))
            hearing.cancel()
            await asyncio.gather(hearing, return_exceptions=True)
            assert len(ended) == 2 and [one.dropped for one in ended] == [0, 0]
            assert not any(isinstance(event, Gap) for _, event in heard)
            at = 0
            for url, one in zip((first.url, second.url), ended, strict=True):
                parts = [unpack_codes(e.payload, e.n_q, 10) for where, e in heard if where == url and isinstance(e, Packet)]
                codes = np.concatenate(parts, axis=1)
                assert len(parts) == one.emitted
                upto = source.given[url == second.url]
                same_codes(codec, codes, x[at:upto], 6.0, "primed")
                at = upto
            assert at == len(x)

    run(main())


@pytest.mark.parametrize(
    ("waiting", "within_s", "lasts_s", "at_once"), [(1, 2.5, 0.0, 1), (4, 2.5, 0.3, 1), (200, 2.5, 2.5, 6), (200, 0.0, 0.0, 200)]
)
def test_publishers_go_one_after_the_other_and_all_in_time(waiting, within_s, lasts_s, at_once):
    now, went = 1000.0, []
    pace = MovePace(lambda: now, within_s)
    while len(went) < waiting:
        went += [now - 1000.0] * pace.due(waiting - len(went))
        now += 0.05
    assert went[-1] == pytest.approx(lasts_s, abs=0.06)
    assert max(went.count(at) for at in went) <= at_once


def test_nothing_is_made_up_for_where_nobody_waited():
    now = 1000.0
    pace = MovePace(lambda: now, 100.0)
    assert pace.due(0) == 0
    now += 60.0
    assert pace.due(4) == 1
