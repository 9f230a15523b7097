"""The subscribers of PCM: the stream is decoded once for all of them, as long as there is one."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable
from dataclasses import replace

from streamcodec.audio import PcmFormat, float_to_pcm
from streamcodec.config import CodecConfig
from streamcodec.protocol import Format, Gap, Message, Packet, StreamEnd, StreamStart, now_us
from streamcodec.server.fanout.decode import DecodedPacket, SharedDecoder
from streamcodec.server.fanout.events import StreamEvents
from streamcodec.server.fanout.replay import ReplayBuffer
from streamcodec.server.fanout.subscriber import Subscriber

__all__ = ["PcmBranch"]


class PcmBranch:
    """Passes on what the decoder gives, and remembers the packets of the last `resume_s`.

    `decoder` is None where nobody listens to PCM. A subscriber whose connection was lost keeps it open for `resume_s`.
    """

    def __init__(self, config: CodecConfig, resume_s: float, events: StreamEvents) -> None:
        self.subscribers: set[Subscriber] = set()
        self.decoder: SharedDecoder | None = None
        self.history: ReplayBuffer[DecodedPacket] = ReplayBuffer(resume_s, config.frame_rate, self._frames)
        self._config = config
        self._resume_s = resume_s
        self._events = events
        self._finished: Callable[[], None] = lambda: None
        self._ended = False
        self._closing: asyncio.TimerHandle | None = None
        self._keep_until = -math.inf  # on the loop's clock

    def packet(self, packet: Packet, frames: int) -> None:
        """The stream's next packet of codes."""
        if self.decoder is not None:
            self.decoder.feed(packet, frames, now_us())

    def pass_on(self, message: Message) -> None:
        """A message for every subscriber, behind all that comes before it."""
        if self.decoder is not None:
            self.decoder.pass_on(message)
        else:
            self._put(message)

    def end(self, message: StreamEnd, finished: Callable[[], None]) -> None:
        """The stream is over; calls `finished` when all of it was decoded."""
        self._ended = True
        if self.decoder is not None:
            self._finished = finished
            self.decoder.end(message)
        else:
            self._put(message)
            finished()

    def add(self, subscriber: Subscriber) -> None:
        """Somebody listens from now on."""
        self.subscribers.add(subscriber)
        if self._closing is not None:
            self._closing.cancel()

    def remove(self, subscriber: Subscriber, *, lost: bool) -> None:
        """Somebody listens no longer. With the last one the decoder goes; a subscriber whose connection was `lost` may still resume."""
        self.subscribers.discard(subscriber)
        if self.decoder is None or self._ended:
            return
        loop = asyncio.get_running_loop()
        if lost:
            self._keep_until = loop.time() + self._resume_s
        if self.subscribers:
            return
        if self._keep_until > loop.time():
            self._closing = loop.call_at(self._keep_until, self._close_unused)
        else:
            self._close_unused()

    def report_to(self, events: StreamEvents) -> None:
        """Report to these from now on."""
        self._events = events

    def recent(self, seconds: float, next_seq: int) -> tuple[DecodedPacket | Gap, ...]:
        """The newest packets, with the gaps between them, that make up `seconds` or a little more, without what is behind `next_seq`."""
        taken: list[DecodedPacket | Gap] = []
        for entry in reversed(self.history.entries):
            if seconds <= 0:
                break
            if isinstance(entry, Gap):
                if entry.next_seq <= next_seq:
                    taken.append(entry)
            elif entry.seq < next_seq:
                taken.append(entry)
                seconds -= self._duration_s(entry)
        return tuple(reversed(taken))

    def restore(self, decoder: SharedDecoder, history: Iterable[DecodedPacket | Gap]) -> None:
        """Go on with a decoder of another server; it is kept for `resume_s`, in which its subscribers may come here."""
        loop = asyncio.get_running_loop()
        self.decoder = decoder
        self.history.restore(history)
        self._keep_until = loop.time() + self._resume_s
        if not self.subscribers:
            self._closing = loop.call_at(self._keep_until, self._close_unused)

    def close(self) -> None:
        """Everybody has all of the stream."""
        self.subscribers.clear()
        if self._closing is not None:
            self._closing.cancel()

    def replay(self, subscriber: Subscriber, entries: list[DecodedPacket | Gap]) -> None:
        """Give a subscriber what was sent before it came."""
        for entry in entries:
            if isinstance(entry, Gap):
                subscriber.put(entry)
            else:
                subscriber.put(self._as_pcm(entry, subscriber.format), self._duration_s(entry), past=True)

    def deliver(self, item: DecodedPacket | Message) -> None:
        """The decoder's next packet, or a message that was passed on behind the packets before it."""
        self._events.progressed()
        if isinstance(item, DecodedPacket):
            now = now_us()
            self._events.waited(now, now / 1e6 - item.due)
            self._put_packet(item)
            return
        if isinstance(item, StreamStart):
            self.history.clear()
        elif isinstance(item, Gap):
            self.history.gap(item)
        self._put(item)
        if isinstance(item, StreamEnd):
            self._finished()

    def _put_packet(self, item: DecodedPacket) -> None:
        self.history.add(item)
        packets: dict[Format, Packet] = {}
        for subscriber in self.subscribers:
            if subscriber.format not in packets:
                packets[subscriber.format] = self._as_pcm(item, subscriber.format)
            packet, duration_s = packets[subscriber.format], self._duration_s(item)
            if not subscriber.relay(packet, duration_s):
                subscriber.put(packet, duration_s)

    def _put(self, message: Message) -> None:
        for subscriber in self.subscribers:
            # A start is as it was made, but for the format: the stream may have begun other epochs since then.
            subscriber.put(replace(message, format=subscriber.format) if isinstance(message, StreamStart) else message)

    def _close_unused(self) -> None:
        if self.decoder is not None and not self._ended and not self.subscribers:
            self.decoder.close()
            self.decoder = None
            self.history.clear()
            self._events.decoder_closed()

    def _frames(self, item: DecodedPacket) -> int:
        return int(item.samples.shape[-1] // self._config.hop_length)

    def _duration_s(self, item: DecodedPacket) -> float:
        return float(item.samples.shape[-1] / self._config.sampling_rate)

    def _as_pcm(self, item: DecodedPacket, format: Format) -> Packet:
        kind: PcmFormat = "pcm_s16le" if format == "pcm_s16le" else "pcm_f32le"
        return Packet(item.seq, item.epoch, item.timestamp, 0, float_to_pcm(item.samples, kind, self._config.audio_channels))
