"""A stream decoded once for all that listen to PCM; its control messages keep their place among the packets."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import numpy as np

from streamcodec.config import Start
from streamcodec.errors import EngineHungError
from streamcodec.protocol import Gap, Message, Packet, PayloadLayout, StreamStart, append_gap, now_us
from streamcodec.scheduler.rows import DecoderRowState
from streamcodec.scheduler.streams import Result, WorkerStream
from streamcodec.scheduler.worker import Worker
from streamcodec.server.ingest.source import MAX_BACKLOG_S
from streamcodec.types import Samples

__all__ = ["DecodedPacket", "SharedDecoder", "SharedDecoderState"]


@dataclass(frozen=True)
class DecodedPacket:
    """A packet's numbers with its samples, [T] or [C, T], for its codes; `due` is that of the step that completed it, as in `Result`."""

    seq: int
    epoch: int
    timestamp: int
    samples: Samples
    due: float


@dataclass(frozen=True)
class SharedDecoderState:
    """A shared decoder as a value: see `SharedDecoder`. What was fed has come out but for `waiting`, of which `samples` [T] are there."""

    row: DecoderRowState
    first_seq: int
    next_seq: int
    epoch: int
    waiting: tuple[Packet | Gap | StreamStart, ...]
    samples: Samples


class SharedDecoder:
    """Decodes a stream's packets of at most `n_q` codebooks in order; what comes out, packets and messages, goes to `sink`.

    Where a packet has waited for the machine for `wait_s`, the packets that come are left out until those that wait have waited for less
    than half of it; a gap takes the place of each. The same happens where more than `MAX_BACKLOG_S` waits. Neither happens where `wait_s`
    is None, as the publisher waits then. All that follows is left out once the decoder broke, which `failed` is told. A decoder whose step
    hangs and is given up is replaced by another one; what it was fed is a gap. Over a gap the
    decoder's state goes on, as that of a client's decoder does: only a `start` begins it afresh. Chunks have no state, and the one after a
    gap does not overlap with the one before it. It goes on from `saved`, which fits; that says `first_seq`, `next_seq` and `epoch` then.
    """

    def __init__(
        self,
        worker: Worker,
        *,
        n_q: int,
        start: Start,
        restart: Start,
        first_seq: int,
        next_seq: int,
        epoch: int,
        wait_s: float | None,
        dropped: Callable[[int], None],
        sink: Callable[[DecodedPacket | Message], None],
        failed: Callable[[Exception], None],
        saved: SharedDecoderState | None = None,
    ) -> None:
        config = worker.engine.config
        self.first_seq = first_seq  # of the epoch that comes out
        self.next_seq = next_seq
        self.epoch = epoch
        self._config = config
        self._layout = PayloadLayout.of(config)
        self._wait_s = wait_s
        self._dropped = dropped
        self._dropping = False
        self._sink = sink
        self._failed = failed
        self._broken = False
        self._backlog = 0  # samples
        self._waiting: deque[tuple[Packet, int, int] | Message] = deque()  # a packet, its samples and when it came, or a message
        self._samples: list[Samples] = []
        self._due = 0.0
        self._not_taken: list[Callable[[SharedDecoderState | None], None]] = []  # who waits for it as a value
        if saved is not None:
            self._restore(saved)

        def open_decoder(start: Start, saved: DecoderRowState | None = None) -> WorkerStream:
            return worker.open_decoder(self._on_result, n_q=n_q, start=start, restart=restart, prepare=self._prepare, saved=saved)

        self._open_decoder, self._restart_with = open_decoder, restart
        self._ended = False
        self._decoder = open_decoder(start, None if saved is None else saved.row)

    @property
    def backlog_s(self) -> float:
        """Seconds of audio that were fed and have not come out."""
        return self._backlog / self._config.sampling_rate

    def waited_s(self, now: int) -> float:
        """How long the oldest packet that is to be heard has waited, at `now` (us)."""
        fed = next((item[2] for item in self._waiting if isinstance(item, tuple) and item[0].seq >= self.next_seq), now)
        return (now - fed) / 1e6

    def feed(self, packet: Packet, frames: int, now: int) -> None:
        """Take the stream's next packet, at `now` (us); one before `next_seq` only warms the decoder."""
        if self._wait_s is not None:
            max_s = self._wait_s / 2 if self._dropping else self._wait_s
            self._dropping = self.waited_s(now) > max_s or self.backlog_s > MAX_BACKLOG_S
        if self._dropping or self._broken:
            self._dropped(1)
            self.pass_on(Gap(first_seq=packet.seq, count=1, reason="internal" if self._broken else "overload"))
            return
        size = self._config.packet_samples(frames)
        self._waiting.append((packet, size, now))
        self._backlog += size if packet.seq >= self.next_seq else 0
        self._decoder.feed(packet)

    def pass_on(self, message: Message) -> None:
        """Hand `message` to the sink behind all that was fed before it."""
        if isinstance(message, StreamStart) or (isinstance(message, Gap) and self._layout.chunked):
            self._decoder.restart()
        if isinstance(message, Gap):
            append_gap(self._waiting, message)
        else:
            self._waiting.append(message)
        self._deliver()

    def end(self, message: Message) -> None:
        """Bring out all that was fed, then hand over `message`."""
        self._waiting.append(message)
        self._ended = True
        self._decoder.end()
        self._deliver()

    def close(self) -> None:
        """Forget all that is on its way; the sink gets nothing any longer."""
        # A step that has begun still gives its result, perhaps when another decoder has taken the place of this one.
        self._sink = lambda item: None  # noqa: ARG005
        self._failed = lambda exc: None  # noqa: ARG005
        self._waiting.clear()
        self._decoder.close()
        self._take_no_snapshot()

    def snapshot(self, first_seq: int, next_seq: int, epoch: int, taken: Callable[[SharedDecoderState | None], None]) -> None:
        """Call `taken` with the decoder as a value when what it was fed by now has been decoded; None where it broke or is closed.

        It was fed all up to `next_seq`, of which `epoch` is the newest and began with `first_seq`. What it is fed later is not in it.
        """
        if self._broken or self._ended:
            taken(None)
            return
        self._not_taken.append(taken)

        def take(result: Result) -> None:
            if taken not in self._not_taken:  # it was told already
                return
            self._not_taken.remove(taken)
            if result.error is not None:
                taken(None)
                return
            [(row, _)] = result.outputs
            waiting = tuple(takewhile(lambda item: _is_before(item, next_seq, epoch), (_message(item) for item in self._waiting)))
            # Where nothing of it waits, what was fed later may have come out.
            numbers = (self.first_seq, self.next_seq, self.epoch) if waiting else (first_seq, next_seq, epoch)
            samples = np.concatenate([np.empty(0, np.float32), *self._samples])
            taken(SharedDecoderState(row, *numbers, tuple(_up_to(item, next_seq) for item in waiting), samples))

        self._decoder.snapshot(take)

    def _take_no_snapshot(self) -> None:
        waiting, self._not_taken = self._not_taken, []
        for taken in waiting:
            taken(None)

    def _restore(self, saved: SharedDecoderState) -> None:
        now = now_us()
        for item in saved.waiting:
            if isinstance(item, Packet):
                size = self._config.packet_samples(self._layout.frames(item.payload, item.n_q))
                self._waiting.append((item, size, now))
                self._backlog += size if item.seq >= self.next_seq else 0
            else:
                self._waiting.append(item)
        self._samples = [saved.samples] if saved.samples.size else []

    def _prepare(self, packet: Packet) -> Any:
        return self._layout.unpack(packet.payload, packet.n_q)

    def _on_result(self, result: Result) -> None:
        if result.error is not None:
            hung = isinstance(result.error, EngineHungError)
            self._broken = not hung
            self._samples, self._backlog = [], 0
            self._take_no_snapshot()
            for index, item in enumerate(self._waiting):
                if isinstance(item, tuple):
                    self._waiting[index] = Gap(first_seq=item[0].seq, count=1, reason="internal")
            self._deliver()
            if not hung:
                self._failed(result.error)
            elif not self._ended:
                self._decoder = self._open_decoder(self._restart_with)
            return
        self._due = result.due
        # What only the end of a run gives of chunks would overlap with one that never comes.
        if not (result.ended and self._layout.chunked):
            self._samples += [samples for samples in result.outputs if samples.size]
        self._deliver()

    def _deliver(self) -> None:
        while self._waiting:
            head = self._waiting[0]
            if isinstance(head, tuple):
                packet, size, _ = head
                if sum(part.shape[-1] for part in self._samples) < size:
                    return
                joined = self._samples[0] if len(self._samples) == 1 else np.concatenate(self._samples, axis=-1)
                self._samples = [joined[..., size:]] if joined.shape[-1] > size else []
                if packet.seq >= self.next_seq:
                    self._backlog -= size
                    self.next_seq = packet.seq + 1
                    self._sink(DecodedPacket(packet.seq, packet.epoch, packet.timestamp, joined[..., :size], self._due))
            else:
                if isinstance(head, StreamStart):
                    self.first_seq = self.next_seq = head.live_seq
                    self.epoch = head.epoch
                elif isinstance(head, Gap):
                    if head.first_seq < self.next_seq:  # in the history that only warms the decoder
                        self._waiting.popleft()
                        continue
                    self.next_seq = head.next_seq
                self._sink(head)
            self._waiting.popleft()


def _message(item: tuple[Packet, int, int] | Message) -> Any:
    return item[0] if isinstance(item, tuple) else item


def _is_before(item: Packet | Gap | StreamStart, next_seq: int, epoch: int) -> bool:
    """Whether an item that waits was there when `next_seq` and `epoch` were the newest."""
    if isinstance(item, StreamStart):
        return item.live_seq < next_seq or item.epoch == epoch
    return (item.first_seq if isinstance(item, Gap) else item.seq) < next_seq


def _up_to(item: Packet | Gap | StreamStart, next_seq: int) -> Packet | Gap | StreamStart:
    """An item that waits without what was added to it later."""
    if isinstance(item, Gap) and item.next_seq > next_seq:
        return Gap(first_seq=item.first_seq, count=next_seq - item.first_seq, reason=item.reason)
    return item
