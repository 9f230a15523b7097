"""Messages get lost, nodes die, and the bus is gone for a while: each number is told once, and each name has one publisher at the end."""

from __future__ import annotations

import contextlib
import random

import pytest
from cluster_rig import MODEL, RESUMING, cluster_of, coded, contents, cut, feed, heal, knows, nodes, run, seconds, voice
from server_rig import packet as wire_packet
from server_rig import publish_all, publish_hello, raw, until

from streamcodec.client import PublishOptions, listen, publish
from streamcodec.errors import ConnectionFailed, Refused
from streamcodec.protocol import Gap, Packet, StreamEnd, StreamStart, Waiting
from streamcodec.server.cluster.memory import MemoryBus


class LossyBus(MemoryBus):
    """A bus that loses every other live message or so."""

    def __init__(self, hub):
        super().__init__(hub)
        self._rng = random.Random(7)

    def publish(self, subject, data):
        if ".live." not in subject or self._rng.random() < 0.5:
            super().publish(subject, data)


class DeafNode(MemoryBus):
    """A bus whose questions to nodes are never answered."""

    async def ask(self, subject, data, timeout_s):
        if b"join" in data and b"\xa8next_seq\xc0" not in data:
            return await super().ask(f"{subject}.nobody", data, timeout_s)
        return await super().ask(subject, data, timeout_s)


def test_what_the_bus_loses_is_fetched_from_the_origin():
    async def main():
        async with nodes(2, memory_bus=LossyBus) as (a, b), contextlib.AsyncExitStack() as stack:
            at_a = await coded(stack, a)
            at_b = await coded(stack, b)
            publisher = await stack.enter_async_context(publish(a.url, "a", PublishOptions(pace="fast", bandwidth=6.0)))
            await feed(publisher, voice(1, 40), 0, 40)
            await publisher.end()
            await at_a.to_end()
            await seconds(2, [a, b])  # the last messages are missed when the origin says how far it is
            await at_b.to_end()
            assert contents(at_a) == contents(at_b) and len(at_b.of(Packet)) == 40 and not at_b.of(Gap)

    run(main())


def test_what_cannot_be_fetched_is_a_gap_that_says_so():
    async def main():
        lossy = lambda hub: type("Both", (LossyBus, DeafNode), {})(hub)  # noqa: E731
        async with nodes(2, memory_bus=lossy) as (a, b), contextlib.AsyncExitStack() as stack:
            publisher = await stack.enter_async_context(publish(a.url, "a", PublishOptions(pace="fast", bandwidth=6.0)))
            heard = await coded(stack, b)
            x = voice(1, 40)
            await feed(publisher, x, 0, 40)
            await until(lambda: a.registry.streams["a"].numbering.next_seq == 40)
            await seconds(3, [a, b])
            await publisher.end()
            await seconds(3, [a, b])
            await heard.to_end()
            gaps = heard.of(Gap)
            assert gaps and {gap.reason for gap in gaps} == {"link"}
            assert len(heard.of(Packet)) + sum(gap.count for gap in gaps) == 40
            assert cluster_of(b).lost == sum(gap.count for gap in gaps)

    run(main())


@pytest.mark.parametrize("back", [False, True])
def test_listeners_wait_for_a_publisher_whose_node_is_gone_as_long_as_it_may_resume(back):
    async def main():
        async with nodes(3) as (a, b, c), contextlib.AsyncExitStack() as stack:
            heard = await coded(stack, c)
            publisher = await stack.enter_async_context(raw(a.url))
            await publisher.send(publish_hello("a", model=MODEL))
            await publisher.receive()
            for seq in range(5):
                await publisher.send(wire_packet(seq))
            await heard.to(lambda heard: len(heard.of(Packet)) == 5)
            cut(a)  # for the others it is dead from now on
            await seconds(7, [b, c])
            assert not knows(c, a) and c.registry.links["a"].node is None
            if back:
                heal(a)
                await until(lambda: knows(c, a))
                await publisher.send(wire_packet(5))
                await heard.to(lambda heard: len(heard.of(Packet)) == 6)
                await publisher.send({"type": "end", "last_seq": 5})
                await heard.to_end()
                assert [type(event) for event in heard.events] == [Waiting, StreamStart, *[Packet] * 6, StreamEnd]
            else:
                await seconds(31, [b, c])
                await heard.to_end()
                assert heard.of(StreamEnd)[0].next_seq == 5
                await publish_all(b.url, "a", voice(2, 6), bandwidth=6.0)  # the name of a dead node's stream is free
                await heard.to_end(2)
                heal(a)  # the name is free again, and its first publisher is there still
                await heard.to(lambda heard: len(heard.of(StreamStart)) == 3)
                assert heard.of(StreamStart)[2].session == heard.of(StreamStart)[0].session
                await publisher.send({"type": "end", "last_seq": 4})
                await heard.to_end(3)

    run(main())


