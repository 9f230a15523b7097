"""A node of a cluster drains: whoever is there, comes back or comes in meanwhile goes on where its stream is, or is going to be.

| who is at the draining node, or says hello to it   | its stream is            | what becomes of it                                  |
|----------------------------------------------------|--------------------------|-----------------------------------------------------|
| publisher that is connected, another node has room | here                     | `moved`, when those before it have gone             |
| the same, no node has room, is known or is reached | here                     | not told that the server closes; `moved` when it is |
| the same, and no node comes                        | here                     | told in time that the server closes                 |
| publisher at one of the processes of one machine   | here                     | told at once that the server closes                 |
| publisher that has ended its stream                | here, going out          | told the counts here                                |
| publisher whose connection was lost, resumes       | here                     | `moved`; where no node has room, let in, then moved |
| the same                                           | at another node          | `moved` to that one                                 |
| the same, it had ended its stream                  | over, here               | told the counts here                                |
| publisher that does not know `moved`, resumes      | here                     | let in                                              |
| publisher whose first hello is not answered yet    | not there                | `server_closing`, with another node's address       |
| publisher that resumes at another node             | here, nobody connected   | given, as long as the draining lasts                |
| publisher that resumes after the draining          | here, nobody connected   | goes on from the copy, with `--replicate`           |
| listener that resumes                              | here                     | let in; `moved` as soon as the stream has moved     |
| the same                                           | at another node          | `moved` to that one                                 |
| the same                                           | nowhere                  | let in, then told that the server closes            |
| listener that is new                               | here, elsewhere, nowhere | `server_closing`, with another node's address       |
| listener that is there                             | at another node          | `moved` to that one (`test_cluster_moves.py`)       |
"""

from __future__ import annotations

import asyncio
import contextlib

import numpy as np
import pytest
from cluster_rig import MODEL, RESUMING, cluster_of, coded, cut, feed, heal, knows, live_codes, nodes, run, seconds, voice
from counting_engine import counted_codes
from patience import TIMEOUT_S, pass_time
from server_rig import listen_hello, publish_hello, raw, until
from server_rig import packet as wire_packet

from streamcodec.client import PublishOptions, publish
from streamcodec.protocol import Packet, StreamEnd, StreamStart, Waiting
from streamcodec.server import Limits
from streamcodec.server.leaving import all_sent

DRAIN_S = 600.0
ONE_PUBLISHER = Limits(**{**RESUMING.__dict__, "max_publishers": 1})


async def begun(stack, server, stream="a", **options):
    """A publisher of codes at a node whose first packet has come; returns it with its session."""
    publisher = await stack.enter_async_context(raw(server.url))
    await publisher.send(publish_hello(stream, model=MODEL, **{"can_move": True, **options}))
    session = (await publisher.receive())["session"]
    await publisher.send(wire_packet(0))
    await until(lambda: server.registry.streams[stream].numbering.next_seq == 1)
    return publisher, session


async def lost(server, client, stream="a"):
    """Break a publisher's connection."""
    client.ws.transport.abort()
    await until(lambda: server.registry.streams[stream].lease.holder is None)


def resuming(session, next_seq=1, **options):
    return publish_hello("a", model=MODEL, resume={"session": session, "epoch": 0, "next_seq": next_seq}, **{"can_move": True, **options})


async def answered(stack, server, hello):
    """A client that has said hello to a node, and the answer."""
    client = await stack.enter_async_context(raw(server.url))
    await client.send(hello)
    return client, await client.receive()


async def ends(client, last_seq):
    """Say that a stream is over, and read the counts."""
    await client.send({"type": "end", "last_seq": last_seq})
    while (message := await client.receive()).__class__ is list or message["type"] != "ended":
        pass
    return message


async def goes_on(stack, server, session, heard, next_seq=1):
    """Resume at a node, send one more packet and end; a listener has heard one stream from its beginning on."""
    publisher, welcome = await answered(stack, server, resuming(session, next_seq))
    assert (welcome["type"], welcome["next_seq"], welcome["epoch"]) == ("welcome", next_seq, 0)
    await publisher.send(wire_packet(next_seq))
    assert (await ends(publisher, next_seq))["dropped"] == 0
    await heard.to_end()
    assert [type(event) for event in heard.events] == [Waiting, StreamStart, *[Packet] * (next_seq + 1), StreamEnd]
    assert {event.epoch for event in heard.of(Packet)} == {0}


