"""Two nodes and a real server of NATS: streams are heard, move, and come back after NATS was gone."""

from __future__ import annotations

import asyncio
import contextlib
import logging

import numpy as np
from bus_rig import NATS_SERVER, NatsServerProcess, Proxy
from certificates import make_pair
from cluster_rig import RESUMING, as_pcm, cluster_of, coded, feed, knows, live_codes, nodes, pcm_of, run, voice
from counting_engine import counted_audio, counted_codes, counting_codec
from programs import needs
from server_rig import serving, until

from streamcodec.client import PublishOptions, publish
from streamcodec.protocol import Gap, Packet, StreamEnd, StreamStart, Waiting
from streamcodec.server import ClusterOptions
from streamcodec.server.cluster.joining import nats_bus
from streamcodec.server.cluster.nats_settings import NatsSettings

pytestmark = needs(NATS_SERVER)


@contextlib.asynccontextmanager
async def on_nats(tmp_path, count=2):
    process = NatsServerProcess(tmp_path)
    await process.start()
    try:
        async with nodes(count, lambda: nats_bus(NatsSettings((f"nats://127.0.0.1:{process.port}",)))) as servers:
            yield process, servers
    finally:
        await process.kill()


def test_a_stream_is_heard_on_both_nodes_and_moves_with_its_publisher(tmp_path):
    async def main():
        async with on_nats(tmp_path) as (_, (a, b)), contextlib.AsyncExitStack() as stack:
            heard = [await coded(stack, server) for server in (a, b)]
            pcm = [await as_pcm(stack, server) for server in (a, b)]
            publisher = await stack.enter_async_context(publish(a.url, "a", PublishOptions(pace="fast", bandwidth=6.0, start="exact")))
            over = [asyncio.create_task(one.to_end()) for one in (*heard, *pcm)]
            x = voice(1, 20)
            await feed(publisher, x, 0, 10)
            await until(lambda: all(len(one.of(Packet)) >= 5 for one in heard))
            publisher._uplink._kept._route.url = b.url
            publisher._uplink.connection._ws.transport.abort()
            await until(lambda: "a" in b.registry.streams, "the stream has not moved")
            await feed(publisher, x, 10, 10)
            await publisher.end()
            await asyncio.gather(*over)
            for one in (*heard, *pcm):
                assert [type(event) for event in one.events] == [Waiting, StreamStart, *[Packet] * 20, StreamEnd]
            for one in heard:
                np.testing.assert_array_equal(live_codes(one), counted_codes(x))
            for one in pcm:
                np.testing.assert_array_equal(pcm_of(one), counted_audio(counted_codes(x)))

    run(main())


def test_streams_go_on_at_their_node_while_nats_is_gone_and_elsewhere_when_it_is_back(tmp_path):
    async def main():
        async with on_nats(tmp_path) as (process, (a, b)), contextlib.AsyncExitStack() as stack:
            at_a, at_b = [await coded(stack, server) for server in (a, b)]
            publisher = await stack.enter_async_context(publish(a.url, "a", PublishOptions(pace="fast", bandwidth=6.0)))
            x = voice(1, 30)
            await feed(publisher, x, 0, 10)
            await at_b.to(lambda heard: len(heard.of(Packet)) == 10)
            await process.kill()
            await until(lambda: not cluster_of(a).bus.connected and not cluster_of(b).bus.connected)
            await feed(publisher, x, 10, 10)
            await at_a.to(lambda heard: len(heard.of(Packet)) == 20)
            await process.start()
            await until(lambda: cluster_of(a).bus.connected and cluster_of(b).bus.connected)
            await feed(publisher, x, 20, 10)
            await publisher.end()
            await at_a.to_end()
            await at_b.to_end()
            assert len(at_b.of(Packet)) == 30 and not at_b.of(Gap)

    run(main())


