"""A stream moves from one node to another while it runs: publisher and listeners go on, and nobody hears that anything happened."""

from __future__ import annotations

import asyncio
import contextlib

import numpy as np
import pytest
from cluster_rig import MODEL, as_pcm, cluster_of, coded, contents, cut, feed, heal, live_codes, nodes, pcm_of, run, seconds, voice
from counting_engine import counted_audio, counted_codes
from patience import TIMEOUT_S
from server_rig import figures, listen_hello, publish_hello, raw, until
from server_rig import packet as wire_packet

from streamcodec.client import PublishOptions, publish
from streamcodec.protocol import Gap, Packet, StreamEnd, StreamStart, Waiting
from streamcodec.server.cluster.bus import BusError
from streamcodec.server.cluster.questions import NodeAnswer, NodeQuestion, read_parts


@pytest.mark.parametrize("format", ["pcm_s16le", "codes"])
def test_a_stream_whose_node_drains_goes_on_at_another_one_and_listeners_hear_an_unbroken_run(format):
    async def main():
        async with nodes(3) as (a, b, c), contextlib.AsyncExitStack() as stack:
            codes = [await coded(stack, server) for server in (b, c)]
            pcm = [await as_pcm(stack, server) for server in (a, b)]
            model = MODEL if format == "codes" else None
            options = PublishOptions(format=format, model=model, bandwidth=6.0, start="exact", pace="fast")
            publisher = await stack.enter_async_context(publish(a.url, "a", options))
            x = voice(1, 40)
            sent = x if model is None else counted_codes(x)
            await feed(publisher, sent, 0, 20)
            for heard in (*codes, *pcm):
                await heard.to(lambda heard: len(heard.of(Packet)) >= 10)
            over = [asyncio.create_task(heard.to_end()) for heard in (*codes, *pcm)]
            a.drain(600.0)
            await until(lambda: "a" in b.registry.streams or "a" in c.registry.streams, "the stream has not moved")
            await feed(publisher, sent, 20, 20)
            ended = await publisher.end()
            await asyncio.gather(*over)
            assert ended.dropped == 0
            for heard in codes:
                assert [type(event) for event in heard.events] == [Waiting, StreamStart, *[Packet] * 40, StreamEnd]
                np.testing.assert_array_equal(live_codes(heard), counted_codes(x))
            for heard in pcm:
                assert not heard.of(Gap) and len(heard.of(StreamEnd)) == 1
                packets = heard.of(Packet)
                assert [packet.seq for packet in packets] == list(range(40)) and {packet.epoch for packet in packets} == {0}
                np.testing.assert_array_equal(pcm_of(heard), counted_audio(counted_codes(x)))
            assert cluster_of(a).handover.given == 1 and cluster_of(b).handover.taken + cluster_of(c).handover.taken == 1

    run(main())


def test_a_publisher_that_roams_takes_its_stream_along():
    async def main():
        async with nodes(2) as (a, b), contextlib.AsyncExitStack() as stack:
            heard = [await coded(stack, server) for server in (a, b)]
            publisher = await stack.enter_async_context(publish(a.url, "a", PublishOptions(bandwidth=6.0, start="exact", pace="fast")))
            x = voice(1, 30)
            for at, server in ((0, b), (10, a), (20, None)):
                await feed(publisher, x, at, 10)
                for one in heard:
                    await one.to(lambda one, at=at: len(one.of(Packet)) >= at + 5)
                if server is not None:
                    publisher._uplink._kept._route.url = server.url  # as a network does that leads elsewhere
                    publisher._uplink.connection._ws.transport.abort()
                    await until(lambda server=server: "a" in server.registry.streams, "the stream has not moved")
            await publisher.end()
            for one in heard:
                await one.to_end()
                assert [type(event) for event in one.events] == [Waiting, StreamStart, *[Packet] * 30, StreamEnd]
                np.testing.assert_array_equal(live_codes(one), counted_codes(x))
            assert contents(heard[0]) == contents(heard[1])
            assert [cluster_of(server).handover.taken for server in (a, b)] == [1, 1]
            await seconds(1, [a, b])

    run(main())


