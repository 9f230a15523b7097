"""A listener's queue: what waits to be sent to one connection, bounded in seconds of audio.

When it is full the oldest packets go and a gap takes their place: a listener that cannot follow hears the present and knows what it lost.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from streamcodec.errors import RemoteProtocolError, WireCode
from streamcodec.protocol import Format, Gap, Message, Packet

__all__ = ["Listener"]

# Gaps and starts weigh no seconds, so they need a bound of their own: a publisher may send as many as it likes.
_MOST_MESSAGES = 4096


class Listener:
    """One listening connection as its stream sees it.

    `n_q` is the most codebooks it wants (None: as many as the stream has). `progressed` is called whenever the queue gets shorter.
    `given_up` says that a fast publisher has waited for it in vain; it holds until half the queue is free.
    """

    def __init__(self, name: str, format: Format, n_q: int | None, history_s: float, limit_s: float) -> None:
        self.name = name
        self.format = format
        self.n_q = n_q
        self.history_s = history_s
        self.queued_s = 0.0
        self.dropped = 0
        self.given_up = False
        self.progressed: Callable[[], None] = lambda: None
        self._limit_s = limit_s
        self._queue: deque[tuple[Message, float]] = deque()
        self._ready = asyncio.Event()

    @property
    def empty(self) -> bool:
        """Whether nothing waits, control messages included."""
        return not self._queue

    @property
    def lagging(self) -> bool:
        """Whether more than half of the bound waits."""
        return self.queued_s > self._limit_s / 2

    def put(self, message: Message, duration_s: float = 0.0) -> None:
        """Queue a message; `duration_s` is the audio that a packet holds."""
        if len(self._queue) > _MOST_MESSAGES:
            return  # `get` says so
        self._queue.append((message, duration_s))
        self.queued_s += duration_s
        if self.queued_s > self._limit_s:
            self._drop_oldest()
        self._ready.set()

    async def get(self) -> Message:
        """The next message, in order; raises `RemoteProtocolError` SLOW_LISTENER where not even gaps can be queued any more."""
        while not self._queue:
            self._ready.clear()
            await self._ready.wait()
        if len(self._queue) > _MOST_MESSAGES:
            raise RemoteProtocolError(WireCode.SLOW_LISTENER, f"more than {_MOST_MESSAGES} messages wait to be sent")
        message, duration_s = self._queue.popleft()
        # Sums of floats leave a rest: an empty queue holds nothing.
        self.queued_s = self.queued_s - duration_s if self._queue else 0.0
        self.given_up = self.given_up and self.lagging
        self.progressed()
        return message

    def _drop_oldest(self) -> None:
        kept: deque[tuple[Message, float]] = deque()
        for message, duration_s in self._queue:
            if isinstance(message, Packet) and self.lagging:
                self.queued_s -= duration_s
                self.dropped += 1
                message, duration_s = Gap(first_seq=message.seq, count=1, reason="slow_listener"), 0.0
            last = kept[-1][0] if kept else None
            if isinstance(message, Gap) and isinstance(last, Gap):
                # What is missing here is named once: two gaps in a row follow on each other.
                reason = last.reason if last.reason == message.reason else "slow_listener"
                message = Gap(first_seq=last.first_seq, count=last.count + message.count, reason=reason)
                kept.pop()
            kept.append((message, duration_s))
        self._queue = kept
