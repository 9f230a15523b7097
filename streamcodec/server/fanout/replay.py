"""The newest packets of a stream: what warms a late listener's decoder, and what a listener missed while its connection was lost."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Generic, Protocol, TypeVar

from streamcodec.protocol import SILENCE, Gap, append_gap

__all__ = ["Numbered", "ReplayBuffer", "entries_since", "first_number", "next_number"]


class Numbered(Protocol):
    """Anything with a packet's number."""

    @property
    def seq(self) -> int: ...


P = TypeVar("P", bound=Numbered)


class ReplayBuffer(Generic[P]):
    """One epoch's packets and the gaps between them: what is younger than `keep_s`, at most. `frames_of` gives a packet's frames."""

    def __init__(self, keep_s: float, frame_rate: float, frames_of: Callable[[P], int]) -> None:
        self._max_frames = keep_s * frame_rate
        self._frame_rate = frame_rate
        self._frames_of = frames_of
        self._entries: deque[P | Gap] = deque()
        self._frames = 0

    def add(self, packet: P) -> None:
        """Remember the next packet; what is older than the bound goes."""
        self._entries.append(packet)
        self._frames += self._frames_of(packet)
        while self._entries and self._frames - self._size(self._entries[0]) >= self._max_frames:
            self._frames -= self._size(self._entries.popleft())

    def gap(self, gap: Gap) -> None:
        """Remember that packets are missing here. Gaps have no frames, so that merging them bounds their number."""
        if self._entries:
            append_gap(self._entries, gap)

    @property
    def entries(self) -> tuple[P | Gap, ...]:
        """All that is remembered, oldest first."""
        return tuple(self._entries)

    def restore(self, entries: Iterable[P | Gap]) -> None:
        """Remember these, oldest first, in place of all else."""
        self.clear()
        for entry in entries:
            if isinstance(entry, Gap):
                self.gap(entry)
            else:
                self.add(entry)

    def clear(self) -> None:
        """Forget all: a new epoch begins."""
        self._entries.clear()
        self._frames = 0

    def recent(self, seconds: float) -> list[P | Gap]:
        """The newest packets that make up `seconds`, as far as nothing was lost in between, with the gaps of silence; oldest first.

        The first one is a packet.
        """
        wanted, frames = seconds * self._frame_rate, 0
        taken: list[P | Gap] = []
        for entry in reversed(self._entries):
            if frames >= wanted or (isinstance(entry, Gap) and entry.reason != SILENCE):
                break
            frames += self._size(entry)
            taken.append(entry)
        while taken and isinstance(taken[-1], Gap):
            taken.pop()
        return taken[::-1]

    def since(self, seq: int, next_seq: int) -> list[P | Gap] | None:
        """All from number `seq` on, where `next_seq` is the next packet's; None where it is not known any longer, or not yet."""
        if seq == next_seq:
            return []
        if not self._entries or not first_number(self._entries[0]) <= seq < next_seq:
            return None
        return entries_since(self._entries, seq)

    def _size(self, entry: P | Gap) -> int:
        return 0 if isinstance(entry, Gap) else self._frames_of(entry)


def entries_since(entries: Iterable[P | Gap], seq: int) -> list[P | Gap]:
    """Those from number `seq` on, of entries in their order; the first of a gap's numbers are left out where it begins before."""
    found = [entry for entry in entries if next_number(entry) > seq]
    if found and isinstance(first := found[0], Gap) and first.first_seq < seq:
        found[0] = first.since(seq)
    return found


def first_number(entry: Numbered | Gap) -> int:
    """The number of a packet, or the first that a gap stands for."""
    return entry.first_seq if isinstance(entry, Gap) else entry.seq


def next_number(entry: Numbered | Gap) -> int:
    """The number behind a packet or a gap."""
    return entry.next_seq if isinstance(entry, Gap) else entry.seq + 1
