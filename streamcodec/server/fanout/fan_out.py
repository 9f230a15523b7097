"""All who listen to one stream, and what each of them gets of it: history, lower bandwidths, PCM that is decoded once for all.

An fan_out outlives its stream by the time in which a listener that lost its connection may still fetch what it missed.
"""

from __future__ import annotations

import asyncio
import math
import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from streamcodec.audio import PcmFormat, float_to_pcm
from streamcodec.protocol import (
    Format,
    Gap,
    Message,
    Packet,
    Resume,
    StreamEnd,
    StreamStart,
    is_quiet,
    now_us,
    truncate_payload,
)
from streamcodec.server.fanout.decode import DecodedPacket, SharedDecoder
from streamcodec.server.fanout.replay import ReplayBuffer
from streamcodec.server.fanout.subscriber import Subscriber

if TYPE_CHECKING:
    from streamcodec.server.stream import Stream

__all__ = ["Event", "FanOut"]

Event = Literal["published", "joined"]


class FanOut:
    """The listeners of `stream`; `session` is what they know it by."""

    def __init__(self, stream: Stream) -> None:
        registry, self._config = stream.registry, stream.registry.worker.engine.config
        self.session = secrets.token_hex(8)
        self.members: set[Subscriber] = set()
        self.decoder: SharedDecoder | None = None
        self._stream = stream
        self._limits = registry.limits
        keep_s = max(registry.limits.history_s, registry.limits.resume_s)
        self._history: ReplayBuffer[Packet] = ReplayBuffer(keep_s, self._config.frame_rate)
        self._decoded: ReplayBuffer[DecodedPacket] = ReplayBuffer(registry.limits.resume_s, self._config.frame_rate)
        self._first_seq = 0
        self._end: StreamEnd | None = None
        self._gone: Callable[[], None] = lambda: None
        self._closing: asyncio.TimerHandle | None = None
        self._kept_until = -math.inf  # on the loop's clock: a listener of PCM that was lost may come for the decoder

    # From the stream -----------------------------------------------------------------------------------------------------------------

    def packet(self, packet: Packet, frames: int) -> None:
        """A packet of codes for everybody: cut for some, decoded for others."""
        self._history.add(packet, frames)
        duration_s = frames / self._config.frame_rate
        # A shorter one is the last of its epoch: how long that is shall not get lost.
        quiet = is_quiet(packet.n_q, self._stream.n_q, self._config.bits_per_code) and frames == self._stream.packet_frames
        cut: dict[int, Packet] = {packet.n_q: packet}
        for listener in self.members:
            if listener.format == "codes":
                listener.put(self._cut(packet, listener.n_q, cut), duration_s, quiet=quiet)
        if self.decoder is not None:
            self.decoder.feed(packet, frames, now_us())

    def gap(self, gap: Gap) -> None:
        """Packets of the stream will never come."""
        self._history.gap(gap)
        self._to_codes(gap)
        self._behind_decoder(gap)

    def epoch(self, reason: str) -> None:
        """The stream's encoder has started afresh."""
        stream = self._stream
        self._first_seq = stream.next_seq
        self._history.clear()
        for listener in self.members:
            if listener.format == "codes":
                listener.put(self._start(listener, stream.next_seq, stream.next_seq, stream.epoch, reason))
        if self.decoder is not None:
            # PCM listeners differ in format only, which each gets filled in when it is its turn.
            self.decoder.pass_on(self._start(None, stream.next_seq, stream.next_seq, stream.epoch, reason))

    def end(self, message: StreamEnd, gone: Callable[[], None]) -> None:
        """The stream is over; calls `gone` when everybody has all of it."""
        self._end, self._gone = message, gone
        self._to_codes(message)
        if self.decoder is not None:
            self.decoder.end(message)
        else:
            self._behind_decoder(message)
            gone()

    def be_patient(self) -> None:
        """A burst is coming that was held up on its way here."""
        for listener in self.members:
            listener.be_patient()

    # Coming and going ----------------------------------------------------------------------------------------------------------------

    def join(self, listener: Subscriber, reason: Event = "joined") -> None:
        """Begin the stream for a listener, with as much history as it wants and there is."""
        self._add(listener)
        stream = self._stream
        if listener.format == "codes":
            history = self._history.recent(listener.history_s)
            first = _first(history, stream.next_seq)
            listener.put(self._start(listener, first, stream.next_seq, stream.epoch, reason))
            self._put_past(listener, history)
            return
        if self.decoder is None:
            self.decoder = self._open_decoder()
        at = self.decoder.next_seq
        listener.put(self._start(listener, at, at, self.decoder.epoch, reason, begins=self.decoder.first_seq))

    def resume(self, listener: Subscriber, asked: Resume) -> bool:
        """Go on for a listener behind what it has received, without a break; False where that cannot be done, and then nothing is."""
        stream, coded = self._stream, listener.format == "codes"
        missed: list[tuple[Packet | Gap, int]] | list[tuple[DecodedPacket | Gap, int]] | None
        if coded:
            epoch, missed = stream.epoch, self._history.since(asked.next_seq, stream.next_seq)
        elif self.decoder is not None:
            epoch, missed = self.decoder.epoch, self._decoded.since(asked.next_seq, self.decoder.next_seq)
        else:
            return False
        if missed is None or (asked.session, asked.epoch) != (self.session, epoch):
            return False
        self._add(listener)
        listener.be_patient()
        start = self._start(listener, asked.next_seq, asked.next_seq, epoch, "resumed")
        listener.put(replace(start, start="continued"))
        self._put_past(listener, missed)
        if self._end is not None and (coded or self.decoder is None or self.decoder.next_seq == self._end.next_seq):
            listener.put(self._end)
            self.members.discard(listener)
        return True

    def _put_past(self, listener: Subscriber, past: Sequence[tuple[Packet | DecodedPacket | Gap, int]]) -> None:
        for entry, frames in past:
            if isinstance(entry, DecodedPacket):
                listener.put(_as_pcm(entry, listener.format), frames / self._config.frame_rate, past=True)
            elif isinstance(entry, Packet):
                listener.put(self._cut(entry, listener.n_q), frames / self._config.frame_rate, past=True)
            else:
                listener.put(entry)

    def left(self, listener: Subscriber, *, lost: bool = False) -> None:
        """A listener is gone; with the last one of PCM the decoder goes too, not before any whose connection was `lost` may resume."""
        self.members.discard(listener)
        if listener.format == "codes" or self.decoder is None or self._end is not None:
            return
        loop = asyncio.get_running_loop()
        if lost:
            self._kept_until = loop.time() + self._limits.resume_s
        if any(m.format != "codes" for m in self.members):
            return
        if self._kept_until > loop.time():
            self._closing = loop.call_at(self._kept_until, self._close_unheard)
        else:
            self._close_unheard()

    def _close_unheard(self) -> None:
        if self.decoder is not None and self._end is None and not any(m.format != "codes" for m in self.members):
            self.decoder.close()
            self.decoder = None
            self._stream.registry.admission.left(self._stream.hello.stream, "decode")
            self._decoded.clear()

    def close(self) -> None:
        """Everybody has all of the stream."""
        self.members.clear()
        if self._closing is not None:
            self._closing.cancel()

    def _add(self, listener: Subscriber) -> None:
        listener.progressed = self._stream.progressed
        listener.join(self._ladder(listener), live=self._stream.hello.pace == "live")
        self.members.add(listener)
        if self._closing is not None and listener.format != "codes":
            self._closing.cancel()

    # Decoding ------------------------------------------------------------------------------------------------------------------------

    def _open_decoder(self) -> SharedDecoder:
        stream = self._stream
        history = self._history.recent(self._limits.history_s)
        first = _first(history, stream.next_seq)
        decoder = SharedDecoder(
            stream.registry.worker,
            n_q=stream.n_q,
            start=stream.start if first == self._first_seq else "primed",
            restart=stream.start,
            first_seq=self._first_seq,
            next_seq=stream.next_seq,
            epoch=stream.epoch,
            wait_s=self._limits.decode_wait_s if stream.hello.pace == "live" else None,
            dropped=stream.count_undecoded,
            sink=self._on_decoded,
            failed=stream.broke,
        )
        for entry, frames in history:
            if isinstance(entry, Packet):
                decoder.feed(entry, frames, now_us())
        return decoder

    def _on_decoded(self, item: DecodedPacket | Message) -> None:
        self._stream.progressed()
        pcm = [listener for listener in self.members if listener.format != "codes"]
        if isinstance(item, DecodedPacket):
            now = now_us()
            self._stream.waited(now, now / 1e6 - item.due)
            self._decoded.add(item, item.samples.size // self._config.hop_length)
            packets: dict[Format, Packet] = {}
            for listener in pcm:
                if listener.format not in packets:
                    packets[listener.format] = _as_pcm(item, listener.format)
                listener.put(packets[listener.format], item.samples.size / self._config.sampling_rate)
            return
        if isinstance(item, StreamStart):
            self._decoded.clear()
        elif isinstance(item, Gap):
            self._decoded.gap(item)
        for listener in pcm:
            if isinstance(item, StreamStart):
                # As it was made: the stream may have begun other epochs meanwhile.
                listener.put(replace(item, format=listener.format))
            else:
                listener.put(item)
        if isinstance(item, StreamEnd):
            self._gone()

    # Messages ------------------------------------------------------------------------------------------------------------------------

    def _to_codes(self, message: Message) -> None:
        for listener in self.members:
            if listener.format == "codes":
                listener.put(message)

    def _behind_decoder(self, message: Message) -> None:
        if self.decoder is not None:
            self.decoder.pass_on(message)
            return
        for listener in self.members:
            if listener.format != "codes":
                listener.put(message)

    def _start(
        self, listener: Subscriber | None, first: int, live: int, epoch: int, reason: str, *, begins: int | None = None
    ) -> StreamStart:
        """A start at number `first` of an epoch that `begins` at another, the newest one's first number by default."""
        stream = self._stream
        begins = self._first_seq if begins is None else begins
        n_q = stream.n_q if listener is None or listener.format != "codes" else self._ladder(listener)[-1]
        return StreamStart(
            epoch=epoch,
            n_q=n_q,
            bandwidth=self._config.bandwidth_of(n_q),
            packet_frames=stream.packet_frames,
            start=stream.start if first == begins else "resumed",
            first_seq=first,
            live_seq=live,
            format="codes" if listener is None else listener.format,
            sample_rate=self._config.sampling_rate,
            session=self.session,
            reason=reason,
        )

    def _ladder(self, listener: Subscriber) -> list[int]:
        """The numbers of codebooks that a listener may get of this stream, fewest first."""
        if listener.format != "codes":
            return [0]
        most = self._stream.n_q if listener.max_n_q is None else min(self._stream.n_q, listener.max_n_q)
        # Codebooks go in pairs: a packet is cut between them.
        rungs = {self._config.bandwidth_to_n_q(bandwidth) for bandwidth in self._config.target_bandwidths}
        return [*sorted(rung for rung in rungs if rung < most and rung % 2 == 0), most]

    def _cut(self, packet: Packet, n_q: int, known: dict[int, Packet] | None = None) -> Packet:
        n_q = min(n_q, packet.n_q)
        known = {packet.n_q: packet} if known is None else known
        if n_q not in known:
            payload = truncate_payload(packet.payload, packet.n_q, n_q, self._config.bits_per_code)
            known[n_q] = Packet(packet.seq, packet.epoch, packet.timestamp, n_q, payload)
        return known[n_q]


def _first(history: Sequence[tuple[Packet | Gap, int]], next_seq: int) -> int:
    """The number with which a history begins."""
    first = history[0][0] if history else None
    return first.seq if isinstance(first, Packet) else next_seq


def _as_pcm(item: DecodedPacket, format: Format) -> Packet:
    kind: PcmFormat = "pcm_s16le" if format == "pcm_s16le" else "pcm_f32le"
    return Packet(item.seq, item.epoch, item.timestamp, 0, float_to_pcm(item.samples, kind))
