"""What makes no sense, or is another stream's, is left out and told, whoever wrote it on the bus: streams beside it go on."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import replace

import numpy as np
import pytest
from cluster_rig import MODEL, cluster_of, coded, feed, live_codes, nodes, run, seconds, voice
from counting_engine import counted_codes
from server_rig import publish_hello, raw, until

from streamcodec.client import PublishOptions, publish
from streamcodec.protocol import Gap, Packet, StreamEnd, StreamStart, Waiting
from streamcodec.server.cluster.joined import NODES
from streamcodec.server.cluster.questions import Moved, NodeAnswer, with_length

OPTIONS = PublishOptions(bandwidth=6.0, start="exact", pace="fast")


def test_packets_that_do_not_fit_reach_no_listener_and_take_no_packet_s_place(caplog):
    async def main():
        async with nodes(2) as (a, b), contextlib.AsyncExitStack() as stack:
            heard = [await coded(stack, server) for server in (a, b)]
            publisher = await stack.enter_async_context(publish(a.url, "a", OPTIONS))
            x = voice(1, 20)
            await feed(publisher, x, 0, 10)
            for one in heard:
                await one.to(lambda one: len(one.of(Packet)) >= 10)
            bus, subject = cluster_of(a).bus, cluster_of(a).subjects.live(a.registry.streams["a"].fan_out.session)
            for n_q, payload in ((8, b"x"), (32, bytes(240)), (8, bytes(600))):
                bus.publish(subject, Packet(10, 0, 0, n_q, payload).serialize())
            for data in (b"", b"\xc1", b"\x81\xa4type\xa5moved", Waiting(stream="a").serialize()):
                bus.publish(subject, data)
            await feed(publisher, x, 10, 10)
            await publisher.end()
            for one in heard:
                await one.to_end()
                assert [type(event) for event in one.events] == [Waiting, StreamStart, *[Packet] * 20, StreamEnd]
                np.testing.assert_array_equal(live_codes(one), counted_codes(x))

    with caplog.at_level(logging.WARNING):
        run(main())
    assert caplog.text.count("a packet of its node is left out") == 3


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"n_q": 200}, "with 200 codebooks, expected a with at most 32"),
        ({"name": "b"}, "it is b with 8 codebooks, expected a"),
        ({"packet_frames": 1}, "expected at most 8 and 1"),
    ],
)
def test_a_stream_of_which_its_node_says_what_does_not_fit_is_not_followed_until_it_does(changes, told, caplog):
    async def main():
        async with nodes(2) as (a, b), contextlib.AsyncExitStack() as stack:
            publisher = await stack.enter_async_context(publish(a.url, "a", OPTIONS))
            await feed(publisher, voice(1, 2), 0, 2)
            await until(lambda: a.registry.streams["a"].fan_out.numbering.next_seq == 2)
            origins = cluster_of(a).origins
            answer = origins.answer

            def forged(question):
                found = answer(question)
                state = found.state
                return found if state is None else replace(found, state=replace(state, info=replace(state.info, **changes)))

            origins.answer = forged
            heard = await coded(stack, b)
            for _ in range(100):  # on a slow machine an answer comes too late, and the node asks again later
                if told in caplog.text:
                    break
                await seconds(1, [a, b])
            assert told in caplog.text
            assert not b.registry.links and not heard.of(StreamStart)
            origins.answer = answer
            await seconds(6, [a, b])
            await heard.to(lambda heard: len(heard.of(Packet)) == 2)
            await publisher.end()
            await heard.to_end()

    caplog.set_level(logging.DEBUG, "streamcodec.server")
    run(main())


def test_a_node_that_gives_another_stream_than_the_one_it_was_asked_for_is_not_believed(caplog):
    async def main():
        async with nodes(2) as (a, b), contextlib.AsyncExitStack() as stack:
            ours, other, again = [await stack.enter_async_context(raw(server.url)) for server in (a, a, b)]
            for client, name in ((ours, "a"), (other, "other")):
                await client.send(publish_hello(name, model=MODEL))
                welcome = await client.receive()
                assert welcome["type"] == "welcome"
            snapshot = await a.registry.streams["other"].snapshot()
            secret = a.registry.streams["a"].lease.secret

            async def give(_):
                return with_length([NodeAnswer("ok").pack(), snapshot.to_bytes(MODEL, a.registry.worker.engine)])

            cluster_of(a).handover.give = give
            await again.send(publish_hello("a", model=MODEL, resume={"session": secret, "epoch": 0, "next_seq": 0}))
            refused, _ = await again.last_word()
            assert refused["code"] == "unknown_session" and not b.registry.streams and set(a.registry.streams) == {"a", "other"}
            for client in (ours, other):
                await client.send({"type": "end", "last_seq": None})

    with caplog.at_level(logging.WARNING):
        run(main())
    assert "a is not given by its node: the snapshot is of another stream" in caplog.text


def test_a_node_s_entry_under_another_node_s_key_counts_for_neither(caplog):
    async def main():
        async with nodes(2) as (a, b):
            record = cluster_of(b).nodes.record(cluster_of(b).node)
            await cluster_of(b).bus.store(NODES, ttl_s=5.0).put("somebody", record.pack())
            await until(lambda: "under the key 'somebody'" in caplog.text)
            assert not cluster_of(a)._lives("somebody") and cluster_of(a)._lives(cluster_of(b).node)
            await cluster_of(b).bus.store(NODES, ttl_s=5.0).delete("somebody")

    with caplog.at_level(logging.WARNING):
        run(main())


def test_what_says_where_a_stream_went_names_a_node():
    for node in ("", "a.b", "*", "x" * 65):
        with pytest.raises(Exception, match="expected 1 to 64 of A-Z a-z 0-9 _ -"):
            Moved(node)
    assert Gap(first_seq=0, count=1) != Moved("there")