def test_a_publisher_whose_connection_was_lost_when_the_drain_began_is_sent_on_with_its_stream():
    async def main():
        async with nodes(2) as (a, b), contextlib.AsyncExitStack() as stack:
            heard = await coded(stack, b)
            publisher, session = await begun(stack, a)
            await lost(a, publisher)
            a.drain(DRAIN_S)
            _, word = await answered(stack, a, resuming(session))
            assert (word["type"], word["code"], word["go_to"], word["retry"]) == ("refuse", "moved", b.url, True)
            assert "a" in a.registry.streams, "it is given to whoever asks for it"
            await goes_on(stack, b, session, heard)
            assert cluster_of(b).handover.taken == 1

    run(main())


def test_the_client_whose_connection_is_lost_in_a_drain_publishes_on_elsewhere_and_nothing_is_missing():
    async def main():
        async with nodes(2, limits=ONE_PUBLISHER) as (a, b), contextlib.AsyncExitStack() as stack:
            heard = await coded(stack, b)
            other, _ = await begun(stack, b, "other")
            publisher = await stack.enter_async_context(publish(a.url, "a", PublishOptions(bandwidth=6.0, start="exact", pace="fast")))
            x = voice(1, 30)
            await feed(publisher, x, 0, 10)
            await heard.to(lambda heard: len(heard.of(Packet)) >= 5)
            over = asyncio.create_task(heard.to_end())
            await seconds(1, [a, b])  # each knows that the other one is full
            a.drain(DRAIN_S)
            publisher._uplink.connection._ws.transport.abort()
            await until(lambda: publisher.resumed == 1, "it is not let in where its stream is")
            assert publisher._uplink.connection.url == a.url
            await feed(publisher, x, 10, 10)
            await ends(other, 0)
            await until(lambda: not b.registry.streams)
            await seconds(1, [a, b])
            await until(lambda: "a" in b.registry.streams, "it has not moved when there was room")
            await feed(publisher, x, 20, 10)
            assert (await publisher.end()).dropped == 0
            await over
            assert [type(event) for event in heard.events] == [Waiting, StreamStart, *[Packet] * 30, StreamEnd]
            np.testing.assert_array_equal(live_codes(heard), counted_codes(x))

    run(main())


@pytest.mark.parametrize("why", ["the bus is away", "all are full", "the other one is not there yet"])
def test_a_publisher_is_moved_as_soon_as_another_node_takes_it(why):
    async def main():
        limits = ONE_PUBLISHER if why == "all are full" else RESUMING
        async with nodes(2, limits=limits) as (a, b), contextlib.AsyncExitStack() as stack:
            heard = await coded(stack, a)
            publisher, session = await begun(stack, a)
            if why == "the bus is away":
                cut(a)
            elif why == "all are full":
                other, _ = await begun(stack, b, "other")
                await seconds(1, [a, b])
            else:
                cut(b)
                await seconds(7, [a, b])
                assert not knows(a, b)
            a.drain(DRAIN_S)
            await publisher.send({"type": "ping", "time": 1})
            pong = await publisher.receive()
            assert (pong["type"], pong["closing_ms"]) == ("pong", None), "it would end its stream"
            if why == "all are full":
                await ends(other, 0)
                await until(lambda: not b.registry.streams)
            else:
                heal(a)
                heal(b)
            await seconds(1, [a, b])
            word, close = await publisher.last_word()
            assert (word["type"], word["code"], word["go_to"], close) == ("error", "moved", b.url, 4421)
            await goes_on(stack, b, session, heard)

    run(main())


