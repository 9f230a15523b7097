"""One publisher's audio on its way to everybody who listens: numbers are given here, nothing is sent here.

A stream outlives its publisher's connection for a while, and nothing else of its publisher; listeners belong to a name and wait across
publishers. All of it runs on the loop's thread.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING

from streamcodec.config import Start
from streamcodec.errors import InputError
from streamcodec.protocol import Gap, Packet, PublishHello, StreamEnd, now_us, unwrap_timestamp
from streamcodec.protocol.messages import MAX_SEQ
from streamcodec.server.capacity.load_model import Kind
from streamcodec.server.fanout.fan_out import FanOut
from streamcodec.server.ingest.source import CodesSource, PcmSource, Source
from streamcodec.server.metrics import PacketTrace

if TYPE_CHECKING:
    from streamcodec.server.registry import Registry

__all__ = ["Failed", "Stream"]

Failed = Callable[[Exception], None]


class Stream:
    """A live publisher's packets, numbered. `secret` is what the publisher proves with that it is the same when it comes again.

    `n_q` is the most codebooks that a packet has; a quiet one has fewer. `expected_seq` and `expected_epoch` are the publisher's own next
    ones. `complete` says that the publisher itself has ended it: whoever comes again with its `secret` misses the answer alone.
    """

    def __init__(self, registry: Registry, hello: PublishHello) -> None:
        worker, config = registry.worker, registry.worker.engine.config
        self.registry = registry
        self.hello = hello
        self.n_q = config.n_q_for(hello.bandwidth)
        self.bandwidth = config.bandwidth_of(self.n_q)
        self.packet_frames = hello.packet_frames
        self.start: Start = hello.start or worker.engine.default_live_start
        self.epoch = 0
        self.next_seq = 0
        self.emitted = 0
        self.received = 0
        self.dropped = 0
        self.secret = secrets.token_urlsafe(18)
        self.expected_seq = 0
        self.expected_epoch = 0
        self.ending = False
        self.complete = False
        self.ended = asyncio.Event()
        self._config = config
        self._last_received = 0
        self._progress = asyncio.Event()
        self._driver: object | None = None
        self._failed: Failed = lambda _: None
        self._evict: Callable[[], None] = lambda: None
        self._patience: asyncio.TimerHandle | None = None
        self.fan_out = FanOut(self)
        self._end_reason = "the publisher ended it"
        self._source: Source
        if hello.format == "codes":
            self._source = CodesSource(self, config)
        else:
            assert hello.sample_rate is not None and hello.channels is not None
            self._source = PcmSource(
                self,
                worker,
                format=hello.format,
                rate=hello.sample_rate,
                channels=hello.channels,
                n_q=self.n_q,
                packet_frames=self.packet_frames,
                start=self.start,
                wait_s=registry.limits.encode_wait_s if hello.pace == "live" else None,
                dropped=self._count_dropped,
                silence_db=hello.silence_db,
            )

    @property
    def decoding(self) -> bool:
        """Whether the server decodes it for listeners of PCM."""
        return self.fan_out.decoder is not None

    @property
    def needs(self) -> list[tuple[Kind, int]]:
        """The engine's steps that each of its packets takes, and of how many frames."""
        encodes: list[tuple[Kind, int]] = [] if self.hello.format == "codes" else [("encode", self.packet_frames)]
        return [*encodes, ("decode", self.packet_frames)] if self.decoding else encodes

    # From the publisher's connection -------------------------------------------------------------------------------------------------

    def announce(self) -> None:
        """Tell all who wait under this name that it begins."""
        for listener in self.registry.listeners.get(self.hello.stream, set()):
            self.fan_out.join(listener, "published")

    def attach(self, driver: object, failed: Failed, evict: Callable[[], None]) -> None:
        """`driver` feeds it from now on: `failed` is told when the stream breaks, `evict` is called when another takes over."""
        self._evict()
        self._driver, self._failed, self._evict = driver, failed, evict
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        self.fan_out.be_patient()

    def detach(self, driver: object, *, lost: bool) -> None:
        """`driver` is gone: the stream ends, after a while where its connection was `lost` and it may come again."""
        if self._driver is not driver:
            return
        self._driver, self._failed, self._evict = None, lambda _: None, lambda: None
        resume_s = self.registry.limits.resume_s
        if lost and resume_s and not self.ending:
            self._patience = asyncio.get_running_loop().call_later(resume_s, self.end, "the publisher vanished")
        else:
            self.end("the publisher vanished")

    def is_session(self, secret: str) -> bool:
        """Whether its publisher may go on with `secret`, or hear again how it ended."""
        return (self.complete or not self.ending) and hmac.compare_digest(secret.encode(), self.secret.encode())

    def feed(self, packet: Packet) -> None:
        """Take the publisher's next packet."""
        self.received += 1
        self.registry.metrics.packets_received += 1
        self.expected_seq, self.expected_epoch = packet.seq + 1, packet.epoch
        if self.ending:
            # The server is closing and its publisher has not yet been told, or that one goes on behind its own end.
            self.dropped += 1
            self.registry.metrics.packets_dropped_closing += 1
            return
        self._source.feed(packet, now_us())

    def publisher_gap(self, gap: Gap) -> None:
        """The publisher lost packets before it could send them."""
        self.expected_seq = gap.next_seq
        if not self.ending:
            self._source.gap(gap.count, gap.reason)

    async def room(self) -> None:
        """Wait until a fast publisher may go on: neither encoder, decoder nor any listener is more than half its bound behind.

        For listeners it waits `stall_s` at most; for the machine as long as it takes: nothing is dropped there, so nothing else bounds it.
        """
        members = self.fan_out.members
        try:
            async with asyncio.timeout(self.registry.limits.stall_s):
                while not self.ending and (self._machine_is_behind or any(m.lagging and not m.given_up for m in members)):
                    self._progress.clear()
                    await self._progress.wait()
        except TimeoutError:
            for listener in members:
                listener.given_up = listener.lagging
            await self.caught_up()

    async def caught_up(self) -> None:
        """Wait until neither encoder nor decoder is far behind: so does a live publisher with what it could not send while it was away."""
        while not self.ending and self._machine_is_behind:
            self._progress.clear()
            await self._progress.wait()

    @property
    def _machine_is_behind(self) -> bool:
        limits, decoder = self.registry.limits, self.fan_out.decoder
        return self._source.backlog_s > limits.fast_backlog_s or (decoder is not None and decoder.backlog_s > limits.fast_backlog_s)

    def end(self, reason: str) -> None:
        """Bring out all that was accepted, then end the stream for its listeners; `ended` is set when that is done."""
        if not self.ending:
            self.ending = True
            self._end_reason = reason
            if self._patience is not None:
                self._patience.cancel()
            self._source.end()
            self._progress.set()

    def publisher_end(self) -> None:
        """The publisher has said that this is all; it may say so again behind a connection that was lost."""
        self.complete = True
        self.end("the publisher ended it")

    def _count_dropped(self, count: int) -> None:
        self.dropped += count
        self.registry.metrics.packets_dropped_overload += count
        self.waited(now_us(), self.registry.limits.encode_wait_s)

    def count_undecoded(self, count: int) -> None:
        """So many packets were left out by the decoder."""
        self.registry.metrics.packets_dropped_decoder += count

    def waited(self, now: int, wait_s: float) -> None:
        """A packet has waited for the machine; whoever is fast queues up as much as it may, which says nothing about it."""
        if self.hello.pace == "live":
            self.registry.admission.waited(now / 1e6, wait_s)

    def broke(self, exc: Exception) -> None:
        """Tell the publisher, if there is one, why its stream cannot go on."""
        self._failed(exc)

    def progressed(self) -> None:
        """Something waits no more."""
        self._progress.set()

    # From the source -----------------------------------------------------------------------------------------------------------------

    def emit(self, payload: bytes, n_q: int, frames: int, timestamp: int, times: tuple[int, int, int]) -> None:
        packet = Packet(self.next_seq, self.epoch, timestamp, n_q, payload)
        self.next_seq += 1
        self.emitted += 1
        self.registry.metrics.packets_emitted += 1
        self.registry.metrics.packets_quiet += n_q < self.n_q
        self.fan_out.packet(packet, frames)
        duration_s = frames / self._config.frame_rate
        received, started, done = times
        now = now_us()
        if self.hello.format != "codes" and received != self._last_received:
            # Of packets that came in one message the second waits for the first, whatever the machine is.
            self._last_received = received
            self.waited(now, (now - received) / 1e6)
        captured = unwrap_timestamp(timestamp, now) + round(duration_s * 1e6)
        self.registry.metrics.trace(PacketTrace(self.hello.stream, packet.seq, captured, received, started, done, now))
        self._progress.set()

    def discontinuity(self, missing: int, reason: str) -> None:
        self.gap(missing, reason)
        self.epoch = (self.epoch + 1) % 256
        self.registry.metrics.epochs += 1
        self.fan_out.epoch(reason)

    def gap(self, missing: int, reason: str) -> None:
        missing = min(missing, MAX_SEQ + 1 - self.next_seq)
        if missing:
            message = Gap(first_seq=self.next_seq, count=missing, reason=reason)
            self.next_seq += missing
            self.fan_out.gap(message)

    def failed(self, exc: Exception) -> None:
        self.ending, self.complete = True, False
        self._end_reason = "the publisher's audio could not be used" if isinstance(exc, InputError) else "internal error"
        self._source.close()
        self.broke(exc)
        self.finished()

    def finished(self) -> None:
        self.fan_out.end(StreamEnd(next_seq=self.next_seq, reason=self._end_reason), self._gone)

    def _gone(self) -> None:
        self.fan_out.close()
        self._progress.set()
        if self.registry.streams.get(self.hello.stream) is self:
            del self.registry.streams[self.hello.stream]
            self.registry.admission.left(self.hello.stream)
            self.registry.remember(self)
        self.ended.set()
