"""A listener's connection: what its stream queues for it goes out, and its reports come back."""

from __future__ import annotations

from collections.abc import Callable

from websockets.exceptions import ConnectionClosed

from streamcodec.config import CodecConfig
from streamcodec.errors import RemoteProtocolError, WireCode
from streamcodec.protocol import ListenHello, Packet, Report, StreamEnd
from streamcodec.server.fanout.subscriber import Subscriber, SubscriberOptions
from streamcodec.server.handshake import Handshake
from streamcodec.server.limits import Limits
from streamcodec.server.metrics import Metrics
from streamcodec.server.peer import PeerConnection, broke
from streamcodec.server.registry import Registry

__all__ = ["serve_listener"]

_MESSAGES_AT_ONCE = 32  # a history of two seconds; then the socket is asked whether it takes more


async def serve_listener(
    peer: PeerConnection, hello: ListenHello, registry: Registry, handshake: Handshake, subscribed: Callable[[Subscriber], None]
) -> None:
    """Subscribe to the name in `hello`, and send what is published under it until the listener is gone or too slow.

    `subscribed` is told of the subscriber.
    """
    config = registry.worker.engine.config
    await registry.find(hello)
    stream = registry.expect(hello)
    subscriber = Subscriber(_options(hello, registry.limits, config), registry.limits, observer=registry.metrics)
    subscriber.failed = peer.fail
    subscribed(subscriber)
    peer.accept(handshake.welcome(hello, stream))
    registry.metrics.listeners_accepted += 1
    peer.log.info("%s listens to %s: %s", peer.name, hello.stream, hello.format)
    # Before the welcome is sent: from then on the listener has what it was admitted for.
    if registry.subscribe(subscriber, hello.resume):
        registry.metrics.listeners_resumed += 1
    writer = _ListenerWriter(peer, subscriber, registry)
    lost = False
    try:
        writer.begin()
        peer.on_report(lambda report: _take_report(subscriber, report, config, registry.metrics))
        await peer.flush()
        async for message in peer.messages():
            if isinstance(message, Report):
                _take_report(subscriber, message, config, registry.metrics)
    except ConnectionClosed as exc:
        lost = broke(exc)
        raise
    finally:
        writer.end()
        registry.unsubscribe(subscriber, lost=lost or peer.resumable)
        peer.log.info("%s %s %s", peer.name, "was lost while listening to" if lost else "stopped listening to", hello.stream)


def _options(hello: ListenHello, limits: Limits, config: CodecConfig) -> SubscriberOptions:
    return SubscriberOptions(
        hello.stream,
        hello.format,
        max_n_q=None if hello.bandwidth is None else config.n_q_for(hello.bandwidth),
        min_n_q=None if hello.min_bandwidth is None else config.n_q_for(hello.min_bandwidth),
        history_s=limits.history_s if hello.history_ms is None else min(hello.history_ms / 1000, limits.history_s),
    )


def _take_report(subscriber: Subscriber, report: Report, config: CodecConfig, metrics: Metrics) -> None:
    asks = None
    if report.bandwidth is not None:
        if subscriber.format != "codes":
            raise RemoteProtocolError(WireCode.BAD_REQUEST, "report: bandwidth is for listeners of codes")
        # It is a bound: any number will do.
        asks = config.bandwidth_to_n_q(report.bandwidth)
    subscriber.reported(report, asks)
    metrics.reported(report)


class _ListenerWriter:
    """Sends what waits for a listener as soon as it may: nobody waits here, so a listener costs no task."""

    def __init__(self, peer: PeerConnection, subscriber: Subscriber, registry: Registry) -> None:
        self._peer = peer
        self._subscriber = subscriber
        self._metrics = registry.metrics
        self._registry = registry

    def begin(self) -> None:
        """Send what waits, and from now on whatever comes."""
        self._subscriber.ready, self._subscriber.relayed = self.write, self.relay
        self._peer.on_writable(self.write)
        self.write()

    def end(self) -> None:
        """Send nothing more."""
        self._subscriber.ready, self._subscriber.relayed = lambda: None, lambda _: False
        self._peer.on_writable(lambda: None)

    def relay(self, packet: Packet) -> bool:
        """Send a packet that nothing waits in front of; returns False where the socket is full or the connection over."""
        try:
            sent = self._peer.relay(packet)
        except Exception as exc:
            self._peer.fail(exc)
            return False
        self._metrics.packets_sent += sent
        return sent

    def write(self) -> None:
        """Send what may be sent until the socket is full. What fails here ends this connection only, whoever has called."""
        peer, subscriber, session = self._peer, self._subscriber, self._peer.session
        try:
            while peer.writable and session.close_code is None and (messages := subscriber.take(_MESSAGES_AT_ONCE)):
                for message in messages:
                    if type(message) is StreamEnd and self._registry.draining.begun and self._may_go_on():
                        # Whoever listens has to go there, and not to take this for the end.
                        peer.write()
                        peer.fail(self._registry.draining.farewell("listen"))
                        return
                    session.send(message)
                    if type(message) is Packet:
                        self._metrics.packets_sent += 1
                peer.write()
        except Exception as exc:
            peer.fail(exc)

    def _may_go_on(self) -> bool:
        """Whether the publisher of the stream that ends goes on elsewhere, as a rule; one that moved has ended it itself."""
        registry = self._registry
        return self._subscriber.options.stream in registry.streams or not registry.cluster.alternates
