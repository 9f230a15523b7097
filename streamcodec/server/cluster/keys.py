"""Keys with revisions and a time to live, as a value: what a store is, without a bus and without a clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from streamcodec.server.cluster.bus import Entry, KeyChangedError

__all__ = ["KeyTable"]


@dataclass(frozen=True)
class _Kept:
    entry: Entry
    expires: float


class KeyTable:
    """The keys of one store. `changed` hears of each change: the key, and what it has now. Times are in seconds."""

    def __init__(self, ttl_s: float | None = None, changed: Callable[[str, Entry | None], None] | None = None) -> None:
        self.ttl_s = ttl_s
        self.revision = 0
        self._changed = changed or (lambda *_: None)
        self._kept: dict[str, _Kept] = {}  # those that expire first are first

    def __len__(self) -> int:
        return len(self._kept)

    def entries(self) -> dict[str, Entry]:
        """All keys that there are."""
        return {key: kept.entry for key, kept in self._kept.items()}

    def get(self, key: str) -> Entry | None:
        """What the key has."""
        kept = self._kept.get(key)
        return None if kept is None else kept.entry

    def create(self, key: str, value: bytes, now: float) -> int:
        """As `Store.create`."""
        if key in self._kept:
            raise KeyChangedError("the key is there already")
        return self.put(key, value, now)

    def update(self, key: str, value: bytes, revision: int, now: float) -> int:
        """As `Store.update`."""
        self._expect(key, revision)
        return self.put(key, value, now)

    def put(self, key: str, value: bytes, now: float) -> int:
        """As `Store.put`."""
        self.revision += 1
        self._kept.pop(key, None)
        entry = Entry(value, self.revision)
        self._kept[key] = _Kept(entry, float("inf") if self.ttl_s is None else now + self.ttl_s)
        self._changed(key, entry)
        return self.revision

    def delete(self, key: str, revision: int | None = None) -> None:
        """As `Store.delete`."""
        if revision is not None:
            self._expect(key, revision)
        if self._kept.pop(key, None) is not None:
            self.revision += 1
            self._changed(key, None)

    def expire(self, now: float) -> None:
        """Let keys go whose time is over."""
        while self._kept and (first := next(iter(self._kept.items())))[1].expires <= now:
            del self._kept[first[0]]
            self._changed(first[0], None)

    def clear(self) -> None:
        """Have no keys any more, as a bus that keeps them in memory after its end. Nobody is told."""
        self._kept.clear()

    def _expect(self, key: str, revision: int) -> None:
        there = self._kept.get(key)
        if there is None or there.entry.revision != revision:
            now = "gone" if there is None else f"at revision {there.entry.revision}"
            raise KeyChangedError(f"the key is {now}, expected revision {revision}")
