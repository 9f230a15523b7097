"""A listener's queue: what waits to be sent to one connection, bounded in seconds of audio.

When it is full the oldest packets go and a gap takes their place, so a listener that cannot follow hears the present, and knows what it lost.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from streamcodec.protocol import Format, Gap, Message, Packet

__all__ = ["Listener"]


class Listener:
    """One listening connection as its stream sees it.

    `n_q` is the most codebooks it wants (None: as many as the stream has). `progressed` is called whenever the queue gets shorter.
    """

    def __init__(self, name: str, format: Format, n_q: int | None, history_s: float, limit_s: float) -> None:
        self.name = name
        self.format = format
        self.n_q = n_q
        self.history_s = history_s
        self.queued_s = 0.0
        self.dropped = 0
        self.progressed: Callable[[], None] = lambda: None
        self._limit_s = limit_s
        self._queue: deque[tuple[Message, float]] = deque()
        self._ready = asyncio.Event()

    def put(self, message: Message, duration_s: float = 0.0) -> None:
        """Queue a message; `duration_s` is the audio that a packet holds."""
        self._queue.append((message, duration_s))
        self.queued_s += duration_s
        if self.queued_s > self._limit_s:
            self._drop_oldest()
        self._ready.set()

    async def get(self) -> Message:
        """The next message, in order."""
        while not self._queue:
            self._ready.clear()
            await self._ready.wait()
        message, duration_s = self._queue.popleft()
        self.queued_s -= duration_s
        self.progressed()
        return message

    def _drop_oldest(self) -> None:
        kept: deque[tuple[Message, float]] = deque()
        for message, duration_s in self._queue:
            if not isinstance(message, Packet) or self.queued_s <= self._limit_s / 2:
                kept.append((message, duration_s))
                continue
            self.queued_s -= duration_s
            self.dropped += 1
            last = kept[-1][0] if kept else None
            if isinstance(last, Gap) and last.reason == "slow_listener" and last.next_seq == message.seq:
                kept[-1] = (Gap(first_seq=last.first_seq, count=last.count + 1, reason=last.reason), 0.0)
            else:
                kept.append((Gap(first_seq=message.seq, count=1, reason="slow_listener"), 0.0))
        self._queue = kept
