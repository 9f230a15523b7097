"""A stream moves from one node to another while it runs: publisher and listeners go on, and nobody hears that anything happened."""

from __future__ import annotations

import asyncio
import contextlib

import numpy as np
import pytest
from cluster_rig import MODEL, as_pcm, cluster_of, coded, contents, feed, live_codes, nodes, pcm_of, run, seconds, voice
from counting_engine import counted_audio, counted_codes
from server_rig import until

from streamcodec.client import PublishOptions, publish
from streamcodec.protocol import Gap, Packet, StreamEnd, StreamStart, Waiting


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