def test_a_stream_whose_node_dies_goes_on_from_its_copy_in_the_same_epoch():
    async def main():
        async with nodes(3, replicate=True) as (a, b, c), contextlib.AsyncExitStack() as stack:
            heard = await coded(stack, c)
            at_a = await coded(stack, a)
            pcm = await as_pcm(stack, c)
            publisher = await stack.enter_async_context(publish(a.url, "a", PublishOptions(bandwidth=6.0, start="exact")))
            x = voice(1, 40)
            await feed(publisher, x, 0, 10)
            await heard.to(lambda heard: len(heard.of(Packet)) == 10)
            await seconds(1, [a, b, c])
            await until(lambda: cluster_of(a).handover.copied >= 1)
            await feed(publisher, x, 10, 10)
            for one in (heard, at_a):
                await one.to(lambda one: len(one.of(Packet)) == 20)
            cut(a)  # nobody hears of it any more
            await seconds(7, [b, c])
            publisher._uplink._kept._route.url = b.url
            publisher._uplink.connection._ws.transport.abort()
            await until(lambda: "a" in b.registry.streams, "the stream does not go on")
            at_a.listener._kept._route.url = b.url  # it has heard more than the copy has
            at_a.listener._connection._ws.transport.abort()
            heal(a)  # its stream went on elsewhere
            await until(lambda: not a.registry.streams, "the stream is at two nodes")
            await feed(publisher, x, 20, 20)
            await publisher.end()
            for one in (heard, pcm, at_a):
                await one.to_end()
                assert [type(event) for event in one.events] == [Waiting, StreamStart, *[Packet] * 40, StreamEnd]
            for one in (heard, at_a):
                np.testing.assert_array_equal(live_codes(one), counted_codes(x))
            np.testing.assert_array_equal(pcm_of(pcm), counted_audio(counted_codes(x)))
            assert cluster_of(b).handover.restored == 1

    run(main())


def test_a_listener_whose_node_died_and_that_is_faster_than_the_publisher_does_not_take_this_for_the_end():
    async def main():
        async with nodes(2, replicate=True) as (a, b), contextlib.AsyncExitStack() as stack:
            at_a = await coded(stack, a)
            publisher = await stack.enter_async_context(publish(a.url, "a", PublishOptions(bandwidth=6.0, start="exact")))
            x = voice(1, 20)
            await feed(publisher, x, 0, 10)
            await at_a.to(lambda one: len(one.of(Packet)) == 10)
            await seconds(1, [a, b])
            await until(lambda: cluster_of(a).handover.copied >= 1)
            cut(a)
            await seconds(7, [b])
            [session] = [event.session for event in at_a.of(StreamStart)]
            hello = listen_hello("a", format="codes", model=MODEL, resume={"session": session, "epoch": 0, "next_seq": 10})
            early = await stack.enter_async_context(raw(b.url))
            await early.send(hello)
            assert (await early.receive()).get("code") == "timeout"
            publisher._uplink._kept._route.url = b.url
            publisher._uplink.connection._ws.transport.abort()
            await until(lambda: "a" in b.registry.streams, "the stream does not go on")
            again = await stack.enter_async_context(raw(b.url))
            await again.send(hello)
            assert (await again.receive())["type"] == "welcome"
            start = await again.receive()
            assert (start["type"], start["start"], start["session"]) == ("start", "continued", session)
            over = await stack.enter_async_context(raw(b.url))
            await over.send(listen_hello("b", format="codes", model=MODEL, resume={"session": session, "epoch": 0, "next_seq": 10}))
            assert [(await over.receive())["type"] for _ in range(2)] == ["welcome", "waiting"], "nobody has a stream of this name"
            heal(a)
            await publisher.end()

    run(main())


def test_a_publisher_whose_node_died_without_a_copy_begins_anew_under_its_name():
    async def main():
        async with nodes(2) as (a, b), contextlib.AsyncExitStack() as stack:
            heard = await coded(stack, b)
            publisher = await stack.enter_async_context(raw(a.url))
            await publisher.send(publish_hello("a", model=MODEL))
            session = (await publisher.receive())["session"]
            await publisher.send(wire_packet(0))
            await heard.to(lambda heard: len(heard.of(Packet)) == 1)
            cut(a)
            await seconds(7, [b])
            other = await stack.enter_async_context(raw(b.url))
            await other.send(publish_hello("a", model=MODEL, resume={"session": "a wrong secret", "epoch": 0, "next_seq": 1}))
            assert (await other.last_word())[0]["code"] == "unknown_session"
            other = await stack.enter_async_context(raw(b.url))
            await other.send(publish_hello("a", model=MODEL, resume={"session": session, "epoch": 0, "next_seq": 1}))
            assert (await other.last_word())[0]["code"] == "unknown_session"
            other = await stack.enter_async_context(raw(b.url))
            await other.send(publish_hello("a", model=MODEL))
            assert (await other.receive())["type"] == "welcome"
            await other.send(wire_packet(0))
            await heard.to(lambda heard: len(heard.of(StreamStart)) == 2)
            await other.send({"type": "end", "last_seq": 0})
            await heard.to_end(2)
            heal(a)
            await publisher.send({"type": "end", "last_seq": 0})

    run(main())


