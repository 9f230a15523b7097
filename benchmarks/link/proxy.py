"""A network on loopback: a TCP proxy that does to a connection what `Conditions` say, so that both ends feel it as they would elsewhere.

    client -> small socket buffer -> what is on its way: due times of a `LinkState`, a bounded number of bytes -> server, and likewise back

Where no more may be on its way the proxy stops reading, and the sender's own buffers fill. TCP shows no loss, only lateness: neither does
this.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Self

from benchmarks.link.conditions import Conditions, LinkState
from benchmarks.link.netns import Namespace

__all__ = ["Link"]

_CHUNK = 1400
_SHARE_S = 0.02  # a piece of a slow link takes no longer
_KERNEL_BYTES = 4096  # asked of the kernel for each socket's buffers; it takes twice as much


class Link:
    """Listens on `port` (then set) and passes on to `to_port`, both on 127.0.0.1; use it as an async context manager.

    `begin` sets the zero of the conditions' time; until then it is far away in the future. In front of a `namespace`, which does to a
    connection what conditions say, the proxy only carries over; `to_port` is then served there too.
    """

    def __init__(self, to_port: int, conditions: Conditions | None = None, namespace: Namespace | None = None) -> None:
        self.conditions = conditions or Conditions()
        self.port = 0
        self.passed = {"up": 0, "down": 0}
        self.connections = 0
        self._courses = _courses(self.conditions)
        self._to = (namespace.host if namespace else "127.0.0.1", to_port)
        self._namespace = namespace
        self._zero = math.inf
        self._begun = asyncio.Event()
        self._pairs: dict[asyncio.Task[bool], tuple[socket.socket, socket.socket]] = {}
        self._carriers: set[_Carrier] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._socket: socket.socket

    @property
    def url(self) -> str:
        """The WebSocket address of its near end."""
        return f"ws://127.0.0.1:{self.port}"

    @property
    def held_bytes(self) -> int:
        """Bytes that are on their way now."""
        return sum(carrier.held for carrier in self._carriers)

    async def __aenter__(self) -> Self:
        self._socket = _plain_socket()
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen()
        self.port = self._socket.getsockname()[1]
        self._tasks = [asyncio.create_task(self._accept()), asyncio.create_task(self._cut())]
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        tasks = [*self._tasks, *self._pairs]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._socket.close()

    def begin(self, at: float | None = None) -> None:
        """Set the conditions' zero: now, or at a time of `time.perf_counter`."""
        self._zero = time.perf_counter() if at is None else at
        self._begun.set()
        if self._namespace is not None:
            self._namespace.begin(self._zero)

    def now(self) -> float:
        """The conditions' time (s)."""
        return time.perf_counter() - self._zero if self._begun.is_set() else -1e6

    def reset(self) -> None:
        """Cut all connections now: both ends see a reset."""
        for task in self._pairs:
            task.cancel("reset")

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            near, _ = await loop.sock_accept(self._socket)
            near.setblocking(False)
            self.connections += 1
            if self.conditions.cut_at(self.now()):
                _reset(near)
                continue
            far = _plain_socket(self._namespace.socket() if self._namespace else None)
            task = asyncio.create_task(self._join(near, far))
            self._pairs[task] = near, far
            task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[bool]) -> None:
        in_order = not task.cancelled() and task.result()
        for end in self._pairs.pop(task):
            # Where something broke, whatever was on its way is gone, and neither end may wait for it.
            end.close() if in_order else _reset(end)

    async def _cut(self) -> None:
        await self._begun.wait()
        for begin, _ in sorted(self.conditions.cuts):
            await _sleep(self._zero + begin - time.perf_counter())
            self.reset()

    async def _join(self, near: socket.socket, far: socket.socket) -> bool:
        """Carry until both ends have closed; says whether they did so in order."""
        loop, conditions = asyncio.get_running_loop(), self.conditions
        up, down = self._courses if conditions.shared else _courses(conditions)
        carriers = {
            _Carrier(near, far, up, self.now, lambda size: self._count("up", size)),
            _Carrier(far, near, down, self.now, lambda size: self._count("down", size)),
        }
        try:
            await loop.sock_connect(far, self._to)
            for end in (near, far):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._carriers |= carriers
            async with asyncio.TaskGroup() as group:
                for carrier in carriers:
                    group.create_task(carrier.read())
                    group.create_task(carrier.write())
            return True
        except (OSError, ExceptionGroup) as exc:
            if isinstance(exc, ExceptionGroup) and exc.split(OSError)[1] is not None:
                raise
            return False
        finally:
            self._carriers -= carriers

    def _count(self, way: str, size: int) -> None:
        self.passed[way] += size


def _courses(conditions: Conditions) -> tuple[LinkState, LinkState]:
    return LinkState(conditions.up), LinkState(conditions.down)


class _Carrier:
    """One direction of one connection."""

    def __init__(
        self, source: socket.socket, sink: socket.socket, course: LinkState, now: Callable[[], float], count: Callable[[int], None]
    ) -> None:
        self.held = 0
        self._source = source
        self._sink = sink
        self._direction = course.direction
        self._course = course
        self._now = now
        self._count = count
        self._queue: deque[tuple[float, bytes]] = deque()  # when due on time.perf_counter; b"" closes
        self._changed = asyncio.Event()

    async def read(self) -> None:
        loop, direction = asyncio.get_running_loop(), self._direction
        while True:
            while (room := direction.buffer_bytes - self.held) <= 0:
                await self._change()
            share = direction.rate_at(self._now()) * _SHARE_S
            data = await loop.sock_recv(self._source, int(min(room, _CHUNK, max(share, 64))))
            now = self._now()
            due = time.perf_counter() + self._course.send(now, len(data)) - now
            self._queue.append((due, data))
            self.held += len(data)
            self._changed.set()
            if not data:
                return

    async def write(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            while not self._queue:
                await self._change()
            due, data = self._queue[0]
            await _sleep(due - time.perf_counter())
            if not data:
                self._sink.shutdown(socket.SHUT_WR)
                return
            await loop.sock_sendall(self._sink, data)
            self._queue.popleft()
            self.held -= len(data)
            self._count(len(data))
            self._changed.set()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()


async def _sleep(seconds: float) -> None:
    """Sleep for ever, too."""
    give_up = time.perf_counter() + seconds
    while (left := give_up - time.perf_counter()) > 0:  # noqa: ASYNC110 - what it waits for is a time
        await asyncio.sleep(min(left, 3600.0))


def _plain_socket(made: socket.socket | None = None) -> socket.socket:
    made = made or socket.socket()
    made.setblocking(False)
    # Before it listens or connects: what a window may grow to is agreed then.
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _KERNEL_BYTES)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _KERNEL_BYTES)
    return made


def _reset(end: socket.socket) -> None:
    """Close with a reset, as a router that forgot the connection would."""
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end.close()
