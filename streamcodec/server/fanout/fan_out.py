"""One stream to all of its subscribers: as codes, or as PCM that is decoded once for all.

A fan-out outlives its stream, as long as a listener whose connection was lost may fetch what it missed.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from streamcodec.protocol import Format, Gap, Packet, Resume, StreamEnd, StreamStart, now_us
from streamcodec.scheduler.worker import Worker
from streamcodec.server.fanout.codes import CodesBranch
from streamcodec.server.fanout.decode import DecodedPacket, SharedDecoder, SharedDecoderState
from streamcodec.server.fanout.events import UNHEARD, StreamEvents
from streamcodec.server.fanout.pcm import PcmBranch
from streamcodec.server.fanout.subscriber import Subscriber
from streamcodec.server.info import Numbering, StreamInfo
from streamcodec.server.limits import Limits

__all__ = ["FanOut", "FanOutState", "JoinReason", "StreamEvents"]

JoinReason = Literal["published", "joined"]
_MOST_AHEAD_S = 3.0


@dataclass(frozen=True)
class FanOutState:
    """A fan-out as a value, without its subscribers: what makes another one tell its listeners the same.

    `first_seq` is that of the newest epoch, `history` has its packets of codes and gaps, `pcm` those that were decoded. `decoder` is None
    where nobody listens to PCM, or it broke.
    """

    session: str
    first_seq: int
    history: tuple[Packet | Gap, ...]
    decoder: SharedDecoderState | None
    pcm: tuple[DecodedPacket | Gap, ...]


class FanOut:
    """The subscribers of one stream, which know it by `session`. Whoever records it has an entry before this one.

    `numbering` has the number and the epoch of the next packet: whoever feeds the fan-out counts there before each call. It goes on from
    `saved`, which fits.
    """

    def __init__(
        self,
        info: StreamInfo,
        numbering: Numbering,
        events: StreamEvents,
        worker: Worker,
        limits: Limits,
        saved: FanOutState | None = None,
    ) -> None:
        config = worker.engine.config
        self.session = secrets.token_hex(8) if saved is None else saved.session
        self.codes = CodesBranch(info, config, max(limits.history_s, limits.resume_s))
        self.pcm = PcmBranch(config, limits.resume_s, events)
        self.numbering = numbering
        self._info = info
        self._events = events
        self._worker = worker
        self._limits = limits
        self.recorded = False
        self._first_seq = 0 if saved is None else saved.first_seq  # of the current epoch
        self._end: StreamEnd | None = None
        self._went_on = saved is not None
        self._ahead: dict[Subscriber, Resume] = {}  # who has heard more than has come here: the stream went on from an older state
        if saved is not None:
            self.codes.history.restore(saved.history)
            self.restore_decoder(saved, numbering.next_seq, numbering.epoch)

    @property
    def info(self) -> StreamInfo:
        """What does not change while the stream lives."""
        return self._info

    @property
    def subscribers(self) -> list[Subscriber]:
        """All of them, whatever their format is."""
        return [*self.codes.subscribers, *self.pcm.subscribers]

    @property
    def known(self) -> set[Subscriber]:
        """All who have the stream, or will have it when it is as far as they are."""
        return {*self.subscribers, *self._ahead}

    @property
    def backlog_s(self) -> float:
        """Seconds of audio that wait to be decoded."""
        return 0.0 if self.pcm.decoder is None else self.pcm.decoder.backlog_s

    # From the stream -----------------------------------------------------------------------------------------------------------------

    def packet(self, packet: Packet, frames: int) -> None:
        """A packet of codes for everybody: cut for some, decoded for others."""
        self.codes.packet(packet, frames)
        self.pcm.packet(packet, frames)
        if self._ahead:
            self._let_in()

    def gap(self, gap: Gap) -> None:
        """Packets of the stream will never come."""
        self.codes.gap(gap)
        self.pcm.pass_on(gap)
        self._let_in()

    def epoch(self, reason: str) -> None:
        """The stream's encoder has started afresh."""
        at = self._first_seq = self.numbering.next_seq
        self.codes.history.clear()
        for subscriber in self.codes.subscribers:
            subscriber.put(self._start(subscriber, at, at, self.numbering.epoch, reason))
        if self.pcm.decoder is not None:
            self.pcm.pass_on(self._start(None, at, at, self.numbering.epoch, reason))
        self._let_in()

    def moved(self) -> None:
        """The stream goes on elsewhere; whatever links to it feeds this fan-out from now on, and calls `report_to`."""
        self.report_to(UNHEARD)

    def end(self, message: StreamEnd, finished: Callable[[], None]) -> None:
        """The stream is over; calls `finished` when all of it was put."""
        self._let_in(at_last=True)
        self._end = message
        self.codes.put(message)
        self.pcm.end(message, finished)

    def expect_burst(self) -> None:
        """What comes next was held up on its way here."""
        for subscriber in self.subscribers:
            subscriber.expect_burst()

    def close(self) -> None:
        """Everybody has all of the stream."""
        self.codes.subscribers.clear()
        self.pcm.close()

    def beginning(self, reason: str) -> StreamStart:
        """What a listener of all codes is told of the newest epoch if it is there from its beginning."""
        at = self._first_seq
        return replace(self._start(None, at, at, self.numbering.epoch, reason), format="codes")

    # Whatever feeds it changes -------------------------------------------------------------------------------------------------------

    def report_to(self, events: StreamEvents) -> None:
        """Report to these from now on."""
        self._events = events
        self.pcm.report_to(events)
        for subscriber in self.subscribers:
            subscriber.progressed = events.progressed

    def snapshot(self, numbering: Numbering, pcm_s: float | None, taken: Callable[[FanOutState], None]) -> None:
        """Call `taken` with the fan-out as it is now, and the last `pcm_s` of decoded packets, as soon as the decoder is as far.

        With None it has neither, and the decoder is not waited for.

        `numbering` is its stream's, which has its own where it went on from a snapshot that was older than this fan-out.
        """
        first_seq, next_seq, epoch = self._first_seq, numbering.next_seq, numbering.epoch
        if (self.numbering.next_seq, self.numbering.epoch) != (next_seq, epoch):
            taken(FanOutState(self.session, min(first_seq, next_seq), (), None, ()))
            return
        history = self.codes.history.entries

        def take(decoder: SharedDecoderState | None) -> None:
            there = decoder is not None and self.pcm.decoder is not None and self.pcm.decoder.epoch == decoder.epoch
            pcm = self.pcm.recent(pcm_s, decoder.next_seq) if there and decoder is not None and pcm_s is not None else ()
            taken(FanOutState(self.session, first_seq, history, decoder, pcm))

        if self.pcm.decoder is None or pcm_s is None:
            take(None)
        else:
            self.pcm.decoder.snapshot(first_seq, next_seq, epoch, take)

    def restore_decoder(self, saved: FanOutState, next_seq: int, epoch: int) -> None:
        """Decode on from `saved`, whose next packet was that number of that epoch, where it has a decoder and this fan-out has none."""
        missed = self.codes.history.since(next_seq, self.numbering.next_seq)
        if saved.decoder is None or self.pcm.decoder is not None or epoch != self.numbering.epoch or missed is None:
            return
        self.pcm.restore(self._open_decoder(saved.decoder), saved.pcm)
        for entry in missed:
            if isinstance(entry, Gap):
                self.pcm.pass_on(entry)
            else:
                self.pcm.packet(entry, self.codes.frames(entry))

    # Coming and going ----------------------------------------------------------------------------------------------------------------

    def join(self, subscriber: Subscriber, reason: JoinReason = "joined") -> None:
        """Begin the stream for a subscriber, with as much history as it wants and there is."""
        self._add(subscriber)
        if subscriber.format == "codes":
            history, next_seq = self._history(subscriber.options.history_s), self.numbering.next_seq
            subscriber.put(self._start(subscriber, _first(history, next_seq), next_seq, self.numbering.epoch, reason))
            self.codes.replay(subscriber, history)
            return
        if self.pcm.decoder is None:
            self.pcm.decoder = self._open_decoder()
        at = self.pcm.decoder.next_seq
        subscriber.put(self._start(subscriber, at, at, self.pcm.decoder.epoch, reason, begins=self.pcm.decoder.first_seq))

    def resume(self, subscriber: Subscriber, asked: Resume) -> bool:
        """Go on for a subscriber after what it has received, without a break. Returns False, and does nothing, where that is impossible."""
        if asked.session != self.session:
            return False
        if subscriber.format == "codes" and self._may_be_ahead(asked):
            self._ahead[subscriber] = asked
            return True
        return self._resume_codes(subscriber, asked) if subscriber.format == "codes" else self._resume_pcm(subscriber, asked)

    def leave(self, subscriber: Subscriber, *, lost: bool = False) -> None:
        """A subscriber is gone; one whose connection was `lost` may resume."""
        if subscriber.format == "codes":
            self.codes.subscribers.discard(subscriber)
            self._ahead.pop(subscriber, None)
        else:
            self.pcm.remove(subscriber, lost=lost)

    def _may_be_ahead(self, asked: Resume) -> bool:
        ahead_s = (asked.next_seq - self.numbering.next_seq) * self._info.packet_s
        goes_on = self._went_on and self._end is None and asked.epoch == self.numbering.epoch
        return goes_on and 0 < ahead_s <= _MOST_AHEAD_S

    def _let_in(self, *, at_last: bool = False) -> None:
        """Go on for those who are not ahead of the stream any longer, or for all of them."""
        for subscriber, asked in list(self._ahead.items()):
            if at_last or asked.next_seq <= self.numbering.next_seq or asked.epoch != self.numbering.epoch:
                del self._ahead[subscriber]
                if not self._resume_codes(subscriber, asked):
                    self.join(subscriber)

    def _resume_codes(self, subscriber: Subscriber, asked: Resume) -> bool:
        missed = self.codes.history.since(asked.next_seq, self.numbering.next_seq)
        if missed is None or asked.epoch != self.numbering.epoch:
            return False
        self._continue(subscriber, asked)
        self.codes.replay(subscriber, missed)
        if self._end is not None:
            subscriber.put(self._end)
            self.codes.subscribers.discard(subscriber)
        return True

    def _resume_pcm(self, subscriber: Subscriber, asked: Resume) -> bool:
        decoder = self.pcm.decoder
        missed = None if decoder is None else self.pcm.history.since(asked.next_seq, decoder.next_seq)
        if decoder is None or missed is None or asked.epoch != decoder.epoch:
            return False
        self._continue(subscriber, asked)
        self.pcm.replay(subscriber, missed)
        if self._end is not None and decoder.next_seq == self._end.next_seq:
            subscriber.put(self._end)
            self.pcm.subscribers.discard(subscriber)
        return True

    def _continue(self, subscriber: Subscriber, asked: Resume) -> None:
        self._add(subscriber)
        subscriber.expect_burst()
        start = self._start(subscriber, asked.next_seq, asked.next_seq, asked.epoch, "resumed")
        subscriber.put(replace(start, start="continued"))

    def _add(self, subscriber: Subscriber) -> None:
        subscriber.progressed = self._events.progressed
        subscriber.join(self._ladder(subscriber), live=self._info.live)
        if subscriber.format == "codes":
            self.codes.subscribers.add(subscriber)
        else:
            self.pcm.add(subscriber)

    def _ladder(self, subscriber: Subscriber) -> list[int]:
        return self.codes.ladder(subscriber.options.max_n_q) if subscriber.format == "codes" else [0]

    def _history(self, seconds: float) -> list[Packet | Gap]:
        """What warms a decoder; one of chunks needs the chunk before the first that is heard, as they overlap."""
        chunked = self._worker.engine.config.granularity == "chunks"
        return self.codes.history.recent(min(seconds, self._info.packet_s) if chunked else seconds)

    def _open_decoder(self, saved: SharedDecoderState | None = None) -> SharedDecoder:
        info, numbering = self._info, self.numbering
        history = self._history(self._limits.history_s) if saved is None else []
        decoder = SharedDecoder(
            self._worker,
            n_q=info.n_q,
            start=info.start if _first(history, numbering.next_seq) == self._first_seq else "primed",
            restart=info.start,
            first_seq=self._first_seq if saved is None else saved.first_seq,
            next_seq=numbering.next_seq if saved is None else saved.next_seq,
            epoch=numbering.epoch if saved is None else saved.epoch,
            wait_s=self._limits.decode_wait_s if info.live else None,
            dropped=lambda count: self._events.undecoded(count),
            sink=self.pcm.deliver,
            failed=lambda exc: self._events.broke(exc),
            saved=saved,
        )
        for entry in history:
            if isinstance(entry, Packet):
                decoder.feed(entry, self.codes.frames(entry), now_us())
        return decoder

    def _start(
        self, subscriber: Subscriber | None, first: int, live: int, epoch: int, reason: str, *, begins: int | None = None
    ) -> StreamStart:
        """A start at number `first` of an epoch that `begins` at another one: None for the newest epoch.

        Without a `subscriber` it is for all of PCM, which differ in their format only.
        """
        begins = self._first_seq if begins is None else begins
        format: Format = "pcm_f32le" if subscriber is None else subscriber.format
        n_q = self._info.n_q if subscriber is None or format != "codes" else self._ladder(subscriber)[-1]
        config = self._worker.engine.config
        return StreamStart(
            epoch=epoch,
            n_q=n_q,
            bandwidth=config.bandwidth_of(n_q),
            packet_frames=self._info.packet_frames,
            start=self._info.start if first == begins else "resumed",
            first_seq=first,
            live_seq=live,
            format=format,
            sample_rate=config.sampling_rate,
            channels=config.audio_channels,
            packet_samples=self._info.packet_samples,
            session=self.session,
            reason=reason,
        )


def _first(history: Sequence[Packet | Gap], next_seq: int) -> int:
    """The number with which a history begins."""
    first = history[0] if history else None
    return first.seq if isinstance(first, Packet) else next_seq
