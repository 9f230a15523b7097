"""A publisher's audio on its way out: what waits to be sent, then what was sent until the server has it; both bounded in seconds."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from streamcodec.protocol import SILENCE

__all__ = ["Audio", "Lost", "SendQueue"]


@dataclass(frozen=True, slots=True)
class Audio:
    """One packet's bytes, when its first sample was captured (us), its codebooks (0 where it is PCM), and whether it begins an epoch."""

    payload: bytes
    captured: int
    duration_s: float
    n_q: int = 0
    new_epoch: bool = False


@dataclass(frozen=True, slots=True)
class Lost:
    """So many packets will never come, because they waited too long for the uplink or for another `reason`, such as silence."""

    count: int
    reason: str = "uplink"


class SendQueue:
    """Entries in the order of their numbers. What was sent is kept for `keep_s`, to be sent again after a connection was lost.

    Of what was acknowledged `again_s` are kept, for a server that goes on from an older state than the one that has acknowledged it.
    """

    def __init__(self, keep_s: float = 0.0, again_s: float = 0.0) -> None:
        self.keep_s = keep_s
        self.again_s = again_s
        self.waiting_s = 0.0
        self.sent_s = 0.0
        self._waiting: deque[Audio | Lost] = deque()
        self._sent: deque[tuple[int, Audio | Lost]] = deque()
        self._acknowledged: deque[tuple[int, Audio | Lost]] = deque()
        self._acknowledged_s = 0.0
        self._next_seq = 0  # behind all that was sent
        self.closed = False
        self._silent = 0  # packets left out after those that wait; a gap names them before the next entry

    def __bool__(self) -> bool:
        return bool(self._waiting)

    @property
    def numbers(self) -> int:
        """How many numbers the waiting entries, and the packets left out after them, will use."""
        return sum(_count(entry) for entry in self._waiting) + self._silent

    @property
    def ahead_s(self) -> float:
        """Seconds of audio that were sent and not acknowledged, without the newest packet."""
        return self.sent_s - _duration_s(self._sent[-1][1]) if self._sent else 0.0

    def add(self, audio: Audio) -> None:
        """Queue a packet."""
        self._name_silence()
        self._waiting.append(audio)
        self.waiting_s += audio.duration_s

    def lose(self, count: int, reason: str = "publisher") -> None:
        """Say that so many packets, after those that wait, will never come: they were lost before they reached the queue."""
        self._name_silence()
        self._waiting.append(Lost(count, reason))

    def leave_out(self) -> None:
        """Say that the next packet will never come because it is silence; nothing goes out for it before the next entry, or `close`."""
        self._silent += 1

    def close(self) -> None:
        """Say that nothing is queued any more; what was left out is named, since the end needs its number."""
        self._name_silence()
        self.closed = True

    def _name_silence(self) -> None:
        if self._silent:
            self._waiting.append(Lost(self._silent, SILENCE))
            self._silent = 0

    def drop_beyond(self, bound_s: float) -> float:
        """If more than `bound_s` waits, drop the oldest packets, never the newest; return the seconds dropped."""
        lost: list[Lost] = []
        dropped_s = 0.0
        while self.waiting_s > bound_s and len(self._waiting) > 1:
            entry = self._waiting.popleft()
            if isinstance(entry, Audio):
                self.waiting_s -= entry.duration_s
                dropped_s += entry.duration_s
                entry = Lost(1)
            elif entry.reason != SILENCE:
                entry = Lost(entry.count)
            # Silence that was left out does not count as lost.
            if lost and lost[-1].reason == entry.reason:
                entry = Lost(lost.pop().count + entry.count, entry.reason)
            lost.append(entry)
        self._waiting.extendleft(reversed(lost))
        return dropped_s

    def next(self) -> Audio | Lost:
        """Take the next entry to send; then call `sent` with its number."""
        entry = self._waiting.popleft()
        while isinstance(entry, Lost) and self._waiting and isinstance(after := self._waiting[0], Lost) and after.reason == entry.reason:
            self._waiting.popleft()
            entry = Lost(entry.count + after.count, entry.reason)
        if isinstance(entry, Audio):
            self.waiting_s = self.waiting_s - entry.duration_s if self._waiting else 0.0
        return entry

    def sent(self, seq: int, entry: Audio | Lost) -> None:
        """`entry` goes out under the number `seq` (a gap: from there on)."""
        self._sent.append((seq, entry))
        self._next_seq = seq + _count(entry)
        self.sent_s += _duration_s(entry)
        while self.sent_s > self.keep_s and len(self._sent) > 1:
            self.sent_s -= _duration_s(self._sent.popleft()[1])

    def acknowledge(self, next_seq: int) -> None:
        """The server has all before `next_seq`."""
        while self._sent and self._sent[0][0] + _count(self._sent[0][1]) <= next_seq:
            seq, entry = self._sent.popleft()
            self.sent_s = self.sent_s - _duration_s(entry) if self._sent else 0.0
            self._acknowledged.append((seq, entry))
            self._acknowledged_s += _duration_s(entry)
        while self._acknowledged and (self._acknowledged_s > self.again_s + 1e-9 or self.again_s == 0):
            entry = self._acknowledged.popleft()[1]
            self._acknowledged_s = self._acknowledged_s - _duration_s(entry) if self._acknowledged else 0.0

    def send_again(self, next_seq: int) -> None:
        """The session goes on at a server that has all before `next_seq`: what was sent after that waits again."""
        self.acknowledge(next_seq)
        while self._acknowledged and self._acknowledged[-1][0] + _count(self._acknowledged[-1][1]) > next_seq:
            self._sent.appendleft(self._acknowledged.pop())
        again = [entry for _, entry in self._sent]
        first = self._sent[0][0] if self._sent else self._next_seq
        if again and first < next_seq and isinstance(gap := again[0], Lost):
            again[0] = Lost(gap.count - (next_seq - first), gap.reason)
        elif first > next_seq:
            # More was in flight than is kept, or the server goes on from an older state than what is kept.
            again.insert(0, Lost(first - next_seq))
        self._waiting.extendleft(reversed(again))
        self.waiting_s += sum(map(_duration_s, again))
        self._sent.clear()
        self.sent_s, self._next_seq = 0.0, next_seq
        self._acknowledged_s = sum(_duration_s(entry) for _, entry in self._acknowledged)


def _count(entry: Audio | Lost) -> int:
    return entry.count if isinstance(entry, Lost) else 1


def _duration_s(entry: Audio | Lost) -> float:
    return entry.duration_s if isinstance(entry, Audio) else 0.0
