"""What waits to be sent to one subscriber: bounded in seconds of audio, so that what is old is dropped and named by a gap."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from streamcodec.protocol import SILENCE, DtxFilter, Gap, Message, Packet

__all__ = ["MAX_MESSAGES", "Item", "LossObserver", "SubscriberQueue"]

# Gaps and starts have no seconds, so their number needs a bound of its own: a publisher may send any number of them.
MAX_MESSAGES = 4096


class LossObserver(Protocol):
    """Is told, as it happens, of what a listener does not get."""

    def listener_dropped(self, packets: int) -> None:
        """It is too slow for so many packets."""

    def listener_thinned(self, packets: int) -> None:
        """So many packets of silence were left out."""

    def listener_stepped_down(self) -> None:
        """It is given fewer codebooks, as it falls behind."""


@dataclass(slots=True)
class Item:
    """A message with the audio that it holds (s). `put_at` is a time; `begins_s` is where its audio begins among all that was put."""

    message: Message
    duration_s: float
    begins_s: float
    put_at: float


class SubscriberQueue:
    """A queue of messages in order.

    Of a run of quiet packets most are left out (`thinned` counts them) and a gap before the next message names them. Packets that are
    dropped are counted in `dropped`, and a gap takes their place; all other messages stay.
    """

    def __init__(self, observer: LossObserver | None = None) -> None:
        self.queued_s = 0.0
        self.end_s = 0.0  # the audio that was put in all
        self.dropped = 0
        self.thinned = 0
        self._items: deque[Item] = deque()
        self._past_s = 0.0
        self._observer = observer
        self._dtx = DtxFilter()
        self._silence: Gap | None = None  # names packets that were left out; it goes before what comes next

    def __len__(self) -> int:
        return len(self._items)

    @property
    def overflowed(self) -> bool:
        """Whether more messages wait than dropping packets can help against."""
        return len(self._items) > MAX_MESSAGES

    @property
    def clear(self) -> bool:
        """Whether nothing waits, nor is left out: a packet that is not quiet may pass by, if its audio is added to `end_s`."""
        return not self._items and self._silence is None and not self._dtx.in_run

    @property
    def head(self) -> Message | None:
        """The next message."""
        return self._items[0].message if self._items else None

    @property
    def oldest_packet(self) -> Item | None:
        """The packet that has waited longest."""
        return next((item for item in self._items if isinstance(item.message, Packet)), None)

    def restart_dtx(self) -> None:
        """A new stream begins: its first packet is never left out."""
        self._dtx.restart()

    def put(self, message: Message, duration_s: float, now: float, max_s: float, *, past: bool = False, quiet: bool = False) -> bool:
        """Queue a message; returns whether there is something new to send.

        With more than `max_s` of audio the oldest packets are dropped until half of that is left. What is `past` does not count there.
        """
        if self._leave_out(message, duration_s, quiet):
            return False
        if self._silence is not None:
            self._items.append(Item(self._silence, 0.0, self.end_s, now))
            self._silence = None
        self._items.append(Item(message, duration_s, self.end_s, now))
        self.queued_s += duration_s
        self.end_s += duration_s
        self._past_s += duration_s if past else 0.0
        max_s += self._past_s
        if self.queued_s > max_s:
            self.drop(lambda item: self.queued_s > max_s / 2)  # noqa: ARG005
        return True

    def pop(self) -> Item:
        """Take the next message."""
        item = self._items.popleft()
        # Sums of floats leave a rest: an empty queue holds nothing.
        self.queued_s = self.queued_s - item.duration_s if self._items else 0.0
        self._past_s = min(self._past_s, self.queued_s)
        return item

    def drop(self, stale: Callable[[Item], bool]) -> None:
        """Drop the packets that are `stale`, asked from the oldest on; a gap takes the place of each run of them."""
        kept, before = deque[Item](), self.dropped
        for item in self._items:
            if isinstance(item.message, Packet) and stale(item):
                self.queued_s -= item.duration_s
                self.dropped += 1
                item = Item(Gap(first_seq=item.message.seq, count=1, reason="slow_listener"), 0.0, item.begins_s, item.put_at)
            last = kept[-1].message if kept else None
            # Silence is not lost: its gaps stay apart from those of packets that were dropped.
            if isinstance(item.message, Gap) and isinstance(last, Gap) and (last.reason == SILENCE) == (item.message.reason == SILENCE):
                item.message = last.joined(item.message, last.reason if last.reason == item.message.reason else "slow_listener")
                kept.pop()
            kept.append(item)
        self._items = kept
        if self.dropped > before and self._observer is not None:
            self._observer.listener_dropped(self.dropped - before)

    def _leave_out(self, message: Message, duration_s: float, quiet: bool) -> bool:
        """Whether a message need not be sent now, as it is silence that a gap will name."""
        if isinstance(message, Packet):
            if not self._dtx.leaves_out(quiet, duration_s):
                return False
            self.thinned += 1
            if self._observer is not None:
                self._observer.listener_thinned(1)
            message = Gap(first_seq=message.seq, count=1, reason=SILENCE)
        else:
            self._dtx.restart()
        if not isinstance(message, Gap) or message.reason != SILENCE:
            return False
        self._silence = message if self._silence is None else self._silence.joined(message)
        return True