def test_a_publisher_that_no_node_takes_is_told_in_time_that_the_server_closes():
    async def main():
        async with nodes(2, limits=ONE_PUBLISHER) as (a, b), contextlib.AsyncExitStack() as stack:
            publisher, _ = await begun(stack, a)
            other, _ = await begun(stack, b, "other")
            await seconds(1, [a, b])
            a.drain(DRAIN_S)
            for passed_s, told in ((0, False), (580, False), (12, True)):
                await pass_time(passed_s)
                await publisher.send({"type": "ping", "time": 1})
                pong = await publisher.receive()
                assert (pong["closing_ms"] is not None) is told
            assert 0 < pong["closing_ms"] <= 5_000
            a.draining._stops += TIMEOUT_S  # no verdict depends on how fast the machine is
            await ends(publisher, 0)
            assert await a.until_over() is None
            await ends(other, 0)

    run(main())


@pytest.mark.parametrize("others", [0, 1])
def test_a_process_whose_cluster_is_one_machine_sends_nobody_on(others):
    async def main():
        async with nodes(1 + others) as (a, *rest), contextlib.AsyncExitStack() as stack:
            cluster_of(a)._shares_address = True
            publisher, _ = await begun(stack, a)
            cluster_of(a)._address = lambda: rest[0].url if rest else a.url  # the other one is a process of this machine
            await seconds(1, [a, *rest])
            a.drain(DRAIN_S, "wss://elsewhere.example.org")
            await publisher.send({"type": "ping", "time": 1})
            pong = await publisher.receive()
            assert pong["closing_ms"] > 0 and pong["go_to"] == "wss://elsewhere.example.org"
            for _ in range(3):
                await pass_time(1.0)
            await ends(publisher, 0)

    run(main())


def test_a_publisher_that_has_ended_its_stream_is_told_its_counts_where_it_is():
    async def main():
        async with nodes(2) as (a, b), contextlib.AsyncExitStack() as stack:
            publisher, session = await begun(stack, a)
            stream = a.registry.streams["a"]
            over, stream._source.end = stream._source.end, lambda: None  # its last packets are on their way
            await publisher.send({"type": "end", "last_seq": 0})
            await until(lambda: stream.ending)
            a.drain(DRAIN_S)
            await until(lambda: a._leaving is not None)
            for _ in range(3):
                await pass_time(1.0)
            again, welcome = await answered(stack, a, resuming(session))  # the first connection is taken over
            assert welcome["type"] == "welcome"
            over()
            assert (await ends(again, 0))["emitted"] == 1
            await until(lambda: not a.registry.streams)
            late, welcome = await answered(stack, a, resuming(session))
            assert welcome["type"] == "welcome" and (await ends(late, 0))["emitted"] == 1
            assert (await publisher.last_word())[0]["code"] == "taken_over"
            assert cluster_of(b).handover.taken == 0

    run(main())


def test_a_publisher_that_does_not_know_the_code_is_let_in_and_one_with_another_secret_is_not():
    async def main():
        async with nodes(2) as (a, _), contextlib.AsyncExitStack() as stack:
            publisher, session = await begun(stack, a)
            await lost(a, publisher)
            a.drain(DRAIN_S)
            _, word = await answered(stack, a, resuming("guessed"))
            assert word["type"] == "refuse" and word["code"] == "server_closing"
            again, welcome = await answered(stack, a, resuming(session, can_move=False))
            assert (welcome["type"], welcome["next_seq"]) == ("welcome", 1)
            await again.send({"type": "ping", "time": 1})
            assert (await again.receive())["closing_ms"] > 0, "it can go on elsewhere with another stream only"
            assert (await ends(again, 0))["emitted"] == 1

    run(main())


def test_a_publisher_whose_stream_is_elsewhere_already_is_sent_there():
    async def main():
        async with nodes(3) as (a, b, c), contextlib.AsyncExitStack() as stack:
            publisher, session = await begun(stack, a)
            await lost(a, publisher)
            there, welcome = await answered(stack, b, resuming(session))
            assert welcome["type"] == "welcome"
            await lost(b, there)
            a.drain(DRAIN_S)
            for _ in range(3):
                _, word = await answered(stack, a, resuming(session))
                assert (word["type"], word["code"], word["go_to"]) == ("refuse", "moved", b.url)
            again, _ = await answered(stack, b, resuming(session))
            await ends(again, 0)
            assert [cluster_of(server).handover.taken for server in (a, b, c)] == [0, 1, 0]

    run(main())


