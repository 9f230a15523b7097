"""Two nodes and a real server of NATS: streams are heard, move, and come back after NATS was gone."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import socket

import numpy as np
import pytest
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


@contextlib.asynccontextmanager
async def in_two_regions(tmp_path):
    """A node at NATS, and one at a leaf node of that, which has no stores of its own."""
    folders = [tmp_path / "hub", tmp_path / "leaf"]
    for folder in folders:
        folder.mkdir()
    (folders[0] / "conf").write_text("leafnodes { host: 127.0.0.1, port: -1 }\njetstream { domain: hub }\n")
    hub = NatsServerProcess(folders[0], "--config", str(folders[0] / "conf"))
    await hub.start()
    told = re.search(r"leafnode connections on (127\.0\.0\.1:\d+)", hub.log.read_text())
    assert told is not None
    (folders[1] / "conf").write_text(f'leafnodes {{ remotes [ {{ url: "nats-leaf://{told[1]}" }} ] }}')
    leaf = NatsServerProcess(folders[1], "--config", str(folders[1] / "conf"), jetstream=False)
    try:
        await leaf.start()
        await until(lambda: "Leafnode connection created" in leaf.log.read_text(), "the leaf node is not connected")
        ports = iter([hub.port, leaf.port])
        async with nodes(2, lambda: nats_bus(NatsSettings((f"nats://127.0.0.1:{next(ports)}",), domain="hub"))) as servers:
            yield leaf, servers
    finally:
        await leaf.kill()
        await hub.kill()


@pytest.mark.parametrize("place", [on_nats, in_two_regions], ids=["one NATS", "a leaf node"])
def test_a_stream_is_heard_on_both_nodes_and_moves_with_its_publisher(tmp_path, place):
    async def main():
        async with place(tmp_path) as (_, (a, b)), contextlib.AsyncExitStack() as stack:
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


@contextlib.asynccontextmanager
async def on_three_servers(tmp_path):
    """Three servers of NATS that are one, and two nodes."""
    with contextlib.ExitStack() as stack:  # the routes' ports must be known before
        held = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)]
        ports = [one.getsockname()[1] for one in held]
    processes = []
    for number, port in enumerate(ports):
        folder = tmp_path / str(number)
        folder.mkdir()
        routes = ", ".join(f'"nats-route://127.0.0.1:{other}"' for other in ports)
        (folder / "conf").write_text(
            f"server_name: n{number}\ncluster {{ name: c, host: 127.0.0.1, port: {port}, routes: [{routes}], pool_size: 1 }}\n"
        )
        processes.append(NatsServerProcess(folder, "--config", str(folder / "conf")))
    try:
        await asyncio.gather(*(process.start() for process in processes))
        urls = tuple(f"nats://127.0.0.1:{process.port}" for process in processes)
        async with nodes(2, lambda: nats_bus(NatsSettings(urls, replicas=3))) as servers:
            yield processes, servers
    finally:
        await asyncio.gather(*(process.kill() for process in processes))


def test_a_cluster_outlives_one_of_three_servers_of_nats(tmp_path):
    async def main():
        async with on_three_servers(tmp_path) as (processes, (a, b)), contextlib.AsyncExitStack() as stack:
            heard = await coded(stack, b)
            publisher = await stack.enter_async_context(publish(a.url, "a", PublishOptions(pace="fast", bandwidth=6.0)))
            x = voice(1, 20)
            await feed(publisher, x, 0, 10)
            await heard.to(lambda heard: len(heard.of(Packet)) == 10)
            used = cluster_of(a).bus._client.connected_url.port
            await next(process for process in processes if process.port == used).kill()
            await until(lambda: not cluster_of(a).bus.connected)
            await until(lambda: cluster_of(a).bus.connected and cluster_of(b).bus.connected)
            await feed(publisher, x, 10, 10)
            await publisher.end()
            await heard.to_end()
            assert len(heard.of(Packet)) == 20 and not heard.of(Gap)
            later = await coded(stack, b, "later")
            async with publish(a.url, "later", PublishOptions(bandwidth=6.0)) as another:
                await later.to(lambda heard: heard.of(StreamStart))  # the stores have another leader first
                await feed(another, x, 0, 5)
                await another.end()
            await later.to_end()
            assert len(later.of(Packet)) == 5 and not later.of(Gap)

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
