"""A bus within one process, for tests and simulations: nodes on one hub that can be cut off, from the hub or from each other.

It behaves as a bus over a network does: a message arrives in a later turn of the event loop, an answer of a store as well, and who loses
the connection while it waits for an answer does not know whether its change was made.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from streamcodec.server.cluster.bus import Answering, BusError, Entry, NobodyAnswersError, Store, Subscription, Taking
from streamcodec.server.cluster.keys import KeyTable
from streamcodec.server.cluster.memory_delivery import MemoryAnswers, MemorySubscription

__all__ = ["MemoryBus", "MemoryHub"]

log = logging.getLogger("streamcodec.server")

_Changed = Callable[[str, Entry | None], None]


class MemoryHub:
    """What the nodes of one process have instead of a network. `clock` (s) says when keys expire; None: the running loop's.

    With a clock of its own call `expire` after it has moved.
    """

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self.buses: list[MemoryBus] = []
        self.stopped = False
        self._clock = clock
        self._separated: set[frozenset[MemoryBus]] = set()
        self._tables: dict[str, KeyTable] = {}
        self._watches: dict[str, list[_MemoryWatch]] = {}

    def cut(self, bus: MemoryBus) -> None:
        """Take a node's connection away."""
        bus.cut_off = True
        bus.look()

    def heal(self, bus: MemoryBus) -> None:
        """Give a node its connection back."""
        bus.cut_off = False
        bus.look()

    def separate(self, one: MemoryBus, other: MemoryBus) -> None:
        """Lose all messages and questions between two nodes. Both still have the stores."""
        self._separated.add(frozenset({one, other}))

    def reunite(self, one: MemoryBus, other: MemoryBus) -> None:
        """End what `separate` began."""
        self._separated.discard(frozenset({one, other}))

    def stop(self) -> None:
        """Take all connections and all keys away, as a bus that keeps them in memory does when it dies."""
        self.stopped = True
        for table in self._tables.values():
            table.clear()
        for bus in self.buses:
            bus.look()

    def start(self) -> None:
        """Be there again."""
        self.stopped = False
        for bus in self.buses:
            bus.look()

    def expire(self) -> None:
        """Let keys go whose time is over."""
        for table in self._tables.values():
            table.expire(self.now())

    # For `MemoryBus` -----------------------------------------------------------------------------------------------------------------

    def now(self) -> float:
        return asyncio.get_running_loop().time() if self._clock is None else self._clock()

    def reaches(self, sender: MemoryBus, bus: MemoryBus) -> bool:
        return sender.connected and bus.connected and frozenset({sender, bus}) not in self._separated

    def table(self, name: str, ttl_s: float | None) -> KeyTable:
        if name not in self._tables:
            self._tables[name] = KeyTable(ttl_s, partial(self._changed, name))
        table = self._tables[name]
        table.expire(self.now())
        return table

    def written(self, table: KeyTable) -> None:
        if table.ttl_s is not None and self._clock is None:
            loop = asyncio.get_running_loop()
            loop.call_at(loop.time() + table.ttl_s, self.expire)

    def watches(self, name: str) -> list[_MemoryWatch]:
        return self._watches.setdefault(name, [])

    def watches_of(self, bus: MemoryBus) -> list[_MemoryWatch]:
        return [watch for watches in self._watches.values() for watch in watches if watch.bus is bus]

    def _changed(self, name: str, key: str, entry: Entry | None) -> None:
        for watch in self.watches(name):
            if watch.bus.connected:
                watch.hear(key, entry)