@pytest.mark.parametrize("role", ["publish", "listen"])
def test_who_is_not_let_in_yet_when_the_drain_begins_is_told_where_to_go(role):
    async def main():
        async with nodes(2) as (a, b), contextlib.AsyncExitStack() as stack:
            waits, go_on = asyncio.Event(), asyncio.Event()

            async def wait_for_room(*_):
                waits.set()
                await go_on.wait()

            a.registry.newcomers.wait_for_room = wait_for_room
            client = await stack.enter_async_context(raw(a.url))
            await client.send(publish_hello("a", model=MODEL, can_move=True) if role == "publish" else listen_hello("a", can_move=True))
            await waits.wait()
            a.drain(DRAIN_S)
            await pass_time(1.0)
            go_on.set()
            word, close = await client.last_word()
            assert (word["type"], word["code"], word["go_to"], close) == ("refuse", "server_closing", b.url, 4501)
            assert not a.registry.streams and not a.registry.listeners

    run(main())


def test_a_publisher_whose_name_is_being_claimed_when_the_drain_begins_is_moved_as_soon_as_it_publishes():
    async def main():
        async with nodes(2) as (a, b), contextlib.AsyncExitStack() as stack:
            heard = await coded(stack, b)
            waits, go_on, claim = asyncio.Event(), asyncio.Event(), cluster_of(a).claim

            async def claimed(stream):
                waits.set()
                await go_on.wait()
                await claim(stream)

            cluster_of(a).claim = claimed
            publisher = await stack.enter_async_context(raw(a.url))
            await publisher.send(publish_hello("a", model=MODEL, can_move=True))
            await waits.wait()
            a.drain(DRAIN_S)
            go_on.set()
            welcome = await publisher.receive()
            word, _ = await publisher.last_word()
            assert (welcome["type"], word["type"], word["code"], word["go_to"]) == ("welcome", "error", "moved", b.url)
            await goes_on(stack, b, welcome["session"], heard, next_seq=0)

    run(main())


def test_a_stream_whose_publisher_is_away_is_given_as_long_as_the_draining_lasts():
    async def main():
        async with nodes(2) as (a, b), contextlib.AsyncExitStack() as stack:
            heard = await coded(stack, b)
            publisher, session = await begun(stack, a)
            await lost(a, publisher)
            a.drain(40.0)
            over = asyncio.create_task(a.until_over())
            await seconds(25, [a, b])  # of the 30 s for which a lost connection is waited for
            assert not over.done() and "a" in a.registry.streams
            await goes_on(stack, b, session, heard)
            assert await over is None

    run(main())


def test_a_stream_whose_publisher_stays_away_ends_with_the_draining():
    async def main():
        async with nodes(2) as (a, b), contextlib.AsyncExitStack() as stack:
            heard = await coded(stack, b)
            publisher, session = await begun(stack, a)
            await lost(a, publisher)
            a.drain(8.0)
            await seconds(6, [a, b])
            assert await a.until_over() is None
            a.draining._stops += TIMEOUT_S  # no verdict depends on how fast the machine is
            await all_sent(a.registry)
            await heard.to_end()
            _, word = await answered(stack, b, resuming(session))
            assert (word["type"], word["code"]) == ("refuse", "unknown_session")

    run(main())


def test_a_stream_whose_publisher_stays_away_goes_on_from_its_copy_where_there_are_copies():
    async def main():
        async with nodes(2, replicate=True) as (a, b), contextlib.AsyncExitStack() as stack:
            heard = await coded(stack, b)
            publisher, session = await begun(stack, a)
            stays, _ = await begun(stack, a, "other", can_move=False)
            await lost(a, publisher, "a")
            a.drain(8.0)
            await seconds(6, [a, b])
            assert await a.until_over() is None
            a.draining._stops += TIMEOUT_S  # no verdict depends on how fast the machine is
            await all_sent(a.registry)
            assert not a.registry.streams
            await goes_on(stack, b, session, heard)
            assert (cluster_of(b).handover.restored, cluster_of(b).handover.taken) == (1, 1)
            await stays.send({"type": "end", "last_seq": 0})

    run(main())


