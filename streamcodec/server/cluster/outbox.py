"""What waits to be sent on a connection, in order: messages, which grow old, and commands, which do not."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["MAX_AGE_S", "MAX_OUT", "Outbox", "Outgoing"]

C = TypeVar("C")

MAX_OUT = 4096
"""So many messages may wait."""
MAX_AGE_S = 1.0
"""A message that has waited longer is not sent: it holds audio that nobody plays any more."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message for a subject, which was published at a time (s)."""

    at: float
    subject: str
    data: bytes


class Outbox(Generic[C]):
    """A queue with a bound. Commands are called with a connection `C`. `clock` tells seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.lost = 0
        """Messages that nobody will send: too many waited, they were too old, or the connection was lost."""
        self._clock = clock
        self._items: deque[Outgoing | Callable[[C], Awaitable[None]]] = deque()
        self._messages = 0
        self._filled = asyncio.Event()

    def __bool__(self) -> bool:
        return bool(self._items)

    def publish(self, subject: str, data: bytes) -> None:
        """Let a message wait, or lose it."""
        if self._messages >= MAX_OUT:
            self.lost += 1
            return
        self._messages += 1
        self._items.append(Outgoing(self._clock(), subject, data))
        self._filled.set()

    def command(self, command: Callable[[C], Awaitable[None]]) -> None:
        """Let a command wait."""
        self._items.append(command)
        self._filled.set()

    def clear(self) -> None:
        """Lose all that waits."""
        self.lost += self._messages
        self._items.clear()
        self._messages = 0

    async def take(self) -> Outgoing | Callable[[C], Awaitable[None]]:
        """What has waited longest and is worth sending."""
        while True:
            while self._items:
                item = self._items.popleft()
                if not isinstance(item, Outgoing):
                    return item
                self._messages -= 1
                if self._clock() - item.at <= MAX_AGE_S:
                    return item
                self.lost += 1
            self._filled.clear()
            await self._filled.wait()
