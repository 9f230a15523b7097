"""Who is due: a pure queue that groups equal work and never lets anyone starve; it reads no clock and runs nothing.

What can share one step has one key. The group whose oldest member has waited longest goes first, oldest members first, so a crowd of one
kind cannot keep a single row of another kind waiting for more than the step under way and those due before it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

__all__ = ["Batcher"]

Item = TypeVar("Item")


class Batcher(Generic[Item]):
    """A queue of items with a key and the time at which they fell due; `max_batch` items at most are taken at once."""

    def __init__(self, max_batch: int) -> None:
        if max_batch < 1:
            raise ValueError(f"max_batch is {max_batch}, expected 1 or more")
        self.max_batch = max_batch
        self._groups: dict[Hashable, deque[tuple[float, Item]]] = {}

    def __len__(self) -> int:
        return sum(len(group) for group in self._groups.values())

    def add(self, key: Hashable, item: Item, due: float) -> None:
        """Queue `item`, due since `due`; times may be of any clock that goes forward."""
        self._groups.setdefault(key, deque()).append((due, item))

    def take(self) -> list[tuple[float, Item]]:
        """Remove and return the next batch with the times at which its items fell due: empty when nothing waits."""
        if not self._groups:
            return []
        key = min(self._groups, key=lambda k: self._groups[k][0][0])
        group = self._groups[key]
        batch = [group.popleft() for _ in range(min(self.max_batch, len(group)))]
        if not group:
            del self._groups[key]
        return batch

    def discard_if(self, unwanted: Callable[[Item], bool]) -> None:
        """Forget the waiting items for which `unwanted` holds."""
        for key, group in list(self._groups.items()):
            kept = deque(entry for entry in group if not unwanted(entry[1]))
            if kept:
                self._groups[key] = kept
            else:
                del self._groups[key]