async def resuming_listener(stack, server, start, next_seq):
    """A listener of codes that has heard up to a number, at a node; returns it and the answer."""
    resume = {"session": start.session, "epoch": start.epoch, "next_seq": next_seq}
    return await answered(stack, server, listen_hello("a", format="codes", model=MODEL, can_move=True, resume=resume))


def test_a_listener_that_resumes_is_let_in_where_its_stream_is_and_moves_with_it():
    async def main():
        async with nodes(2, limits=ONE_PUBLISHER) as (a, b), contextlib.AsyncExitStack() as stack:
            heard = await coded(stack, a)
            publisher, session = await begun(stack, a)
            other, _ = await begun(stack, b, "other")
            await heard.to(lambda heard: len(heard.of(Packet)) == 1)
            await seconds(1, [a, b])
            a.drain(DRAIN_S)
            [start] = heard.of(StreamStart)
            client, welcome = await resuming_listener(stack, a, start, 1)
            assert welcome["type"] == "welcome" and (await client.receive())["start"] == "continued"
            await ends(other, 0)
            await until(lambda: not b.registry.streams)
            await seconds(1, [a, b])
            assert (await publisher.last_word())[0]["code"] == "moved"
            again, _ = await answered(stack, b, resuming(session))
            word, _ = await client.last_word()
            assert (word["type"], word["code"], word["go_to"]) == ("error", "moved", b.url)
            client, welcome = await resuming_listener(stack, b, start, 1)
            assert welcome["type"] == "welcome" and (await client.receive())["start"] == "continued"
            await ends(again, 0)
            await heard.to_end()

    run(main())


@pytest.mark.parametrize("followed", [False, True])
def test_a_listener_that_resumes_is_sent_to_where_its_stream_is(followed):
    async def main():
        async with nodes(3) as (a, b, c), contextlib.AsyncExitStack() as stack:
            heard = await coded(stack, a if followed else c)
            publisher, _ = await begun(stack, b)
            await heard.to(lambda heard: len(heard.of(Packet)) == 1)
            [start] = heard.of(StreamStart)
            if followed:
                stack.push_async_callback(heard.to_end)
                a.registry.cluster.links.of("a")
                assert "a" in a.registry.links
            a.drain(DRAIN_S)
            _, word = await resuming_listener(stack, a, start, 1)
            assert (word["type"], word["code"], word["go_to"]) == ("refuse", "moved", b.url)
            await ends(publisher, 0)
            assert not a.registry.streams

    run(main())


def test_a_listener_that_resumes_what_is_over_is_let_in_for_what_it_missed():
    async def main():
        async with nodes(2) as (a, b), contextlib.AsyncExitStack() as stack:
            heard = await coded(stack, a)
            publisher, _ = await begun(stack, a)
            stays, _ = await begun(stack, a, "other", can_move=False)  # or the server would be over at once
            await ends(publisher, 0)
            await heard.to_end()
            a.drain(DRAIN_S)
            client, welcome = await resuming_listener(stack, a, heard.of(StreamStart)[0], 0)
            assert welcome["type"] == "welcome" and (await client.receive())["start"] == "continued"
            assert (await client.receive())[0] == 0 and (await client.receive())["type"] == "stream_end"
            word, _ = await client.last_word()
            assert (word["type"], word["code"], word["go_to"]) == ("error", "server_closing", b.url)
            await ends(stays, 0)

    run(main())


@pytest.mark.parametrize("where", ["here", "elsewhere", "nowhere"])
def test_a_new_listener_is_told_that_the_server_closes_wherever_its_stream_is(where):
    async def main():
        async with nodes(2) as (a, b), contextlib.AsyncExitStack() as stack:
            there = {"here": a, "elsewhere": b}.get(where)
            if there is not None:
                publisher, _ = await begun(stack, there, can_move=False)
            a.drain(DRAIN_S)
            _, word = await answered(stack, a, listen_hello("a", can_move=True))
            assert (word["type"], word["code"], word["go_to"]) == ("refuse", "server_closing", b.url)
            if there is not None:
                await ends(publisher, 0)

    run(main())