def test_nodes_that_start_before_nats_are_a_cluster_when_it_is_there(tmp_path):
    async def main():
        process = NatsServerProcess(tmp_path)
        await process.start()  # it keeps its port
        await process.kill()
        cluster = ClusterOptions(lambda: nats_bus(NatsSettings((f"nats://127.0.0.1:{process.port}",))))
        try:
            async with contextlib.AsyncExitStack() as stack:
                a, b = [await stack.enter_async_context(serving(counting_codec(), limits=RESUMING, cluster=cluster)) for _ in range(2)]
                at_b = await coded(stack, b)
                publisher = await stack.enter_async_context(publish(a.url, "a", PublishOptions(bandwidth=6.0)))
                x = voice(1, 10)
                await feed(publisher, x, 0, 5)
                await until(lambda: a.registry.streams["a"].numbering.next_seq == 5)
                await process.start()
                await at_b.to(lambda heard: heard.of(StreamStart))
                assert knows(a, b) and knows(b, a)
                await feed(publisher, x, 5, 5)
                await publisher.end()
                await at_b.to_end()
                assert at_b.of(Packet)[-1].seq == 9 and not at_b.of(Gap)
        finally:
            await process.kill()

    run(main())


def test_a_stream_whose_node_is_cut_off_goes_on_from_its_copy(tmp_path):
    async def main():
        process = NatsServerProcess(tmp_path)
        await process.start()
        proxies = [Proxy(process.port), Proxy(process.port)]
        for proxy in proxies:
            await proxy.open()
        ports = iter([proxy.port for proxy in proxies])
        try:
            buses = lambda: nats_bus(NatsSettings((f"nats://127.0.0.1:{next(ports)}",)))  # noqa: E731
            async with nodes(2, buses, replicate=True) as (a, b), contextlib.AsyncExitStack() as stack:
                heard = await coded(stack, b)
                publisher = await stack.enter_async_context(publish(a.url, "a", PublishOptions(bandwidth=6.0, start="exact")))
                x = voice(1, 30)
                await feed(publisher, x, 0, 10)
                await heard.to(lambda heard: len(heard.of(Packet)) == 10)
                copied = cluster_of(a).handover.copied
                await until(lambda: cluster_of(a).handover.copied > copied + 1)
                proxies[0].cut()
                await until(lambda: not knows(b, a), "its entry does not expire")
                publisher._uplink._kept._route.url = b.url
                publisher._uplink.connection._ws.transport.abort()
                await until(lambda: "a" in b.registry.streams, "the stream does not go on")
                await proxies[0].open()
                await until(lambda: not a.registry.streams, "the stream is at two nodes")
                await feed(publisher, x, 10, 20)
                await publisher.end()
                await heard.to_end()
                assert [type(event) for event in heard.events] == [Waiting, StreamStart, *[Packet] * 30, StreamEnd]
                np.testing.assert_array_equal(live_codes(heard), counted_codes(x))
        finally:
            for proxy in proxies:
                await proxy.close()
            await process.kill()

    run(main())


def test_nodes_with_certificates_are_a_cluster_and_one_without_goes_on_alone_and_says_why(tmp_path, caplog):
    nats, ours = make_pair(tmp_path, "nats"), make_pair(tmp_path, "node")
    options = ["--tlsverify", "--tlscert", nats.certificate, "--tlskey", nats.key, "--tlscacert", ours.certificate]

    async def main():
        process = NatsServerProcess(tmp_path, *map(str, options))
        await process.start()
        url = f"tls://127.0.0.1:{process.port}"
        known = NatsSettings((url,), tls_ca=nats.certificate, tls_certificate=ours.certificate, tls_key=ours.key)
        unknown = NatsSettings((url,), tls_ca=nats.certificate)
        try:
            async with nodes(2, lambda: nats_bus(known)) as (a, b), contextlib.AsyncExitStack() as stack:
                alone = ClusterOptions(lambda: nats_bus(unknown))
                third = await stack.enter_async_context(serving(counting_codec(), limits=RESUMING, cluster=alone))
                assert "asks for this node's certificate, expected cluster_tls_certificate and cluster_tls_key" in caplog.text
                heard = [await coded(stack, server) for server in (a, b)]
                publisher = await stack.enter_async_context(publish(a.url, "a", PublishOptions(pace="fast", bandwidth=6.0, start="exact")))
                await feed(publisher, voice(1, 5), 0, 5)
                for one in heard:
                    await one.to(lambda one: len(one.of(Packet)) == 5)
                await publisher.end()
                for one in heard:
                    await one.to_end()
                assert not any(knows(server, third) for server in (a, b)) and not cluster_of(third).bus.connected
        finally:
            await process.kill()

    with caplog.at_level(logging.WARNING):
        run(main())