def test_a_stream_is_given_to_nobody_who_does_not_know_its_secret():
    async def main():
        async with nodes(2) as (a, b), contextlib.AsyncExitStack() as stack:
            publisher = await stack.enter_async_context(raw(a.url))
            await publisher.send(publish_hello("a", model=MODEL))
            await publisher.receive()
            question = NodeQuestion("give", cluster_of(b).node, a.registry.streams["a"].fan_out.session, secret="guessed")
            data = await cluster_of(b).bus.ask(cluster_of(b).subjects.node(cluster_of(a).node), question.pack(), TIMEOUT_S)
            assert NodeAnswer.parse(read_parts(data)[0]).kind == "unknown" and "a" in a.registry.streams
            await publisher.send({"type": "end", "last_seq": None})

    run(main())


def test_a_stream_whose_node_answers_too_late_is_given_again():
    async def main():
        async with nodes(2) as (a, b), contextlib.AsyncExitStack() as stack:
            heard = [await coded(stack, server) for server in (a, b)]
            publisher = await stack.enter_async_context(publish(a.url, "a", PublishOptions(bandwidth=6.0, start="exact", pace="fast")))
            x, bus, late = voice(1, 20), cluster_of(b).bus, []
            ask = bus.ask

            async def ask_impatiently(subject, data, timeout_s):
                answer = await ask(subject, data, timeout_s)
                if NodeQuestion.parse(data).kind == "give" and not late:
                    late.append(answer)
                    raise BusError("no answer in time")
                return answer

            bus.ask = ask_impatiently
            await feed(publisher, x, 0, 10)
            for one in heard:
                await one.to(lambda one: len(one.of(Packet)) >= 5)
            publisher._uplink._kept._route.url = b.url
            publisher._uplink.connection._ws.transport.abort()
            await until(lambda: publisher.resumed == 1, "the stream does not go on")
            await feed(publisher, x, 10, 10)
            await publisher.end()
            for one in heard:
                await one.to_end()
                assert [type(event) for event in one.events] == [Waiting, StreamStart, *[Packet] * 20, StreamEnd]
                np.testing.assert_array_equal(live_codes(one), counted_codes(x))
            assert late and cluster_of(a).handover.given == 1
            assert sum(cluster_of(server).handover.taken for server in (a, b)) == 1, "it may ask at both"

    run(main())


def test_a_stream_that_was_given_and_fetched_by_nobody_leaves_its_name():
    async def main():
        async with nodes(2) as (a, b), contextlib.AsyncExitStack() as stack:
            publisher = await stack.enter_async_context(raw(a.url))
            await publisher.send(publish_hello("a", model=MODEL))
            secret, session = (await publisher.receive())["session"], a.registry.streams["a"].fan_out.session

            async def given(node, secret):
                data = NodeQuestion("give", node, session, secret=secret).pack()
                head, *rest = read_parts(await cluster_of(b).bus.ask(cluster_of(b).subjects.node(cluster_of(a).node), data, TIMEOUT_S))
                return NodeAnswer.parse(head).kind, rest

            first = await given(cluster_of(b).node, secret)
            assert first[0] == "ok" and not a.registry.streams
            assert await given("another", secret) == first and cluster_of(a).handover.given == 1
            for guessed in ("guessed", "gératen"):
                assert await given(cluster_of(b).node, guessed) == ("unknown", [])
            claims = cluster_of(b).names.claims
            assert await claims.find("a") is not None, "its publisher may still come"
            await seconds(11, [a, b])
            await until(lambda: not cluster_of(a).handover._freeing)
            assert await claims.find_any("a") is None
            assert (await given(cluster_of(b).node, secret))[0] == "unknown"

    run(main())


def test_a_welcome_names_other_nodes_and_admin_shows_them():
    async def main():
        async with nodes(3) as servers, contextlib.AsyncExitStack() as stack:
            heard = await coded(stack, servers[0])
            assert set(heard.listener.welcome.alternates) == {server.url for server in servers[1:]}
            listed = cluster_of(servers[0]).listed()
            assert [one["here"] for one in listed] == [True, False, False]
            assert {one["address"] for one in listed} == {server.url for server in servers}
            found = await figures(servers[0])
            assert (found["cluster_nodes"], found["cluster_bus_connected"], found["cluster_links"]) == (3, 1, 0)

    run(main())
