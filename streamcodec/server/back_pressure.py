"""How a publisher is held back: it may go on as soon as what it has sent is on its way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

from streamcodec.server.fanout.subscriber import Subscriber
from streamcodec.server.limits import Limits

__all__ = ["BackPressure"]


class BackPressure:
    """Holds one stream's publisher back.

    `backlog_s` gives the seconds of audio that wait for the encoder or the decoder, `subscribers` all that listen to the stream.
    """

    def __init__(self, limits: Limits, backlog_s: Callable[[], float], subscribers: Callable[[], Collection[Subscriber]]) -> None:
        self._limits = limits
        self._backlog_s = backlog_s
        self._subscribers = subscribers
        self._progress = asyncio.Event()
        self._released = False

    async def room(self) -> None:
        """Wait until a fast publisher may go on: encoder, decoder and each subscriber are at most half of their bound behind.

        It waits for subscribers for `stall_s` at most. It waits for the machine as long as it takes: nothing is dropped there, so nothing
        else bounds what waits.
        """
        if not self._holds:
            return
        try:
            async with asyncio.timeout(self._limits.stall_s):
                while self._holds:
                    await self._next_progress()
        except TimeoutError:
            for one in self._subscribers():
                one.given_up = one.lagging
            await self.caught_up()

    async def caught_up(self) -> None:
        """Wait until encoder and decoder are not far behind. A live publisher waits so when it sends what piled up while it was away."""
        while self._is_behind:
            await self._next_progress()

    def progressed(self) -> None:
        """Something waits no longer."""
        self._progress.set()

    def release(self) -> None:
        """The stream is ending: nobody is held back any longer."""
        self._released = True
        self._progress.set()

    @property
    def _holds(self) -> bool:
        return self._is_behind or (not self._released and any(one.lagging and not one.given_up for one in self._subscribers()))

    @property
    def _is_behind(self) -> bool:
        return not self._released and self._backlog_s() > self._limits.fast_backlog_s

    async def _next_progress(self) -> None:
        self._progress.clear()
        await self._progress.wait()
