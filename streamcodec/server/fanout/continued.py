"""A stream that goes on at a fan-out which something else has fed so far: each number goes out once, whichever of the two was ahead."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from streamcodec.protocol import Gap, Packet, StreamEnd
from streamcodec.protocol.messages import MAX_EPOCH
from streamcodec.server.fanout.entry import FanOutEntry
from streamcodec.server.fanout.fan_out import FanOut, FanOutState
from streamcodec.server.info import Numbering

__all__ = ["ContinuedFanOut"]

_LOST = "link"


class ContinuedFanOut:
    """A `FanOutEntry` before `entry`, which leads to `fan_out`; `numbering` is the stream's own.

    Where the fan-out is behind the stream, it gets what it lacks from the history of `saved`, and a gap with reason `link` for what is not
    in there. Where it is ahead, as the stream went on from an older snapshot, the packets that it has are not passed on again. A new
    epoch begins where the two meet in different ones.
    """

    def __init__(self, entry: FanOutEntry, fan_out: FanOut, numbering: Numbering, saved: FanOutState) -> None:
        self._entry = entry
        self._there, self._frames = fan_out.numbering, fan_out.codes.frames
        self._own = numbering
        if self._there.next_seq <= numbering.next_seq:
            self._bring_up(saved)
        fan_out.restore_decoder(saved, numbering.next_seq, numbering.epoch)

    @property
    def recorded(self) -> bool:
        return self._entry.recorded

    def packet(self, packet: Packet, frames: int) -> None:
        if packet.seq < self._there.next_seq:
            return
        if packet.epoch != self._there.epoch:
            self._own.epoch = self._there.epoch = (self._there.epoch + 1) % (MAX_EPOCH + 1)
            self._entry.epoch(_LOST)
            packet = replace(packet, epoch=self._own.epoch)
        self._there.next_seq = packet.seq + 1
        self._entry.packet(packet, frames)

    def gap(self, gap: Gap) -> None:
        if gap.next_seq <= self._there.next_seq:
            return
        gap = gap.since(max(gap.first_seq, self._there.next_seq))
        self._there.next_seq = gap.next_seq
        self._entry.gap(gap)

    def epoch(self, reason: str) -> None:
        if self._own.next_seq == self._there.next_seq and self._own.epoch != self._there.epoch:
            self._there.epoch = self._own.epoch
            self._entry.epoch(reason)

    def expect_burst(self) -> None:
        self._entry.expect_burst()

    def moved(self) -> None:
        self._entry.moved()

    def end(self, message: StreamEnd, finished: Callable[[], None]) -> None:
        if message.next_seq < self._there.next_seq:
            message = replace(message, next_seq=self._there.next_seq)
        self._entry.end(message, finished)

    def _bring_up(self, saved: FanOutState) -> None:
        if self._there.epoch != self._own.epoch:
            self._lose(saved.first_seq)
            self._there.epoch = self._own.epoch
            self._entry.epoch(_LOST)
        for item in saved.history:
            self._lose(item.first_seq if isinstance(item, Gap) else item.seq)
            if isinstance(item, Gap):
                self.gap(item)
            else:
                self.packet(item, self._frames(item))
        self._lose(self._own.next_seq)

    def _lose(self, next_seq: int) -> None:
        """What the fan-out lacks before `next_seq` will never come."""
        if self._there.next_seq < next_seq:
            self.gap(Gap(first_seq=self._there.next_seq, count=next_seq - self._there.next_seq, reason=_LOST))
