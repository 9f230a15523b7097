"""The newest packets of a stream: what warms a late listener's decoder, and what a listener missed that lost its connection."""

from __future__ import annotations

from collections import deque
from typing import Generic, Protocol, TypeVar

from streamcodec.protocol import SILENCE, Gap

__all__ = ["Numbered", "ReplayBuffer"]


class Numbered(Protocol):
    """Anything with a packet's number."""

    @property
    def seq(self) -> int: ...


P = TypeVar("P", bound=Numbered)


class ReplayBuffer(Generic[P]):
    """One epoch's packets with their frames, and the gaps between them: what is younger than `keep_s`, at most."""

    def __init__(self, keep_s: float, frame_rate: float) -> None:
        self._limit = keep_s * frame_rate
        self._frame_rate = frame_rate
        self._entries: deque[tuple[P | Gap, int]] = deque()
        self._frames = 0

    def add(self, packet: P, frames: int) -> None:
        """Remember the next packet; what is older than the bound goes."""
        self._entries.append((packet, frames))
        self._frames += frames
        while self._entries and self._frames - self._entries[0][1] >= self._limit:
            self._frames -= self._entries.popleft()[1]

    def gap(self, gap: Gap) -> None:
        """Remember that packets are missing here."""
        if not self._entries:
            return
        last = self._entries[-1][0]
        if isinstance(last, Gap):
            # Gaps weigh no frames: between two packets there is one, however many a publisher sends.
            self._entries.pop()
            gap = last.joined(gap)
        self._entries.append((gap, 0))

    def clear(self) -> None:
        """Forget all: a new epoch begins."""
        self._entries.clear()
        self._frames = 0

    def recent(self, seconds: float) -> list[tuple[P | Gap, int]]:
        """The newest packets that make up `seconds`, as far as nothing was lost in between, with the gaps of silence; oldest first.

        The first is a packet.
        """
        wanted, frames = seconds * self._frame_rate, 0
        taken: list[tuple[P | Gap, int]] = []
        for entry, size in reversed(self._entries):
            if frames >= wanted or (isinstance(entry, Gap) and entry.reason != SILENCE):
                break
            frames += size
            taken.append((entry, size))
        while taken and isinstance(taken[-1][0], Gap):
            taken.pop()
        return taken[::-1]

    def since(self, seq: int, next_seq: int) -> list[tuple[P | Gap, int]] | None:
        """All from number `seq` on, where `next_seq` is the one to come; None where that is not known any more, or not yet."""
        if seq == next_seq:
            return []
        if not self._entries or not _first(self._entries[0][0]) <= seq < next_seq:
            return None
        found = [(entry, size) for entry, size in self._entries if _next(entry) > seq]
        head = found[0][0]
        if isinstance(head, Gap) and head.first_seq < seq:
            found[0] = (Gap(first_seq=seq, count=head.next_seq - seq, reason=head.reason), 0)
        return found


def _first(entry: Numbered | Gap) -> int:
    return entry.first_seq if isinstance(entry, Gap) else entry.seq


def _next(entry: Numbered | Gap) -> int:
    return entry.next_seq if isinstance(entry, Gap) else entry.seq + 1
