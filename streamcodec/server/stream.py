"""One publisher's audio on its way to all that listen to it: packets get their numbers here, nothing is sent here.

A stream outlives its publisher's connection for a while. Listeners belong to a name, not to a stream: they wait from one publisher to the
next. Everything here runs on the loop's thread.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from streamcodec.errors import EngineHungError, InputError, StreamCodecError
from streamcodec.protocol import SILENCE, Gap, Packet, PublishHello, StreamEnd, now_us
from streamcodec.protocol.clock import both_clocks
from streamcodec.scheduler.worker import Worker
from streamcodec.server.back_pressure import BackPressure
from streamcodec.server.capacity.load_model import Kind
from streamcodec.server.fanout.continued import ContinuedFanOut
from streamcodec.server.fanout.entry import FanOutEntry
from streamcodec.server.fanout.fan_out import FanOut, FanOutState, StreamEvents
from streamcodec.server.info import Numbering, StreamInfo
from streamcodec.server.ingest.pcm import PcmSource, PcmState
from streamcodec.server.ingest.relay import CodesSource, CodesState
from streamcodec.server.ingest.source import IngestSource
from streamcodec.server.lease import Failed, PublisherLease
from streamcodec.server.limits import Limits
from streamcodec.server.metrics import Metrics
from streamcodec.server.snapshot import StreamSnapshot, check_movable
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

    def stream_moved(self, stream: Stream) -> None:
        """The stream goes on at another server; its fan-out stays."""


class Stream:
    """A publisher's packets, numbered.

    `since` is when it began (s since 1970). `complete` says that the publisher itself has ended the stream: if it connects again with its
    secret, only the answer was lost. `ended` is set when all of the stream has gone out and `owner` knows. `wrapped` may put an entry of
    its own before its fan-out. A stream goes on from the snapshot of one on another server, at `fan_out` where that has been fed with the
    same session here; then it waits for its publisher. Raises `SnapshotError` for a snapshot that does not fit.
    """

    def __init__(
        self,
        hello: PublishHello,
        worker: Worker,
        limits: Limits,
        metrics: Metrics,
        owner: StreamOwner,
        wrapped: EntryWrapper | None = None,
        *,
        snapshot: StreamSnapshot | None = None,
        fan_out: FanOut | None = None,
    ) -> None:
        self.hello = hello
        self.info = StreamInfo.of(hello, worker.engine)
        if snapshot is None:
            self.numbering, self.lease = Numbering(), PublisherLease()
            self.totals = StreamTotals(self.info, metrics, owner.packet_waited)
        else:
            snapshot = snapshot.on_clock(*both_clocks())
            self.numbering = Numbering(snapshot.epoch, snapshot.next_seq)
            self.lease = PublisherLease(snapshot.secret, snapshot.lease_next_seq, snapshot.lease_epoch)
            counts = {"received": snapshot.received, "emitted": snapshot.emitted, "dropped": snapshot.dropped}
            self.totals = StreamTotals(self.info, metrics, owner.packet_waited, **counts)
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
        self.complete = False
        self.since = time.time() if snapshot is None else snapshot.since
        self.ended = asyncio.Event()
        self._engine = worker.engine
        self._resume_s = limits.resume_s
        self._owner = owner
        self._end_reason: str | None = None
        self._moving = False
        # First what may refuse a snapshot.
        self._source = self._open_source(worker, limits, None if snapshot is None else snapshot.source)
        saved = None if snapshot is None else snapshot.fan_out
        self.fan_out = fan_out or FanOut(self.info, self.numbering, events, worker, limits, saved)
        self._entry: FanOutEntry = self.fan_out if wrapped is None else wrapped(self.info, self.fan_out)
        if fan_out is not None:
            assert saved is not None and fan_out.session == saved.session
            fan_out.report_to(events)
            self._entry = ContinuedFanOut(self._entry, fan_out, self.numbering, saved)
        if snapshot is not None:
            self._wait_for_publisher()

    def _open_source(self, worker: Worker, limits: Limits, saved: PcmState | CodesState | None) -> IngestSource:
        hello, info = self.hello, self.info
        if hello.format == "codes":
            assert saved is None or isinstance(saved, CodesState)
            return CodesSource(self, worker.engine.config, saved)
        assert saved is None or isinstance(saved, PcmState)
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
            saved=saved,
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
        return (self.complete or not (self.ending or self._moving)) and self.lease.matches(secret)

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
            self._wait_for_publisher(resume_s)
        else:
            self.end("the publisher vanished")

    def _wait_for_publisher(self, resume_s: float | None = None) -> None:
        self.lease.wait(self._resume_s if resume_s is None else resume_s, lambda: self.end("the publisher vanished"))

    def feed(self, packet: Packet) -> None:
        """Take the publisher's next packet."""
        if self._moving:  # the publisher sends it again where the stream goes on
            return
        self.totals.receive()
        self.lease.next_seq, self.lease.epoch = packet.seq + 1, packet.epoch
        if self.ending:
            # The server is closing and the publisher does not know yet, or the publisher goes on behind its own end.
            self.totals.refuse()
            return
        self._source.feed(packet, now_us())

    def publisher_gap(self, gap: Gap) -> None:
        """The publisher lost packets before it could send them."""
        if self._moving:
            return
        self.lease.next_seq = gap.next_seq
        if not self.ending:
            self._source.gap(gap.count, gap.reason)

    def publisher_end(self) -> None:
        """The publisher has said that this is all. It may say so again on another connection."""
        if self._moving:
            return
        self.complete = True
        self.end("the publisher ended it")

    def end(self, reason: str) -> None:
        """Bring out all that was accepted, then end the stream for its listeners; `ended` is set when that is done."""
        if not self.ending:
            self._end_reason = reason
            self.lease.stop_waiting()
            self._source.end()
            self.back_pressure.release()

    # To another server ---------------------------------------------------------------------------------------------------------------

    async def snapshot(self, pcm_s: float | None = 0.0) -> StreamSnapshot:
        """The stream as a value, while it goes on; it holds nothing up.

        It has what came of all messages before this call, and the last `pcm_s` of decoded packets, 96 kB a second, for listeners of PCM
        that resume; with None nothing that was decoded, nor the decoder. Raises `UnsupportedModelError` for a model in chunks, and
        `StreamCodecError` where the stream ends or breaks.
        """
        check_movable(self._engine)
        if self.ending:
            raise StreamCodecError(f"the stream takes nothing more: {self.end_reason}")
        taken: asyncio.Future[StreamSnapshot] = asyncio.get_running_loop().create_future()
        lease, totals = (self.lease.next_seq, self.lease.epoch), (self.totals.received, self.totals.dropped)

        def with_source(source: PcmState | CodesState) -> None:
            def with_fan_out(fan_out: FanOutState) -> None:
                if not taken.done():
                    taken.set_result(value(fan_out))

            value = self._value(source, lease, totals)
            self.fan_out.snapshot(self.numbering, pcm_s, with_fan_out)

        def failed(exc: Exception) -> None:
            if not taken.done():
                taken.set_exception(exc)

        self._source.snapshot(with_source, failed)
        return await taken

    def _value(
        self, source: PcmState | CodesState, lease: tuple[int, int], totals: tuple[int, int]
    ) -> Callable[[FanOutState], StreamSnapshot]:
        """What makes the snapshot of this moment, once the fan-out is as far."""
        hello = replace(self.hello, token=None, resume=None)
        now, numbers, emitted = both_clocks(), (self.numbering.next_seq, self.numbering.epoch), self.totals.emitted
        (received, dropped), since, secret = totals, self.since, self.lease.secret
        return lambda fan_out: StreamSnapshot(hello, *now, since, *numbers, secret, *lease, received, emitted, dropped, fan_out, source)

    async def give(self, pcm_s: float = 1.0) -> StreamSnapshot:
        """Take nothing more, bring out what was taken as far as it makes whole packets, and return the stream as a value: it ends here.

        Its listeners are told nothing. Its fan-out stays, for whoever links to where the stream goes on. The publisher's connection is
        evicted. Raises as `snapshot` does; the stream goes on then, unless it has ended, and so it does where this is cancelled.
        """
        check_movable(self._engine)
        self._moving = True
        self.lease.take_away()
        try:
            value = await self._settled(pcm_s)
            if self.ending:
                raise StreamCodecError(f"the stream takes nothing more: {self.end_reason}")
        except BaseException:
            self._moving = False
            if not self.ending:
                self._wait_for_publisher()
            raise
        self.abandon()
        return value

    def abandon(self) -> None:
        """The stream ends here as with `give`, as another server has it, or another one of its name."""
        self._moving = True
        self.lease.take_away()
        self._end_reason = "it goes on at another server"
        self.lease.stop_waiting()
        self._source.close()
        self._entry.moved()
        self.back_pressure.release()
        self._owner.stream_moved(self)
        self.ended.set()

    async def _settled(self, pcm_s: float) -> StreamSnapshot:
        while True:
            try:
                return await self.snapshot(pcm_s)
            except EngineHungError:  # what was fed is lost then, and another encoder goes on
                continue

    # From the source -----------------------------------------------------------------------------------------------------------------

    def emit(self, payload: bytes, n_q: int, frames: int, timestamp: int, times: tuple[int, int, int]) -> None:
        packet = Packet(self.numbering.take(), self.numbering.epoch, timestamp, n_q, payload)
        self._entry.packet(packet, frames)
        self.totals.emit(packet, frames / self._engine.config.frame_rate, times)
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
