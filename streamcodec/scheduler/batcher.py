"""A queue of due items that forms batches without starvation. It reads no clock and runs nothing.

Items that can share one step have the same key. The group whose oldest item has waited longest goes first, and its oldest items go first.
So many items of one kind cannot delay a single item of another kind by more than the running step and the steps that were due before it.

The batch size is a trade-off between waiting and throughput. A row waits for the running step and then for its own step. So batches are
small while no row waits long, and grow to the size with the highest throughput when rows have waited longer than a short step takes. On a
busy engine a batch also waits some milliseconds for more rows (`BatchingDelay`).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

from streamcodec.scheduler.batching_delay import BatchingDelay

__all__ = ["Batcher"]

Item = TypeVar("Item")

_MIN_INFORMATIVE_ITEMS = 4


class Batcher(Generic[Item]):
    """A queue of items, each with a key and a due time; a batch has at most `max_batch` items.

    When the durations of steps are known, a batch has at most as many items as fit into `step_s` seconds, or into the time that its oldest
    item has waited, whichever is longer. With `delay`, a batch that could be larger waits for more items where that says so.
    """

    def __init__(self, max_batch: int, step_s: float = 0.01, delay: BatchingDelay | None = None) -> None:
        if max_batch < 1:
            raise ValueError(f"max_batch is {max_batch}, expected 1 or more")
        self.max_batch = max_batch
        self._step_s = step_s
        self._delay = delay
        self._row_s: dict[Hashable, float] = {}
        self._groups: dict[Hashable, deque[tuple[float, Item, float]]] = {}  # due time, item, and how long it may wait

    def __len__(self) -> int:
        return sum(len(group) for group in self._groups.values())

    def add(self, key: Hashable, item: Item, due: float, wait_s: float = 0.0) -> None:
        """Queue `item`, which is due at the time `due` (seconds of any monotonic clock) and may wait `wait_s` for others in its step."""
        self._groups.setdefault(key, deque()).append((due, item, wait_s))
        if self._delay is not None:
            self._delay.arrived(key, due)

    def ready_at(self, now: float) -> float:
        """The time from which `take` returns a batch even if nothing is added; infinity if nothing waits."""
        return min((self._ready_at(key, now) for key in self._groups), default=math.inf)

    def take(self, now: float = 0.0, sizes: Sequence[int] = ()) -> list[tuple[float, Item]]:
        """Remove and return the next batch as pairs of due time and item; an empty list if nothing waits, or only for more items.

        `sizes` are the preferred batch sizes, ascending from 1: the batch has the largest of them that is allowed. Without `sizes`, it has
        all items that are allowed.
        """
        ready = [key for key in self._groups if self._ready_at(key, now) <= now]
        if not ready:
            return []
        key = min(ready, key=lambda k: self._groups[k][0][0])
        group = self._groups[key]
        count = min(self._limit(key, now - group[0][0]), len(group))
        batch = [group.popleft()[:2] for _ in range(max((size for size in sizes if size <= count), default=count))]
        if not group:
            del self._groups[key]
        return batch

    def record_duration(self, key: Hashable, items: int, seconds: float) -> None:
        """Record that a step with `items` items of `key` took `seconds`.

        Steps with fewer than four items say little about the cost of one more item, so they do not count for the batch's size.
        """
        if self._delay is not None:
            self._delay.ran(key, items, seconds)
        if items >= _MIN_INFORMATIVE_ITEMS:
            average = self._row_s.get(key, seconds / items)
            self._row_s[key] = average + 0.1 * (seconds / items - average)

    def _limit(self, key: Hashable, waited_s: float) -> int:
        row_s = self._row_s.get(key)
        if not row_s:
            return self.max_batch
        return min(self.max_batch, max(_MIN_INFORMATIVE_ITEMS, int(max(self._step_s, waited_s) / row_s)))

    def _ready_at(self, key: Hashable, now: float) -> float:
        """When a batch of `key` may be taken: at once if it is as large as it may be, else when one of its items has waited enough."""
        group = self._groups[key]
        if self._delay is None or len(group) >= self._limit(key, now - group[0][0]):
            return -math.inf
        share = self._delay.share(key, now)
        return min(due + share * wait_s for due, _, wait_s in group)

    def discard_if(self, unwanted: Callable[[Item], bool]) -> None:
        """Remove the waiting items for which `unwanted` is true."""
        for key, group in list(self._groups.items()):
            remaining = deque(entry for entry in group if not unwanted(entry[1]))
            if remaining:
                self._groups[key] = remaining
            else:
                del self._groups[key]