class MemoryBus:
    """One node's connection to a `MemoryHub`, as `Bus` describes it."""

    def __init__(self, hub: MemoryHub) -> None:
        self.hub = hub
        self.connected = False
        self.cut_off = False
        self._opened = False
        self._calls: list[Callable[[bool], None]] = []
        self._subscriptions: dict[str, list[MemorySubscription]] = {}
        self._answering: dict[str, list[Answering]] = {}
        self._asked: set[asyncio.Future[bytes]] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def on_connected(self, call: Callable[[bool], None]) -> None:
        self._calls.append(call)

    async def open(self) -> None:
        await asyncio.sleep(0)
        if self.cut_off or self.hub.stopped:
            raise BusError("the bus cannot be reached")
        self.hub.buses.append(self)
        self._opened = self.connected = True
        for watch in self.hub.watches_of(self):
            watch.catch_up()

    async def close(self) -> None:
        self._opened = self.connected = False
        self._fail_questions("the bus is closed")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for subscription in [one for group in self._subscriptions.values() for one in group]:
            subscription.close()
        for watch in self.hub.watches_of(self):
            watch.close()
        self._answering.clear()
        if self in self.hub.buses:
            self.hub.buses.remove(self)

    def publish(self, subject: str, data: bytes) -> None:
        for bus in self.hub.buses:
            if self.hub.reaches(self, bus):
                for subscription in bus._subscriptions.get(subject, ()):
                    subscription.put(data)

    def subscribe(self, subject: str, take: Taking, *, max_waiting: int = 1000) -> Subscription:
        group = self._subscriptions.setdefault(subject, [])
        subscription = MemorySubscription(take, max_waiting, group)
        group.append(subscription)
        return subscription

    async def flush(self) -> None:
        await self.reach()

    def answer(self, subject: str, answering: Answering) -> Subscription:
        group = self._answering.setdefault(subject, [])
        group.append(answering)
        return MemoryAnswers(answering, group)

    async def ask(self, subject: str, data: bytes, timeout_s: float) -> bytes:
        await self.reach()
        asked = [(bus, answering) for bus in self.hub.buses if bus.connected for answering in bus._answering.get(subject, ())]
        if not asked:
            raise NobodyAnswersError("nobody answers")
        answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._asked.add(answered)
        try:
            async with asyncio.timeout(timeout_s):
                for bus, answering in asked:
                    if self.hub.reaches(self, bus):
                        bus._start(bus._answer(answering, data, self, answered))
                return await answered
        except TimeoutError:
            raise BusError(f"nobody has answered within {timeout_s:g} s") from None
        finally:
            self._asked.discard(answered)

    def store(self, name: str, *, ttl_s: float | None = None) -> Store:
        return _MemoryStore(self, name, ttl_s)

    async def reach(self) -> None:
        """The way to the hub, or back. Raises `BusError`."""
        await asyncio.sleep(0)
        if not self.connected:
            raise BusError("the bus cannot be reached")

    def look(self) -> None:
        """Notice whether the connection is there."""
        connected = self._opened and not self.cut_off and not self.hub.stopped
        if connected is self.connected:
            return
        self.connected = connected
        if connected:
            for watch in self.hub.watches_of(self):
                watch.catch_up()
        else:
            self._fail_questions("the connection to the bus is lost")
        for call in self._calls:
            asyncio.get_running_loop().call_soon(call, connected)

    def _fail_questions(self, reason: str) -> None:
        for answered in self._asked:
            if not answered.done():
                answered.set_exception(BusError(reason))

    async def _answer(self, answering: Answering, data: bytes, asker: MemoryBus, answered: asyncio.Future[bytes]) -> None:
        try:
            answer = await answering(data)
        except Exception:
            log.exception("a question of another node could not be answered")
            return
        if self.hub.reaches(self, asker) and not answered.done():
            answered.set_result(answer)

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _MemoryStore:
    """A node's view of a `KeyTable`."""

    def __init__(self, bus: MemoryBus, name: str, ttl_s: float | None) -> None:
        self._bus = bus
        self._name = name
        self._ttl_s = ttl_s

    async def get(self, key: str) -> Entry | None:
        await self._bus.reach()
        entry = self._table.get(key)
        await self._bus.reach()
        return entry

    async def create(self, key: str, value: bytes) -> int:
        return await self._write(lambda table, now: table.create(key, value, now))

    async def update(self, key: str, value: bytes, revision: int) -> int:
        return await self._write(lambda table, now: table.update(key, value, revision, now))

    async def put(self, key: str, value: bytes) -> int:
        return await self._write(lambda table, now: table.put(key, value, now))

    async def delete(self, key: str, revision: int | None = None) -> None:
        await self._bus.reach()
        self._table.delete(key, revision)
        await self._bus.reach()

    def watch(self, changed: _Changed) -> Subscription:
        watch = _MemoryWatch(self._bus, changed, lambda: self._table, self._bus.hub.watches(self._name))
        self._bus.hub.watches(self._name).append(watch)
        if self._bus.connected:
            watch.catch_up()
        return watch

    @property
    def _table(self) -> KeyTable:
        return self._bus.hub.table(self._name, self._ttl_s)

    async def _write(self, change: Callable[[KeyTable, float], int]) -> int:
        await self._bus.reach()
        revision = change(self._table, self._bus.hub.now())
        self._bus.hub.written(self._table)
        await self._bus.reach()
        return revision


class _MemoryWatch:
    """A subscription to the changes of a store; after a connection was lost it tells what has changed meanwhile."""

    dropped = 0

    def __init__(self, bus: MemoryBus, changed: _Changed, table: Callable[[], KeyTable], group: list[_MemoryWatch]) -> None:
        self.bus = bus
        self._changed = changed
        self._table = table
        self._group = group
        self._told: dict[str, Entry] = {}

    def hear(self, key: str, entry: Entry | None) -> None:
        if self._told.get(key) == entry:
            return
        if entry is None:
            del self._told[key]
        else:
            self._told[key] = entry
        asyncio.get_running_loop().call_soon(self._tell, key, entry)

    def catch_up(self) -> None:
        there = self._table().entries()
        for key in [*there, *(self._told.keys() - there.keys())]:
            self.hear(key, there.get(key))

    def close(self) -> None:
        if self in self._group:
            self._group.remove(self)

    def _tell(self, key: str, entry: Entry | None) -> None:
        if self in self._group:
            self._changed(key, entry)
