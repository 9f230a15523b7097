"""A publisher's connection: its messages go to its stream, and the stream's counts come back to it."""

from __future__ import annotations

import asyncio

from websockets.exceptions import ConnectionClosed

from streamcodec.errors import RemoteProtocolError, WireCode
from streamcodec.protocol import End, Ended, Gap, Packet, PublishHello
from streamcodec.server.handshake import Handshake
from streamcodec.server.limits import Limits
from streamcodec.server.peer import PeerConnection, broke
from streamcodec.server.registry import Registry
from streamcodec.server.stream import Stream

__all__ = ["serve_publisher"]


async def serve_publisher(peer: PeerConnection, hello: PublishHello, registry: Registry, handshake: Handshake) -> None:
    """Open the stream, or go on with the one that `hello` resumes, and feed it until the publisher ends it or is gone."""
    stream = await registry.open(hello)
    stream.attach(peer, peer.fail, lambda: _taken_over(peer))
    lost = False
    try:
        peer.read_packets()
        peer.accept(handshake.welcome(hello, stream))
        if hello.resume is None:
            registry.metrics.publishers_accepted += 1
            registry.announce(stream)
            what = f"{hello.format}, {stream.info.bandwidth:g} kbps, {stream.info.packet_frames} frames a packet"
            peer.log.info("%s publishes %s: %s", peer.name, hello.stream, what)
        else:
            registry.metrics.publishers_resumed += 1
            peer.log.info("%s resumes publishing %s", peer.name, hello.stream)
        await peer.flush()
        watch = _SilenceWatch(peer, registry.limits)
        try:
            await _read(peer, hello, stream, watch)
        finally:
            watch.stop()
    except ConnectionClosed as exc:
        lost = broke(exc)
        raise
    finally:
        stream.detach(peer, resume_s=registry.limits.resume_s if lost or peer.resumable else 0.0)
        totals, how = stream.totals, "was lost while publishing" if lost else "stopped publishing"
        peer.log.info("%s %s %s: %d packets came, %d were dropped", peer.name, how, hello.stream, totals.received, totals.dropped)


async def _read(peer: PeerConnection, hello: PublishHello, stream: Stream, watch: _SilenceWatch) -> None:
    drops = _DropReports(peer, stream)
    late_until = 0 if hello.resume is None else hello.resume.next_seq

    def take(packet: Packet) -> None:
        stream.feed(packet)
        if drops.report():
            peer.write()

    async for message in peer.messages():
        if isinstance(message, Packet):
            stream.feed(message)
            if hello.pace == "fast":
                await stream.back_pressure.room()
            elif message.seq < late_until:
                await stream.back_pressure.caught_up()
            else:  # it is never held back from now on
                peer.on_packet(take)
        elif isinstance(message, Gap):
            stream.publisher_gap(message)
        elif isinstance(message, End):
            stream.publisher_end()
            watch.stop()
            if not await peer.read_until(stream.ended):
                return
            drops.report()
            totals = stream.totals
            peer.session.send(Ended(received=totals.received, emitted=totals.emitted, dropped=totals.dropped))
            await peer.leave()
            return
        if drops.report():
            await peer.flush()


class _SilenceWatch:
    """Ends the connection of a publisher that sends neither packets nor gaps: it would hold its name and its place for ever."""

    def __init__(self, peer: PeerConnection, limits: Limits) -> None:
        self._peer = peer
        self._limits = limits
        self._wait(limits.first_packet_s)

    def stop(self) -> None:
        """Watch no longer."""
        self._timer.cancel()

    def _wait(self, seconds: float) -> None:
        self._seen = self._peer.session.next_seq
        self._timer = asyncio.get_running_loop().call_later(seconds, self._look, seconds)

    def _look(self, seconds: float) -> None:
        if self._peer.session.next_seq != self._seen:
            self._wait(self._limits.silent_s)
        else:
            self._peer.fail(RemoteProtocolError(WireCode.TIMEOUT, f"no packet came within {seconds:g} s"))


class _DropReports:
    """Tells a publisher which of its packets were dropped, from now on."""

    def __init__(self, peer: PeerConnection, stream: Stream) -> None:
        self._peer = peer
        self._stream = stream
        self._reported = stream.totals.dropped

    def report(self) -> bool:
        """Name the packets that were dropped since the last report, the newest ones sent, in a gap; returns whether there are any."""
        session, count = self._peer.session, self._stream.totals.dropped - self._reported
        if not count:
            return False
        reason = "closing" if self._stream.ending else "overload"
        session.send(Gap(first_seq=session.next_seq - count, count=count, reason=reason))
        self._reported += count
        return True


def _taken_over(peer: PeerConnection) -> None:
    peer.fail(RemoteProtocolError(WireCode.TAKEN_OVER, "another connection has resumed this session: do not resume it here"))
