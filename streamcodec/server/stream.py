"""One publisher's audio on its way to all that listen to it: packets get their numbers here, nothing is sent here.

A stream outlives its publisher's connection for a while. Listeners belong to a name, not to a stream: they wait from one publisher to the
next. Everything here runs on the loop's thread.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

from streamcodec.errors import InputError
from streamcodec.protocol import SILENCE, Gap, Packet, PublishHello, StreamEnd, now_us
from streamcodec.scheduler.worker import Worker
from streamcodec.server.back_pressure import BackPressure
from streamcodec.server.capacity.load_model import Kind
from streamcodec.server.fanout.entry import FanOutEntry
from streamcodec.server.fanout.fan_out import FanOut, StreamEvents
from streamcodec.server.info import Numbering, StreamInfo
from streamcodec.server.ingest.pcm import PcmSource
from streamcodec.server.ingest.relay import CodesSource
from streamcodec.server.ingest.source import IngestSource
from streamcodec.server.lease import Failed, PublisherLease
from streamcodec.server.limits import Limits
from streamcodec.server.metrics import Metrics
from streamcodec.server.totals import StreamTotals

__all__ = ["EntryWrapper", "Stream", "StreamOwner"]


EntryWrapper = Callable[[StreamInfo, FanOut], FanOutEntry]


class StreamOwner(Protocol):
    """What a stream reports to."""

    def packet_waited(self, now_s: float, wait_s: float) -> None:
        """A live packet that came out now has waited for the machine; both are seconds on the server's clock."""

    def decoder_closed(self, stream: Stream) -> None:
        """The stream is not decoded any longer."""

    def stream_lost(self, stream: Stream, packets: int, reason: str) -> None:
        """So many packets of the stream will never come."""

    def stream_gone(self, stream: Stream) -> None:
        """All of the stream has gone out."""


