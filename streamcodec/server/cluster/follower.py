"""The order of a stream that comes over a bus: numbers that are missing are asked for, and what does not come is a gap.

Neither a clock nor a bus is known here. Whoever uses it brings messages as they come, and the answers to what it asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from streamcodec.protocol import Gap, Packet, StreamEnd, StreamStart
from streamcodec.protocol.messages import MAX_EPOCH
from streamcodec.server.cluster.questions import Told
from streamcodec.server.fanout.entry import FanOutEntry
from streamcodec.server.info import Numbering

__all__ = ["LINK", "MAX_HELD", "Follower"]

LINK = "link"
"""The reason of gaps for what was lost between nodes."""
MAX_HELD = 1000
"""Messages that wait for an answer; with more, nobody waits for it any longer."""


class Follower:
    """Feeds `entry` in order with what comes; `numbering` is that of its fan-out.

    `frames_of` gives a packet's frames; None: it does not fit the stream, and is left out. `ask` is called with a first number where
    something is missing: call `answered` with all that the origin has from there on, or with None where no answer comes; what `holds`
    waits for that. `lost` is told how many packets will never come, and `ended` that the stream is over.
    """

    def __init__(
        self,
        entry: FanOutEntry,
        numbering: Numbering,
        frames_of: Callable[[Packet], int | None],
        *,
        ask: Callable[[int], None],
        lost: Callable[[int], None],
        ended: Callable[[StreamEnd], None],
    ) -> None:
        self._entry = entry
        self._numbering = numbering
        self._frames_of = frames_of
        self._ask = ask
        self._lost = lost
        self._ended = ended
        self._over = False
        self.asking = False
        self._held: list[Told] = []
        self._reach = 0  # the origin is known to be there
        self._asked_to = 0  # and was known to be there when it was asked

    @property
    def holds(self) -> bool:
        """Whether something that came waits for what is missing before it."""
        return bool(self._held)

    def take(self, message: Told) -> None:
        """The next message of the stream's subject."""
        if self._over or self._is_old(message) or not self._fits(message):
            return
        if self.asking and not self._held and isinstance(message, Packet) and self._is_next(message):
            self._apply(message)  # it was asked whether anything is missing, and nothing is
        elif self.asking:
            self._held.append(message)
            if len(self._held) > MAX_HELD:
                self.answered(None)
        elif self._is_next(message):
            self._apply(message)
        else:
            self._held.append(message)
            self._ask_for_missing()

    def reached(self, next_seq: int) -> None:
        """The origin says that it has come so far: the last messages may have been lost."""
        self._reach = max(self._reach, next_seq)
        if not self._over and not self.asking and self._numbering.next_seq < self._reach:
            self._ask_for_missing()

    def look(self) -> None:
        """Ask for what comes next, whether anything is missing or not: the origin is another one, or it knows no such stream any more."""
        if not self._over and not self.asking:
            self._ask_for_missing()

    def answered(self, messages: Iterable[Told] | None) -> None:
        """What the origin has of what was asked for, and behind it; None: nobody has answered, and nothing is waited for any longer."""
        if not self.asking:
            return
        self.asking = False
        for message in messages or ():
            if self._fits(message):
                self._apply_whatever_is_missing(message, authoritative=True)
        held, self._held = self._held, []
        if held and not self._over and not self._is_old(held[0]):
            self._apply_whatever_is_missing(held[0])
        for message in held[1:]:
            if messages is None:
                self._apply_whatever_is_missing(message)
            else:
                self.take(message)
        if not self.asking:
            self._lose_up_to(self._reach if messages is None else self._asked_to)
            self.reached(self._reach)

    def end(self, reason: str) -> None:
        """Nothing more comes: the stream is over, wherever it was. What was held back is heard before."""
        self.answered(None)
        if not self._over:
            self._apply(StreamEnd(next_seq=self._numbering.next_seq, reason=reason))

    # -------------------------------------------------------------------------------------------------------------------------------

    def _ask_for_missing(self) -> None:
        self.asking = True
        self._asked_to = self._reach
        self._ask(self._numbering.next_seq)

    def _fits(self, message: Told) -> bool:
        return not isinstance(message, Packet) or self._frames_of(message) is not None

    def _is_old(self, message: Told) -> bool:
        """Whether all of it is known already."""
        here = self._numbering
        if isinstance(message, StreamStart):
            return not _is_newer(message.epoch, here.epoch)
        return (
            message.next_seq <= here.next_seq if isinstance(message, Gap) else isinstance(message, Packet) and message.seq < here.next_seq
        )

    def _is_next(self, message: Told) -> bool:
        here = self._numbering
        if isinstance(message, Packet):
            return message.seq == here.next_seq and message.epoch == here.epoch
        return _first(message) <= here.next_seq

    def _apply_whatever_is_missing(self, message: Told, *, authoritative: bool = False) -> None:
        """Apply a message, and name what is missing before it. An origin that was asked is right about the epoch."""
        here = self._numbering
        other_epoch = isinstance(message, StreamStart) and message.epoch != here.epoch
        if self._over or (self._is_old(message) and not (authoritative and other_epoch)):
            return
        if not (isinstance(message, StreamStart) and not other_epoch):
            self._lose_up_to(_first(message))
        if isinstance(message, Packet) and message.epoch != here.epoch:
            here.epoch = message.epoch
            self._entry.epoch(LINK)
        self._apply(message)

    def _apply(self, message: Told) -> None:
        here = self._numbering
        if isinstance(message, Packet):
            frames = self._frames_of(message)
            assert frames is not None
            here.next_seq = message.seq + 1
            self._entry.packet(message, frames)
        elif isinstance(message, Gap):
            gap = message.since(here.next_seq)
            here.next_seq = gap.next_seq
            self._entry.gap(gap)
        elif isinstance(message, StreamStart):
            if message.epoch != here.epoch:
                here.epoch = message.epoch
                self._entry.epoch(message.reason)
        else:
            self._lose_up_to(message.next_seq)
            self._over = True
            self._ended(StreamEnd(next_seq=here.next_seq, reason=message.reason))

    def _lose_up_to(self, next_seq: int) -> None:
        here = self._numbering
        if self._over or (count := next_seq - here.next_seq) <= 0:
            return
        gap = Gap(first_seq=here.next_seq, count=count, reason=LINK)
        here.next_seq = gap.next_seq
        self._lost(count)
        self._entry.gap(gap)


def _first(message: Told) -> int:
    """The number that is next where nothing is missing before the message."""
    if isinstance(message, Packet):
        return message.seq
    return message.next_seq if isinstance(message, StreamEnd) else message.first_seq


def _is_newer(epoch: int, than: int) -> bool:
    return 0 < (epoch - than) % (MAX_EPOCH + 1) <= MAX_EPOCH // 2
