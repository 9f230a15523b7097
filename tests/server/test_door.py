"""Nobody takes all places: connections, publishers, listeners of names that nobody publishes, descriptors."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import tempfile

import pytest
from patience import pass_time
from server_rig import (
    figures,
    gated,
    http_get,
    is_clean,
    listen_hello,
    packet,
    pcm_hello,
    publish_hello,
    raw,
    run,
    serving,
    small_limits,
    until,
)
from websockets.exceptions import InvalidStatus

from streamcodec.errors import RemoteProtocolError, WireCode
from streamcodec.server import app
from streamcodec.server.addresses import MAX_REMEMBERED, AddressRates, peer_key
from streamcodec.server.door import RESERVED_DESCRIPTORS, Door, free_descriptors
from streamcodec.server.limits import Limits
from streamcodec.server.rate import Rate
from streamcodec.server.refusals import TELL_EVERY_S, Bound, Refusals

HERE, THERE, ELSEWHERE = "203.0.113.7", "203.0.113.8", "127.0.0.1"


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def door(available=None, **limits):
    clock = Clock()
    refusals = Refusals(clock)
    return Door(Limits(**limits), refusals, clock, available), clock, refusals


def bounds(entered):
    return [None if away is None else (away.status, away.bound) for away in entered]


@pytest.mark.parametrize(
    ("host", "key"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff:1", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("127.0.0.1", None),
        ("::1", None),
        ("", ""),
    ],
)
def test_a_peer_is_counted_by_its_address_or_its_network(host, key):
    assert peer_key(host, bound_loopback=False) == key


def test_loopback_is_counted_where_that_is_asked_for():
    assert peer_key("127.0.0.1", bound_loopback=True) == "127.0.0.1"


def test_an_address_has_so_many_connections_and_others_have_theirs():
    entrance, _, refusals = door(max_connections_per_address=3)
    assert bounds(entrance.enter(HERE) for _ in range(4)) == [None] * 3 + [(429, "connections_of_address")]
    assert entrance.enter(THERE) is None
    entrance.leave(HERE)
    assert bounds(entrance.enter(HERE) for _ in range(2)) == [None, (429, "connections_of_address")]
    assert refusals.counts["connections_of_address"] == 2
    assert entrance.num_connections == 4


def test_an_address_makes_so_many_new_connections_a_second():
    entrance, clock, _ = door(new_connections=Rate(2, 5))

    def come_and_go():
        if (away := entrance.enter(HERE)) is None:
            entrance.leave(HERE)
        return away

    assert bounds(come_and_go() for _ in range(6)) == [None] * 5 + [(429, "new_connections")]
    clock.now += 1
    assert bounds(come_and_go() for _ in range(3)) == [None] * 2 + [(429, "new_connections")]
    assert entrance.num_connections == 0


def test_there_are_so_many_connections_in_all_from_loopback_too():
    entrance, *_ = door(max_publishers=1, max_listeners=2, max_other_connections=1)
    assert bounds(entrance.enter(ELSEWHERE) for _ in range(5)) == [None] * 4 + [(503, "connections")]
    entrance.leave(ELSEWHERE)
    assert entrance.enter(HERE) is None


def test_the_last_descriptors_are_kept():
    entrance, *_ = door(RESERVED_DESCRIPTORS + 2)
    assert bounds(entrance.enter(ELSEWHERE) for _ in range(3)) == [None] * 2 + [(503, "connections")]
    assert door(10)[0].most == 1


@pytest.mark.skipif(sys.platform == "win32", reason="descriptors of POSIX")
def test_open_files_leave_fewer_descriptors():
    before = free_descriptors()
    assert before is not None and before > 10
    with contextlib.ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(tempfile.TemporaryFile())
        assert free_descriptors() == before - 5


def test_an_address_has_so_many_publishers():
    entrance, *_ = door(max_publishers_per_address=2)
    with entrance.publishing(HERE), entrance.publishing(HERE):
        with pytest.raises(RemoteProtocolError, match="this address has its 2 publishers") as caught, entrance.publishing(HERE):
            pass
        assert caught.value.code == WireCode.SERVER_FULL
        with entrance.publishing(THERE), contextlib.ExitStack() as stack:
            for _ in range(5):
                stack.enter_context(entrance.publishing(ELSEWHERE))
    with entrance.publishing(HERE):
        pass


def test_the_answer_to_who_is_turned_away_is_http():
    entrance, *_ = door(max_connections_per_address=0)
    head, _, body = entrance.enter(HERE).response().decode().partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 429 Too Many Requests\r\nRetry-After: ") and f"Content-Length: {len(body)}" in head
    assert body == "this address has its 0 connections.\n"


def test_of_many_addresses_the_last_ones_are_remembered():
    clock = Clock()
    rates = AddressRates(Rate(1, 2), clock)
    for i in range(2 * MAX_REMEMBERED):
        rates.of(f"a{i}").take(2)
    assert len(rates) == MAX_REMEMBERED
    assert not rates.of(f"a{2 * MAX_REMEMBERED - 1}").takes(), "the last one is known"
    clock.now += 10
    rates.of("new").take()
    assert len(rates) == 1, "who may do everything again is forgotten"


def test_a_refusal_is_told_at_once_and_then_once_in_a_while(caplog):
    clock = Clock()
    refusals = Refusals(clock)
    with caplog.at_level(logging.WARNING, "streamcodec"):
        for _ in range(1000):
            refusals.note(Bound.ORIGIN, HERE, "no")
        assert [r.getMessage() for r in caplog.records] == ["203.0.113.7: no (limit: origin)"]
        refusals.note(Bound.HOST, HERE, "neither")
        clock.now += TELL_EVERY_S
        refusals.note(Bound.ORIGIN, THERE, "no")
    assert [r.getMessage() for r in caplog.records][1:] == [
        "203.0.113.7: neither (limit: host)",
        "203.0.113.8: no (limit: origin; 1000 like this since the last line)",
    ]
    assert (refusals.counts["origin"], refusals.counts["host"]) == (1001, 1)


def test_who_is_turned_away_gets_an_answer_and_a_place_is_free_again_after_another_leaves():
    async def main():
        limits = small_limits(bound_loopback=True, max_connections_per_address=2, new_connections=Rate(1000, 1000))
        async with serving(limits=limits) as server:
            async with contextlib.AsyncExitStack() as stack:
                for _ in range(2):
                    client = await stack.enter_async_context(raw(server.url))
                    await client.send(listen_hello("x"))
                    await client.receive()
                with pytest.raises(InvalidStatus) as caught:
                    await stack.enter_async_context(raw(server.url))
                assert caught.value.response.status_code == 429
                assert (await http_get(server, "/healthz"))[0] == 429
            await is_clean(server)
            await until(lambda: server._door.num_connections == 0, "a connection is still counted")
            assert (await http_get(server, "/healthz"))[0] == 200
            await until(lambda: server._door.num_connections == 0, "a connection is still counted")
            assert (await figures(server))["connections_limited_total{limit=connections_of_address}"] == 2

    run(main())


def test_on_uvloop_too_who_leaves_is_counted_no_longer():
    uvloop = pytest.importorskip("uvloop")

    async def main():
        limits = small_limits(bound_loopback=True, max_connections_per_address=2, drain_s=5.0)
        async with serving(limits=limits) as server:
            for _ in range(6):
                async with raw(server.url) as client:
                    await client.send(listen_hello("x"))
                    assert (await client.receive())["type"] == "welcome"
                await until(lambda: server._door.num_connections == 0, "a connection is still counted")
            assert not server._door._connections

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def test_a_server_that_is_short_of_descriptors_says_so_and_goes_on(monkeypatch, caplog):
    monkeypatch.setattr(app, "free_descriptors", lambda: RESERVED_DESCRIPTORS + 3)

    async def main():
        async with serving() as server:
            async with contextlib.AsyncExitStack() as stack:
                clients = [await stack.enter_async_context(raw(server.url)) for _ in range(3)]
                for _ in range(20):
                    with pytest.raises(InvalidStatus) as caught:
                        await stack.enter_async_context(raw(server.url))
                    assert caught.value.response.status_code == 503
                for client in clients:
                    await client.send(listen_hello("x"))
                    assert (await client.receive())["type"] == "welcome"
            await until(lambda: server._door.num_connections == 0, "a connection is still counted")
            assert (await http_get(server, "/healthz"))[0] == 200

    with caplog.at_level(logging.WARNING, "streamcodec"):
        run(main())
    said = [record.getMessage() for record in caplog.records]
    assert any("this process may open too few files" in line and "it takes 3 connections" in line for line in said)
    assert sum("the server has its 3 connections" in line for line in said) == 1


def test_listeners_of_a_name_that_nobody_publishes_leave_places_for_others():
    async def main():
        async with serving(limits=small_limits(max_waiting_listeners=3)) as server, contextlib.AsyncExitStack() as stack:

            async def joined(name):
                client = await stack.enter_async_context(raw(server.url))
                await client.send(listen_hello(name))
                return await client.receive()

            publisher = await stack.enter_async_context(raw(server.url))
            await publisher.send(publish_hello("live"))
            assert (await publisher.receive())["type"] == "welcome"
            assert [(await joined(f"nobody-{i}"))["type"] for i in range(3)] == ["welcome"] * 3
            refused = await joined("nobody")
            assert (refused["code"], refused["retry"]) == ("server_full", True)
            assert refused["reason"] == "the server has its 3 listeners that wait for a publisher"
            assert [(await joined("live"))["type"] for _ in range(5)] == ["welcome"] * 5
            another = await stack.enter_async_context(raw(server.url))
            await another.send(publish_hello("nobody-0"))
            assert (await another.receive())["type"] == "welcome"
            assert (await joined("nobody"))["type"] == "welcome", "one of the three waits no longer"

    run(main())


@pytest.mark.parametrize("hello", [publish_hello("quiet"), pcm_hello("quiet", pace="fast")], ids=["codes", "fast PCM"])
def test_a_publisher_that_never_sends_loses_its_place(hello):
    async def main():
        async with serving(limits=small_limits(first_packet_s=30.0)) as server, raw(server.url) as client:
            await client.send(hello)
            assert (await client.receive())["type"] == "welcome"
            await pass_time(29)
            await client.send({"type": "ping", "time": 7})
            assert (await client.receive())["type"] == "pong"
            await pass_time(2)
            word, code = await client.last_word()
            assert (word["code"], code, word["reason"]) == ("timeout", 4408, "no packet came within 30 s")
            await is_clean(server)

    run(main())


def test_a_publisher_that_falls_silent_loses_its_place_after_a_long_while():
    async def main():
        limits = small_limits(first_packet_s=30.0, silent_s=60.0)
        async with serving(limits=limits) as server, raw(server.url) as client:
            await client.send(publish_hello("quiet"))
            await client.receive()
            [stream] = server.registry.streams.values()
            await client.send(packet(0))
            await until(lambda: stream.totals.received == 1)
            for seq in range(1, 4):
                await pass_time(59)
                await client.send({"type": "gap", "first_seq": seq, "count": 1, "reason": "silence"})
                await until(lambda seq=seq: stream.lease.next_seq == seq + 1)
            for _ in range(2):
                await pass_time(61)
            word, _ = await client.last_word()
            assert (word["code"], word["reason"]) == ("timeout", "no packet came within 60 s")

    run(main())


def test_an_end_that_takes_long_to_come_out_is_no_silence():
    codec, engine = gated()

    async def main():
        try:
            async with serving(codec, limits=small_limits(first_packet_s=30.0, silent_s=30.0)) as server, raw(server.url) as client:
                await client.send(pcm_hello("done"))
                await client.receive()
                [stream] = server.registry.streams.values()
                engine.encoding.clear()
                await client.send(packet(0, n_q=0))
                await client.send({"type": "end", "last_seq": 0})
                await until(lambda: stream.complete)
                await pass_time(100)
                engine.open()
                ended = await client.receive()
                assert (ended["type"], ended["received"], ended["emitted"]) == ("ended", 1, 1)
                assert await client.last_word() == (None, 1000)
        finally:
            engine.open()

    run(main())