class Stream:
    """A publisher's packets, numbered.

    `since` is when it began (s since 1970). `complete` says that the publisher itself has ended the stream: if it connects again with its
    secret, only the answer was lost. `ended` is set when all of the stream has gone out and `owner` knows. `wrapped` may put an entry of
    its own before its fan-out.
    """

    def __init__(
        self, hello: PublishHello, worker: Worker, limits: Limits, metrics: Metrics, owner: StreamOwner, wrapped: EntryWrapper | None = None
    ) -> None:
        self.hello = hello
        self.info = StreamInfo.of(hello, worker.engine)
        self.numbering = Numbering()
        self.totals = StreamTotals(self.info, metrics, owner.packet_waited)
        self.lease = PublisherLease()
        self.back_pressure = BackPressure(
            limits, lambda: max(self._source.backlog_s, self.fan_out.backlog_s), lambda: self.fan_out.subscribers
        )
        events = StreamEvents(
            progressed=self.back_pressure.progressed,
            waited=self.totals.wait,
            undecoded=self.totals.drop_undecoded,
            decoder_closed=lambda: owner.decoder_closed(self),
            broke=self.lease.fail,
        )
        self.fan_out = FanOut(self.info, self.numbering, events, worker, limits)
        self._entry: FanOutEntry = self.fan_out if wrapped is None else wrapped(self.info, self.fan_out)
        self.complete = False
        self.since = time.time()
        self.ended = asyncio.Event()
        self._frame_rate = worker.engine.config.frame_rate
        self._owner = owner
        self._end_reason: str | None = None
        self._source = self._open_source(worker, limits)

    def _open_source(self, worker: Worker, limits: Limits) -> IngestSource:
        hello, info = self.hello, self.info
        if hello.format == "codes":
            return CodesSource(self, worker.engine.config)
        assert hello.sample_rate is not None and hello.channels is not None
        return PcmSource(
            self,
            worker,
            format=hello.format,
            rate=hello.sample_rate,
            channels=hello.channels,
            n_q=info.n_q,
            packet_frames=info.packet_frames,
            start=info.start,
            wait_s=limits.encode_wait_s if info.live else None,
            silence_db=hello.silence_db,
        )

    @property
    def decoding(self) -> bool:
        """Whether the server decodes it for listeners of PCM."""
        return self.fan_out.pcm.decoder is not None

    @property
    def recorded(self) -> bool:
        """Whether the server records it now."""
        return self._entry.recorded

    def encode_waited_s(self, now: int) -> float:
        """How long the oldest of its packets that waits for the encoder has waited, at `now` (us)."""
        return self._source.waited_s(now)

    @property
    def needs(self) -> list[tuple[Kind, int]]:
        """The steps of the engine that each of its packets takes, and of how many frames."""
        encodes: list[tuple[Kind, int]] = [] if self.info.format == "codes" else [("encode", self.info.packet_frames)]
        return [*encodes, ("decode", self.info.packet_frames)] if self.decoding else encodes

    @property
    def end_reason(self) -> str:
        """Why it takes nothing more, in words."""
        return self._end_reason or ""

    @property
    def ending(self) -> bool:
        """Whether it takes nothing more; what it took may still be on its way."""
        return self._end_reason is not None

    # From the publisher's connection -------------------------------------------------------------------------------------------------

    def may_resume(self, secret: str) -> bool:
        """Whether the publisher with this secret may go on, or be told again how the stream ended."""
        return (self.complete or not self.ending) and self.lease.matches(secret)

    def attach(self, holder: object, failed: Failed, evict: Callable[[], None]) -> None:
        """`holder` feeds it from now on: `failed` is called when the stream breaks, `evict` when another connection takes over."""
        self.lease.take(holder, failed, evict)
        self._entry.expect_burst()

    def detach(self, holder: object, *, resume_s: float = 0.0) -> None:
        """`holder` is gone: the stream ends, after `resume_s` unless another connection takes over by then."""
        if not self.lease.held_by(holder):
            return
        self.lease.give_back()
        if resume_s and not self.ending:
            self.lease.wait(resume_s, lambda: self.end("the publisher vanished"))
        else:
            self.end("the publisher vanished")

    def feed(self, packet: Packet) -> None:
        """Take the publisher's next packet."""
        self.totals.receive()
        self.lease.next_seq, self.lease.epoch = packet.seq + 1, packet.epoch
        if self.ending:
            # The server is closing and the publisher does not know yet, or the publisher goes on behind its own end.
            self.totals.refuse()
            return
        self._source.feed(packet, now_us())

    def publisher_gap(self, gap: Gap) -> None:
        """The publisher lost packets before it could send them."""
        self.lease.next_seq = gap.next_seq
        if not self.ending:
            self._source.gap(gap.count, gap.reason)

    def publisher_end(self) -> None:
        """The publisher has said that this is all. It may say so again on another connection."""
        self.complete = True
        self.end("the publisher ended it")

    def end(self, reason: str) -> None:
        """Bring out all that was accepted, then end the stream for its listeners; `ended` is set when that is done."""
        if not self.ending:
            self._end_reason = reason
            self.lease.stop_waiting()
            self._source.end()
            self.back_pressure.release()

    def withdraw(self) -> None:
        """Forget a stream that nobody has fed or heard."""
        self._end_reason = "its name is another's"
        self._source.close()

    # From the source -----------------------------------------------------------------------------------------------------------------

    def emit(self, payload: bytes, n_q: int, frames: int, timestamp: int, times: tuple[int, int, int]) -> None:
        packet = Packet(self.numbering.take(), self.numbering.epoch, timestamp, n_q, payload)
        self._entry.packet(packet, frames)
        self.totals.emit(packet, frames / self._frame_rate, times)
        self.back_pressure.progressed()

    def discontinuity(self, missing: int, reason: str) -> None:
        self.gap(missing, reason)
        self.numbering.begin_epoch()
        self.totals.begin_epoch()
        self._entry.epoch(reason)

    def gap(self, missing: int, reason: str) -> None:
        gap = self.numbering.skip(missing, reason)
        if gap is not None:
            self.totals.leave_out(reason)
            self._entry.gap(gap)
            if gap.reason != SILENCE:
                self._owner.stream_lost(self, gap.count, gap.reason)

    def dropped(self, count: int, wait_s: float) -> None:
        self.totals.drop(count, wait_s)

    def failed(self, exc: Exception) -> None:
        self.complete = False
        self._end_reason = "the publisher's audio could not be used" if isinstance(exc, InputError) else "internal error"
        self._source.close()
        self.back_pressure.release()
        self.lease.fail(exc)
        self.finished()

    def finished(self) -> None:
        self._entry.end(StreamEnd(next_seq=self.numbering.next_seq, reason=self._end_reason or ""), self._all_sent)

    def _all_sent(self) -> None:
        self.fan_out.close()
        self.back_pressure.release()
        self._owner.stream_gone(self)
        self.ended.set()
