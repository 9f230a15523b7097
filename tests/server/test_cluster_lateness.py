"""A message is lost between two nodes, and the answer to the question for it is late, or never comes: waiting is better than a gap."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from cluster_rig import MODEL, cluster_of, coded, cut, heal, knows, nodes, run, seconds
from patience import pass_time
from server_rig import packet as wire_packet
from server_rig import publish_hello, raw, small_limits, until

from streamcodec.protocol import Gap, Packet, StreamEnd, StreamStart, Waiting
from streamcodec.server.cluster import link
from streamcodec.server.cluster.bus import BusError
from streamcodec.server.cluster.memory import MemoryBus
from streamcodec.server.cluster.questions import NodeQuestion, read_live

HELD_S = 60
KEPT = small_limits(resume_s=120.0)
LOST = 2


class LateBus(MemoryBus):
    """Loses a packet of a stream, once; questions for what is missing wait until `late` is set. `asked` are the subjects of these."""

    def __init__(self, hub):
        super().__init__(hub)
        self.late = asyncio.Event()
        self.asked = []

    def publish(self, subject, data):
        message = read_live(data) if ".live." in subject else None
        if not (isinstance(message, Packet) and message.seq == LOST):
            super().publish(subject, data)

    async def ask(self, subject, data, timeout_s):
        question = NodeQuestion.parse(data)
        if question.kind == "join" and question.next_seq is not None:
            self.asked.append(subject)
            if len(set(self.asked)) == 1:  # another origin is quick
                try:
                    async with asyncio.timeout(timeout_s):
                        await self.late.wait()
                except TimeoutError:
                    raise BusError("no answer in time") from None
        return await super().ask(subject, data, timeout_s)


@pytest.fixture(autouse=True)
def _patient(monkeypatch):
    """No verdict depends on how fast the machine is."""
    monkeypatch.setattr(link, "HELD_S", HELD_S)


@contextlib.asynccontextmanager
async def with_a_loss(count=2):
    """Nodes, a listener at the second one that waits for a packet, and the publisher at the first one, which has sent 6."""
    async with nodes(count, limits=KEPT, memory_bus=LateBus) as servers, contextlib.AsyncExitStack() as stack:
        a, b = servers[:2]
        heard = await coded(stack, b)
        publisher = await stack.enter_async_context(raw(a.url))
        await publisher.send(publish_hello("a", model=MODEL, can_move=True))
        session = (await publisher.receive())["session"]
        for seq in range(6):
            await publisher.send(wire_packet(seq))
        await heard.to(lambda heard: len(heard.of(Packet)) == LOST)
        await until(lambda: cluster_of(b).bus.asked, "it has not asked for what is missing")
        yield servers, heard, publisher, session, stack


async def ends(heard, publisher, last_seq=5):
    """End the stream; the listener has heard all of it."""
    await publisher.send({"type": "end", "last_seq": last_seq})
    await heard.to_end()


def packets(*numbers):
    return [(seq, Packet) for seq in numbers]


def told(heard):
    """The numbers that a listener was told, and how."""
    return [
        (event.seq if isinstance(event, Packet) else event.first_seq, type(event))
        for event in heard.events
        if hasattr(event, "seq") or isinstance(event, Gap)
    ]


def test_an_answer_that_takes_eight_tenths_of_a_second_is_waited_for():
    async def main():
        async with with_a_loss() as ((_, b), heard, publisher, *_):
            await pass_time(0.8)
            await until(lambda: len(cluster_of(b).bus.asked) == 2, "it has not asked once more")
            cluster_of(b).bus.late.set()
            await ends(heard, publisher)
            assert [type(event) for event in heard.events] == [Waiting, StreamStart, *[Packet] * 6, StreamEnd]
            assert cluster_of(b).lost == 0 and len(cluster_of(b).bus.asked) == 2

    run(main())


def test_without_an_answer_what_is_missing_is_a_gap_after_the_bound_and_told_once():
    async def main():
        async with with_a_loss() as ((a, b), heard, publisher, *_):
            follower = b.registry.links["a"]._follower
            await seconds(HELD_S - 2, [a, b])
            assert follower.holds and cluster_of(b).lost == 0
            await seconds(3, [a, b])
            await until(lambda: cluster_of(b).lost == 1)
            assert not follower.holds, "what came is not waited with any longer"
            cluster_of(b).bus.late.set()
            await ends(heard, publisher)
            assert told(heard) == [*packets(0, 1), (LOST, Gap), *packets(3, 4, 5)]
            assert [gap.reason for gap in heard.of(Gap)] == ["link"] and cluster_of(b).lost == 1

    run(main())


def test_where_the_origin_dies_meanwhile_what_came_is_heard_after_the_bound():
    async def main():
        async with with_a_loss() as ((a, b), heard, publisher, *_):
            cluster_of(b).bus.late.set()
            cut(a)
            await seconds(HELD_S - 2, [b])
            assert not knows(b, a) and cluster_of(b).lost == 0
            await seconds(3, [b])
            await heard.to(lambda heard: len(heard.of(Packet)) == 5)
            assert told(heard) == [*packets(0, 1), (LOST, Gap), *packets(3, 4, 5)]
            assert "a" in b.registry.links, "its publisher may resume elsewhere still"
            heal(a)
            await until(lambda: knows(b, a))
            await ends(heard, publisher)
            assert heard.of(StreamEnd)[0].next_seq == 6 and len(heard.of(Gap)) == 1 and cluster_of(b).lost == 1

    run(main())


@pytest.mark.parametrize("who", ["the origin", "the one that asks"])
def test_where_the_bus_goes_away_meanwhile_what_is_missing_is_there_when_it_is_back(who):
    async def main():
        async with with_a_loss() as ((a, b), heard, publisher, *_):
            cluster_of(b).bus.late.set()
            for server in (a, b) if who == "the origin" else (b,):
                cut(server)
            await seconds(HELD_S + 10, [a, b])
            assert cluster_of(b).lost == 0
            for server in (a, b):
                heal(server)
            await heard.to(lambda heard: len(heard.of(Packet)) == 6)
            await ends(heard, publisher)
            assert [type(event) for event in heard.events] == [Waiting, StreamStart, *[Packet] * 6, StreamEnd]
            assert cluster_of(b).lost == 0

    run(main())


def test_the_bound_begins_anew_when_the_bus_is_back():
    async def main():
        async with with_a_loss() as ((a, b), heard, publisher, *_):
            cut(b)
            await seconds(2 * HELD_S - 2, [a, b])
            heal(b)
            await seconds(4, [a, b])
            assert cluster_of(b).lost == 0 and b.registry.links["a"]._follower.holds
            cluster_of(b).bus.late.set()
            await ends(heard, publisher)
            assert [type(event) for event in heard.events] == [Waiting, StreamStart, *[Packet] * 6, StreamEnd]

    run(main())


def test_where_the_stream_moves_meanwhile_its_new_node_is_asked_at_once():
    async def main():
        async with with_a_loss(3) as ((_, b, c), heard, publisher, session, stack):
            again = await stack.enter_async_context(raw(c.url))
            await again.send(publish_hello("a", model=MODEL, resume={"session": session, "epoch": 0, "next_seq": 6}))
            assert (await again.receive())["type"] == "welcome"
            await again.send(wire_packet(6))
            await ends(heard, again, 6)
            assert [type(event) for event in heard.events] == [Waiting, StreamStart, *[Packet] * 7, StreamEnd]
            assert cluster_of(b).lost == 0 and len(set(cluster_of(b).bus.asked)) == 2
            assert (await publisher.last_word())[0]["code"] == "taken_over"

    run(main())
