"""Who is due: a pure queue that groups equal work and never lets anyone starve; it reads no clock and runs nothing.

What can share one step has one key. The group whose oldest member has waited longest goes first, oldest members first, so a crowd of one
kind cannot keep a single row of another kind waiting for more than the step under way and those due before it.

How many share a step is a question of time: a row waits for the step under way and then for its own, so steps are kept short while all is
well, and grow to the size that gets most done as soon as rows have waited longer than a short step takes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

__all__ = ["Batcher"]

Item = TypeVar("Item")

_TELLING = 4


class Batcher(Generic[Item]):
    """A queue of items with a key and the time at which they fell due; `max_batch` items at most are taken at once.

    As far as it has learnt how long steps take, it takes no more than fit into `step_s`, or into the time that the oldest has waited.
    """

    def __init__(self, max_batch: int, step_s: float = 0.01) -> None:
        if max_batch < 1:
            raise ValueError(f"max_batch is {max_batch}, expected 1 or more")
        self.max_batch = max_batch
        self._step_s = step_s
        self._row_s: dict[Hashable, float] = {}
        self._groups: dict[Hashable, deque[tuple[float, Item]]] = {}

    def __len__(self) -> int:
        return sum(len(group) for group in self._groups.values())

    def add(self, key: Hashable, item: Item, due: float) -> None:
        """Queue `item`, due since `due`; times may be of any clock that goes forward."""
        self._groups.setdefault(key, deque()).append((due, item))

    def take(self, now: float = 0.0, sizes: Sequence[int] = ()) -> list[tuple[float, Item]]:
        """Remove and return the next batch with the times at which its items fell due: empty when nothing waits.

        Of `sizes`, the ones that run best, ascending from 1, it has the largest that it can; without any it has all that it may.
        """
        if not self._groups:
            return []
        key = min(self._groups, key=lambda k: self._groups[k][0][0])
        group = self._groups[key]
        count = min(self._limit(key, now - group[0][0]), len(group))
        batch = [group.popleft() for _ in range(max((size for size in sizes if size <= count), default=count))]
        if not group:
            del self._groups[key]
        return batch

    def took(self, key: Hashable, items: int, seconds: float) -> None:
        """Learn from a step: so many items of `key` took so long. Steps of few items say little about what one more costs."""
        if items >= _TELLING:
            known = self._row_s.get(key, seconds / items)
            self._row_s[key] = known + 0.1 * (seconds / items - known)

    def _limit(self, key: Hashable, waited_s: float) -> int:
        row_s = self._row_s.get(key)
        if not row_s:
            return self.max_batch
        return min(self.max_batch, max(_TELLING, int(max(self._step_s, waited_s) / row_s)))

    def discard_if(self, unwanted: Callable[[Item], bool]) -> None:
        """Forget the waiting items for which `unwanted` holds."""
        for key, group in list(self._groups.items()):
            kept = deque(entry for entry in group if not unwanted(entry[1]))
            if kept:
                self._groups[key] = kept
            else:
                del self._groups[key]