def test_a_cluster_that_was_parted_has_one_publisher_for_each_name_and_both_sides_hear_it():
    async def main():
        async with nodes(2) as (a, b), contextlib.AsyncExitStack() as stack:
            at_a = await coded(stack, a)
            at_b = await coded(stack, b)
            one = await stack.enter_async_context(raw(a.url))
            await one.send(publish_hello("a", model=MODEL))
            await one.receive()
            await one.send(wire_packet(0))
            await at_b.to(lambda heard: len(heard.of(Packet)) == 1)
            cut(a)
            await seconds(7, [a, b])
            other = await stack.enter_async_context(raw(b.url))
            await other.send(publish_hello("a", model=MODEL))
            await other.receive()
            await one.send(wire_packet(1))
            await other.send(wire_packet(0))
            await at_a.to(lambda heard: len(heard.of(Packet)) == 2)  # streams go on where they are
            await at_b.to(lambda heard: len(heard.of(Packet)) == 2)
            heal(a)
            word, close = await one.last_word()
            assert word["code"] == "stream_taken" and close == 4409
            await at_a.to_end()
            await at_a.to(lambda heard: len(heard.of(StreamStart)) == 2)
            await other.send(wire_packet(1))
            await at_a.to(lambda heard: len(heard.of(Packet)) >= 4)
            await other.send({"type": "end", "last_seq": 1})
            await at_a.to_end(2)
            await at_b.to_end(2)
            assert at_a.of(StreamStart)[1].session == at_b.of(StreamStart)[1].session

    run(main())


def test_streams_begin_and_go_on_while_the_bus_is_gone_and_are_known_when_it_is_back():
    async def main():
        async with nodes(2) as (a, b), contextlib.AsyncExitStack() as stack:
            cut(a)
            at_a = await coded(stack, a)
            at_b = await coded(stack, b)
            publisher = await stack.enter_async_context(publish(a.url, "a", PublishOptions(pace="fast", bandwidth=6.0)))
            x = voice(1, 20)
            await feed(publisher, x, 0, 10)
            await at_a.to(lambda heard: len(heard.of(Packet)) == 10)
            assert cluster_of(a).names.num_unclaimed == 1
            heal(a)
            await at_b.to(lambda heard: heard.of(StreamStart))
            assert cluster_of(a).names.num_unclaimed == 0
            with pytest.raises(Refused):
                async with publish(b.url, "a"):
                    pass
            await feed(publisher, x, 10, 10)
            await publisher.end()
            await at_a.to_end()
            await at_b.to_end()
            assert at_b.of(Packet)[-1].seq == 19 and not at_b.of(Gap)

    run(main())


def test_a_name_that_two_nodes_want_at_once_is_one_nodes():
    async def main():
        async with nodes(3) as servers, contextlib.AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(raw(server.url)) for server in servers]
            for client in clients:
                await client.send(publish_hello("a", model=MODEL))
            answers = [await client.receive() for client in clients]
            assert sorted(answer["type"] for answer in answers) == ["refuse", "refuse", "welcome"]
            assert {answer.get("code") for answer in answers} == {None, "stream_taken"}
            assert sum("a" in server.registry.streams for server in servers) == 1

    run(main())


@pytest.mark.parametrize("role", ["publish", "listen"])
def test_a_node_that_is_full_says_which_one_is_not(role):
    full = RESUMING.__class__(**{**RESUMING.__dict__, "max_publishers": 1, "max_listeners": 1})

    async def main():
        async with nodes(2, limits=full) as (a, b), contextlib.AsyncExitStack() as stack:
            first = publish(a.url, "a") if role == "publish" else listen(a.url, "a", format="pcm_s16le")
            await stack.enter_async_context(first)
            with pytest.raises((Refused, ConnectionFailed)) as refused:
                await stack.enter_async_context(publish(a.url, "b") if role == "publish" else listen(a.url, "b", format="pcm_s16le"))
            assert refused.value.code == "server_full" and refused.value.go_to == b.url

    run(main())


def test_nodes_that_do_not_reach_each_other_agree_on_names_and_hear_the_rest_when_they_do():
    async def main():
        async with nodes(2) as (a, b), contextlib.AsyncExitStack() as stack:
            at_b = await coded(stack, b)
            publisher = await stack.enter_async_context(publish(a.url, "a", PublishOptions(pace="fast", bandwidth=6.0)))
            x = voice(1, 30)
            await feed(publisher, x, 0, 10)
            await at_b.to(lambda heard: len(heard.of(Packet)) == 10)
            one, other = cluster_of(a).bus, cluster_of(b).bus
            one.hub.separate(one, other)
            await feed(publisher, x, 10, 10)
            await until(lambda: a.registry.streams["a"].numbering.next_seq == 20)
            await seconds(3, [a, b])
            assert knows(b, a) and b.registry.links["a"].fan_out.numbering.next_seq == 10
            with pytest.raises(Refused) as refused:
                async with publish(b.url, "a"):
                    pass
            assert refused.value.code == "stream_taken"
            one.hub.reunite(one, other)
            await seconds(2, [a, b])
            await feed(publisher, x, 20, 10)
            await publisher.end()
            await at_b.to_end()
            assert [type(event) for event in at_b.events] == [Waiting, StreamStart, *[Packet] * 30, StreamEnd]

    run(main())
