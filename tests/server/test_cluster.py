"""A stream that is published on one node is heard on every node, as if all listeners were at the publisher's."""

from __future__ import annotations

import asyncio
import contextlib
import json

import numpy as np
import pytest
from cluster_rig import as_pcm, cluster_of, coded, contents, feed, live_codes, nodes, pcm_of, run, voice
from counting_engine import counted_audio, counted_codes
from server_rig import publish_all, until

from streamcodec.cli import main as command
from streamcodec.client import PublishOptions, publish
from streamcodec.errors import Refused
from streamcodec.protocol import Gap, Packet, StreamEnd, StreamStart, Waiting
from streamcodec.server import Operations

TOKEN = "an-admin-token-of-32-characters!"


def test_listeners_of_codes_and_of_pcm_hear_on_three_nodes_what_is_published_on_one():
    async def main():
        async with nodes(3) as servers, contextlib.AsyncExitStack() as stack:
            codes = [await coded(stack, server) for server in servers]
            pcm = [await as_pcm(stack, server) for server in servers]
            x = voice(1, 25)
            await publish_all(servers[0].url, "a", x, bandwidth=6.0)
            for heard in (*codes, *pcm):
                await heard.to_end()
            for heard in codes:
                np.testing.assert_array_equal(live_codes(heard), counted_codes(x))
                assert contents(heard) == contents(codes[0])
            for heard in pcm:
                assert [type(event) for event in heard.events] == [Waiting, StreamStart, *[Packet] * 25, StreamEnd]
                np.testing.assert_array_equal(pcm_of(heard), counted_audio(counted_codes(x)))
            assert [len(cluster_of(server).origins.entries) for server in servers] == [1, 0, 0]

    run(main())


def test_a_listener_that_joins_late_at_another_node_gets_the_history_that_one_at_the_publishers_node_gets():
    async def main():
        async with nodes(2) as (a, b), contextlib.AsyncExitStack() as stack:
            publisher = await stack.enter_async_context(publish(a.url, "a", PublishOptions(pace="fast", bandwidth=6.0)))
            x = voice(1, 40)
            await feed(publisher, x, 0, 30)
            await until(lambda: a.registry.streams["a"].numbering.next_seq == 30)
            at_a = await coded(stack, a)
            at_b = await coded(stack, b)
            again = await coded(stack, b)
            assert at_b.listener.welcome.n_q == 8 and at_b.listener.welcome.next_seq == 30
            await feed(publisher, x, 30, 10)
            await publisher.end()
            for heard in (at_a, at_b, again):
                await heard.to_end()
            starts = [heard.of(StreamStart)[0] for heard in (at_a, at_b, again)]
            assert starts[0] == starts[1] == starts[2] and starts[0].first_seq < starts[0].live_seq == 30
            assert contents(at_a) == contents(at_b) == contents(again)
            assert len(cluster_of(b).links) <= 1

    run(main())


def test_a_name_is_one_publishers_on_all_nodes_until_its_stream_is_over():
    async def main():
        async with nodes(2) as (a, b):
            x = voice(1, 6)
            async with publish(a.url, "a", PublishOptions(pace="fast")) as publisher:
                with pytest.raises(Refused) as refused:
                    async with publish(b.url, "a"):
                        pass
                assert refused.value.code == "stream_taken"
                await publisher.send(x)
                await publisher.end()
            await until(lambda: not a.registry.streams)
            await cluster_of(a).names.freed()
            await publish_all(b.url, "a", x)

    run(main())


def test_a_listener_hears_one_stream_after_another_wherever_they_are_published():
    async def main():
        async with nodes(3) as (a, b, c), contextlib.AsyncExitStack() as stack:
            heard = await coded(stack, c)
            for at, server in enumerate((a, b, c, a), 1):
                await publish_all(server.url, "a", voice(at, 6), bandwidth=6.0)
                await heard.to_end(at)
                await until(lambda server=server: not server.registry.streams)
                await cluster_of(server).names.freed()
            assert [type(event) for event in heard.events if not isinstance(event, Packet)] == [Waiting, *[StreamStart, StreamEnd] * 4]
            assert not heard.of(Gap)

    run(main())


def test_admin_shows_the_nodes(capsys, monkeypatch):
    monkeypatch.setenv("STREAMCODEC_ADMIN_TOKEN", TOKEN)

    async def main():
        async with nodes(2, private_port=0, operations=Operations(admin_token=TOKEN)) as (a, b):
            for argv in ([], ["--json"]):
                assert await asyncio.to_thread(command, ["admin", "nodes", "--server", a.private.url, *argv]) == 0
            heading, first, second, *rest = capsys.readouterr().out.splitlines()
            assert heading.split()[:2] == ["node", "address"] and f"(here)  {a.url}" in first and b.url in second
            assert len(json.loads("\n".join(rest))["nodes"]) == 2

    run(main())
