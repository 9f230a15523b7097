"""Whose handshake is next: so many a second in all, and addresses take turns, so that one that opens many lets others in between.

A handshake takes the loop about a millisecond, a hundred times what it takes to turn somebody away. Who waits takes no time at all.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable

from streamcodec.server.rate import Rate, TokenBucket

__all__ = ["FairQueue", "HandshakeTurns"]

Go = Callable[[], None]


class FairQueue:
    """Entries that wait, in groups: groups take turns, and within one whoever came first is first."""

    def __init__(self) -> None:
        self._groups: OrderedDict[str, deque[Go]] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, group: str, entry: Go) -> None:
        """`entry` waits from now on, behind the others of its `group`."""
        self._groups.setdefault(group, deque()).append(entry)
        self._size += 1

    def remove(self, group: str, entry: Go) -> None:
        """`entry` waits no longer; nothing happens where it does not wait."""
        if entry in (waiting := self._groups.get(group, deque())):
            waiting.remove(entry)
            self._taken(group)

    def next(self) -> Go:
        """Take out the first entry of the group whose turn it is. Raises `IndexError` where nobody waits."""
        if not self._groups:
            raise IndexError("nobody waits")
        group = next(iter(self._groups))
        entry = self._groups[group].popleft()
        self._groups.move_to_end(group)
        self._taken(group)
        return entry

    def _taken(self, group: str) -> None:
        self._size -= 1
        if not self._groups[group]:
            del self._groups[group]


class HandshakeTurns:
    """Calls those that `ask`, so many a second as `rate` says; whoever must wait waits in a `FairQueue`."""

    def __init__(self, rate: Rate, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._bucket = TokenBucket(rate, loop.time)
        self._queue = FairQueue()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def num_waiting(self) -> int:
        """How many wait."""
        return len(self._queue)

    def ask(self, group: str, go: Go) -> None:
        """Call `go` at once, or as soon as its turn has come."""
        if not self._queue and self._bucket.takes():
            go()
            return
        self._queue.add(group, go)
        self._wake()

    def withdraw(self, group: str, go: Go) -> None:
        """`go` is not to be called any longer."""
        self._queue.remove(group, go)

    def close(self) -> None:
        """Call nobody any more."""
        self._queue = FairQueue()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wake(self) -> None:
        if self._timer is None and self._queue:
            # A little later than the token comes: a clock that has not moved on must not make this wait for nothing again and again.
            self._timer = self._loop.call_later(max(0.001, self._bucket.wait_s()), self._let_go)

    def _let_go(self) -> None:
        self._timer = None
        while self._queue and self._bucket.takes():
            self._queue.next()()
        self._wake()
