"""A listener's connection: what its stream queues for it goes out, and its reports come back."""

from __future__ import annotations

import asyncio
import logging

from websockets.exceptions import ConnectionClosed

from streamcodec.config import CodecConfig
from streamcodec.errors import RemoteProtocolError, WireCode
from streamcodec.protocol import ListenHello, Packet, Report
from streamcodec.server.fanout.subscriber import Subscriber, SubscriberOptions
from streamcodec.server.handshake import Handshake
from streamcodec.server.limits import Limits
from streamcodec.server.metrics import Metrics
from streamcodec.server.peer import PeerConnection, broke, retrieved
from streamcodec.server.registry import Registry

__all__ = ["serve_listener"]

log = logging.getLogger("streamcodec.server")


async def serve_listener(peer: PeerConnection, hello: ListenHello, registry: Registry, handshake: Handshake) -> None:
    """Subscribe to the name in `hello`, and send what is published under it until the listener is gone or too slow."""
    config = registry.worker.engine.config
    stream = registry.expect(hello)
    subscriber = Subscriber(_options(hello, registry.limits, config), registry.limits, observer=registry.metrics)
    subscriber.failed = peer.fail
    peer.accept(handshake.welcome(hello, stream))
    registry.metrics.listeners_accepted += 1
    log.info("%s listens to %s: %s", peer.name, hello.stream, hello.format)
    # Before the welcome is sent: from then on the listener has what it was admitted for.
    if registry.subscribe(subscriber, hello.resume):
        registry.metrics.listeners_resumed += 1
    writer = asyncio.create_task(_write(peer, subscriber, registry.metrics))
    lost = False
    try:
        await peer.flush()
        async for message in peer.messages(writer):
            if isinstance(message, Report):
                _take_report(subscriber, message, config)
    except ConnectionClosed as exc:
        lost = broke(exc)
        raise
    finally:
        writer.cancel()
        writer.add_done_callback(retrieved)
        registry.unsubscribe(subscriber, lost=lost)


def _options(hello: ListenHello, limits: Limits, config: CodecConfig) -> SubscriberOptions:
    return SubscriberOptions(
        hello.stream,
        hello.format,
        max_n_q=None if hello.bandwidth is None else config.n_q_for(hello.bandwidth),
        min_n_q=None if hello.min_bandwidth is None else config.n_q_for(hello.min_bandwidth),
        history_s=limits.history_s if hello.history_ms is None else min(hello.history_ms / 1000, limits.history_s),
    )


def _take_report(subscriber: Subscriber, report: Report, config: CodecConfig) -> None:
    asks = None
    if report.bandwidth is not None:
        if subscriber.format != "codes":
            raise RemoteProtocolError(WireCode.BAD_REQUEST, "report: bandwidth is for listeners of codes")
        # It is a bound: any number will do.
        asks = config.bandwidth_to_n_q(report.bandwidth)
    subscriber.reported(report, asks)


async def _write(peer: PeerConnection, subscriber: Subscriber, metrics: Metrics) -> None:
    while True:
        message = await subscriber.get()
        if peer.session.close_code is not None:
            return
        peer.session.send(message)
        if isinstance(message, Packet):
            metrics.packets_sent += 1
        await peer.flush()
