"""How a message comes from a `MemoryHub` to whoever takes it: in a later turn of the loop, or not at all where too many wait."""

from __future__ import annotations

import asyncio
from collections import deque

from streamcodec.server.cluster.bus import Answering, Taking

__all__ = ["MemoryAnswers", "MemorySubscription"]


class MemorySubscription:
    """A subscription: its messages wait for the next turn of the loop."""

    def __init__(self, take: Taking, max_waiting: int, group: list[MemorySubscription]) -> None:
        self.dropped = 0
        self._take = take
        self._max_waiting = max_waiting
        self._group = group
        self._waiting: deque[bytes] = deque()

    def put(self, data: bytes) -> None:
        if len(self._waiting) >= self._max_waiting:
            self.dropped += 1
            return
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._deliver)
        self._waiting.append(data)

    def close(self) -> None:
        self._waiting.clear()
        if self in self._group:
            self._group.remove(self)

    def _deliver(self) -> None:
        # What is put meanwhile waits for a turn of its own.
        for _ in range(len(self._waiting)):
            if self._waiting:  # nobody has closed it meanwhile
                self._take(self._waiting.popleft())
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._deliver)


class MemoryAnswers:
    """A subscription to questions, of which none is dropped."""

    dropped = 0

    def __init__(self, answering: Answering, group: list[Answering]) -> None:
        self._answering = answering
        self._group = group

    def close(self) -> None:
        if self._answering in self._group:
            self._group.remove(self._answering)
