"""One publisher's audio on its way to everybody who listens: numbers are given here, nothing is sent here.

A stream outlives no publisher; listeners belong to a name and wait across publishers. All of it runs on the loop's thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from streamcodec.audio import PcmFormat, float_to_pcm
from streamcodec.config import Start
from streamcodec.errors import InputError
from streamcodec.protocol import (
    Format,
    Gap,
    Message,
    Packet,
    PublishHello,
    StreamEnd,
    StreamStart,
    truncate_payload,
    unwrap_timestamp,
)
from streamcodec.protocol.messages import MAX_SEQ
from streamcodec.server.admission import Kind
from streamcodec.server.decoding import DecodedPacket, SharedDecoder
from streamcodec.server.history import History
from streamcodec.server.listeners import Listener
from streamcodec.server.metrics import PacketTrace, now_us
from streamcodec.server.sources import CodesSource, PcmSource, Source

if TYPE_CHECKING:
    from streamcodec.server.hub import Hub

__all__ = ["Failed", "Stream"]

Failed = Callable[[Exception], None]
Event = Literal["published", "joined"]


class Stream:
    """A live publisher's packets, numbered, with a short history, and its listeners' view of it."""

    def __init__(self, hub: Hub, hello: PublishHello, failed: Failed) -> None:
        worker, config = hub.worker, hub.worker.engine.config
        self.hub = hub
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
        self.ending = False
        self.ended = asyncio.Event()
        self._failed = failed
        self._config = config
        self._epoch_first_seq = 0
        self._history = History(hub.limits.history_s, config.frame_rate)
        self._members: set[Listener] = set()
        self._decoder: SharedDecoder | None = None
        self._last_received = 0
        self._progress = asyncio.Event()
        self._end_reason = "the publisher ended it"
        self._source: Source
        if hello.format == "codes":
            self._source = CodesSource(self, config, self.n_q)
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
                wait_s=hub.limits.encode_wait_s if hello.pace == "live" else None,
                dropped=self._count_dropped,
            )

    @property
    def decoding(self) -> bool:
        """Whether the server decodes it for listeners of PCM."""
        return self._decoder is not None

    @property
    def needs(self) -> list[tuple[Kind, int]]:
        """The engine's steps that each of its packets takes, and of how many frames."""
        encodes: list[tuple[Kind, int]] = [] if self.hello.format == "codes" else [("encode", self.packet_frames)]
        return [*encodes, ("decode", self.packet_frames)] if self.decoding else encodes

    # From the publisher's connection -------------------------------------------------------------------------------------------------

    def announce(self) -> None:
        """Tell all who wait under this name that it begins."""
        for listener in self.hub.listeners.get(self.hello.stream, set()):
            self.join(listener, "published")

    def feed(self, packet: Packet) -> None:
        """Take the publisher's next packet."""
        self.received += 1
        if self.ending:
            # The server is closing, and its publisher has not yet been told.
            self.dropped += 1
            return
        self._source.feed(packet, now_us())

    def publisher_gap(self, gap: Gap) -> None:
        """The publisher lost packets before it could send them."""
        if not self.ending:
            self._source.gap(gap.count, gap.reason)

    async def room(self) -> None:
        """Wait until a fast publisher may go on: neither encoder, decoder nor any listener is more than half its bound behind."""
        limits = self.hub.limits
        try:
            async with asyncio.timeout(limits.stall_s):
                while not self.ending and (
                    self._source.backlog_s > limits.fast_backlog_s
                    or (self._decoder is not None and self._decoder.backlog_s > limits.fast_backlog_s)
                    or any(m.lagging and not m.given_up for m in self._members)
                ):
                    self._progress.clear()
                    await self._progress.wait()
        except TimeoutError:
            for listener in self._members:
                listener.given_up = listener.lagging

    def end(self, reason: str) -> None:
        """Bring out all that was accepted, then end the stream for its listeners; `ended` is set when that is done."""
        if not self.ending:
            self.ending = True
            self._end_reason = reason
            self._source.end()
            self._progress.set()

    def _count_dropped(self, count: int) -> None:
        self.dropped += count
        self.hub.metrics.packets_dropped_overload += count
        self._waited(now_us(), self.hub.limits.encode_wait_s)

    def _count_undecoded(self, count: int) -> None:
        self.hub.metrics.packets_dropped_decoder += count

    def _waited(self, now: int, wait_s: float) -> None:
        # Whoever is fast queues up as much as it may, which says nothing about the machine.
        if self.hello.pace == "live":
            self.hub.admission.waited(now / 1e6, wait_s)

    # From the source -----------------------------------------------------------------------------------------------------------------

    def emit(self, payload: bytes, frames: int, timestamp: int, times: tuple[int, int, int]) -> None:
        packet = Packet(self.next_seq, self.epoch, timestamp, self.n_q, payload)
        self.next_seq += 1
        self.emitted += 1
        self.hub.metrics.packets_emitted += 1
        self._history.add(packet, frames)
        duration_s = frames / self._config.frame_rate
        cut: dict[int, Packet] = {self.n_q: packet}
        for listener in self._members:
            if listener.format == "codes":
                n_q = self._n_q_of(listener)
                if n_q not in cut:
                    shorter = truncate_payload(payload, self.n_q, n_q, self._config.bits_per_code)
                    cut[n_q] = Packet(packet.seq, packet.epoch, timestamp, n_q, shorter)
                listener.put(cut[n_q], duration_s)
        if self._decoder is not None:
            self._decoder.feed(packet, frames, now_us())
        received, started, done = times
        now = now_us()
        if self.hello.format != "codes" and received != self._last_received:
            # Of packets that came in one message the second waits for the first, whatever the machine is.
            self._last_received = received
            self._waited(now, (now - received) / 1e6)
        captured = unwrap_timestamp(timestamp, now) + round(duration_s * 1e6)
        self.hub.metrics.trace(PacketTrace(self.hello.stream, packet.seq, captured, received, started, done, now))
        self._progress.set()

    def discontinuity(self, missing: int, reason: str) -> None:
        self.gap(missing, reason)
        self.epoch = (self.epoch + 1) % 256
        self.hub.metrics.epochs += 1
        self._epoch_first_seq = self.next_seq
        self._history.clear()
        for listener in self._members:
            if listener.format == "codes":
                listener.put(self._start_message(listener, self.next_seq, self.next_seq, self.epoch, reason))
        if self._decoder is not None:
            # PCM listeners differ in format only, which each gets filled in when it is its turn.
            self._decoder.pass_on(self._start_message(None, self.next_seq, self.next_seq, self.epoch, reason))

    def gap(self, missing: int, reason: str) -> None:
        missing = min(missing, MAX_SEQ + 1 - self.next_seq)
        if missing:
            message = Gap(first_seq=self.next_seq, count=missing, reason=reason)
            self.next_seq += missing
            self._history.clear()
            self._broadcast(message)

    def failed(self, exc: Exception) -> None:
        self.ending = True
        self._end_reason = "the publisher's audio could not be used" if isinstance(exc, InputError) else "internal error"
        self._source.close()
        self._failed(exc)
        self.finished()

    def finished(self) -> None:
        message = StreamEnd(next_seq=self.next_seq, reason=self._end_reason)
        if self._decoder is not None:
            self._to_listeners(message, pcm=False)
            self._decoder.end(message)
        else:
            self._to_listeners(message)
            self._gone()

    # To the listeners ----------------------------------------------------------------------------------------------------------------

    def join(self, listener: Listener, reason: Event = "joined") -> None:
        """Begin the stream for a listener, with as much history as it wants and there is."""
        listener.progressed = self._progress.set
        self._members.add(listener)
        if listener.format == "codes":
            history = self._history.recent(listener.history_s)
            first = history[0][0].seq if history else self.next_seq
            listener.put(self._start_message(listener, first, self.next_seq, self.epoch, reason))
            n_q = self._n_q_of(listener)
            for packet, frames in history:
                payload = truncate_payload(packet.payload, packet.n_q, n_q, self._config.bits_per_code)
                listener.put(Packet(packet.seq, packet.epoch, packet.timestamp, n_q, payload), frames / self._config.frame_rate)
            return
        if self._decoder is None:
            self._decoder = self._open_decoder()
        at = self._decoder.next_seq
        listener.put(self._start_message(listener, at, at, self._decoder.epoch, reason))

    def left(self, listener: Listener) -> None:
        """A listener is gone; with the last one of PCM the decoder goes too."""
        self._members.discard(listener)
        self._progress.set()
        if self._decoder is not None and not self.ending and not any(m.format != "codes" for m in self._members):
            self._decoder.close()
            self._decoder = None

    def _open_decoder(self) -> SharedDecoder:
        history = self._history.recent()
        first = history[0][0].seq if history else self.next_seq
        decoder = SharedDecoder(
            self.hub.worker,
            n_q=self.n_q,
            start=self.start if first == self._epoch_first_seq else "primed",
            restart=self.start,
            next_seq=self.next_seq,
            epoch=self.epoch,
            wait_s=self.hub.limits.decode_wait_s,
            dropped=self._count_undecoded,
            sink=self._on_decoded,
            failed=self._failed,
        )
        for packet, frames in history:
            decoder.feed(packet, frames, now_us())
        return decoder

    def _on_decoded(self, item: DecodedPacket | Message) -> None:
        self._progress.set()
        pcm = [listener for listener in self._members if listener.format != "codes"]
        if isinstance(item, DecodedPacket):
            now = now_us()
            self._waited(now, now / 1e6 - item.due)
            packets: dict[Format, Packet] = {}
            for listener in pcm:
                if listener.format not in packets:
                    format: PcmFormat = "pcm_s16le" if listener.format == "pcm_s16le" else "pcm_f32le"
                    packets[format] = Packet(item.seq, item.epoch, item.timestamp, 0, float_to_pcm(item.samples, format))
                listener.put(packets[listener.format], item.samples.size / self._config.sampling_rate)
            return
        for listener in pcm:
            if isinstance(item, StreamStart):
                listener.put(self._start_message(listener, item.first_seq, item.live_seq, item.epoch, item.reason))
            else:
                listener.put(item)
        if isinstance(item, StreamEnd):
            self._gone()

    def _broadcast(self, message: Message) -> None:
        self._to_listeners(message, pcm=self._decoder is None)
        if self._decoder is not None:
            self._decoder.pass_on(message)

    def _to_listeners(self, message: Message, *, pcm: bool = True) -> None:
        for listener in self._members:
            if pcm or listener.format == "codes":
                listener.put(message)

    def _gone(self) -> None:
        self._members.clear()
        self._progress.set()
        if self.hub.streams.get(self.hello.stream) is self:
            del self.hub.streams[self.hello.stream]
        self.ended.set()

    def _start_message(self, listener: Listener | None, first: int, live: int, epoch: int, reason: str) -> StreamStart:
        n_q = self.n_q if listener is None else self._n_q_of(listener)
        return StreamStart(
            epoch=epoch,
            n_q=n_q,
            bandwidth=self._config.bandwidth_of(n_q),
            packet_frames=self.packet_frames,
            start=self.start if first == self._epoch_first_seq else "resumed",
            first_seq=first,
            live_seq=live,
            format="codes" if listener is None else listener.format,
            sample_rate=self._config.sampling_rate,
            reason=reason,
        )

    def _n_q_of(self, listener: Listener) -> int:
        return self.n_q if listener.n_q is None else min(self.n_q, listener.n_q)
