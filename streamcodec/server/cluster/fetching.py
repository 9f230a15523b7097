"""How a node asks the origin of a stream for what it lacks: again where no answer comes, as waiting costs less than a gap.

It is asked for as long as the origin keeps it. How long messages are held back meanwhile is decided by whoever holds them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from streamcodec.server.cluster.bus import BusError
from streamcodec.server.cluster.questions import NodeAnswer

__all__ = ["ASK_AGAIN_S", "Fetching"]

ASK_AGAIN_S = 0.5
"""A question, or its answer, that has taken so long may be lost."""
_ANSWER_S = 2.0  # an origin whose processor is busy answers late
_FIRST_AGAIN_S, _LAST_AGAIN_S = 0.05, 1.0  # where nobody answers at all

log = logging.getLogger("streamcodec.server")


class Fetching:
    """Asks for one thing at a time. `question` asks the origin once, within so many seconds, and raises `BusError` where it cannot.

    `answered` gets the first answer, and whether it is late; None after `kept_s`, in which the time without a bus does not count:
    `connected` says whether it is there.
    """

    def __init__(
        self,
        question: Callable[[int, float], Awaitable[NodeAnswer]],
        connected: Callable[[], bool],
        kept_s: float,
        answered: Callable[[NodeAnswer | None, bool], None],
    ) -> None:
        self._question = question
        self._connected = connected
        self._kept_s = kept_s
        self._answered = answered
        self._task: asyncio.Task[None] | None = None

    def ask(self, next_seq: int) -> None:
        """Ask for all from a number on; an answer to what was asked before is waited for no longer."""
        self.stop()
        self._task = asyncio.get_running_loop().create_task(self._fetch(next_seq))

    def stop(self) -> None:
        """Wait for no answer."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _fetch(self, next_seq: int) -> None:
        loop = asyncio.get_running_loop()
        questions = {loop.create_task(self._answer(next_seq))}
        try:
            done, _ = await asyncio.wait(questions, timeout=ASK_AGAIN_S)
            if late := not done:
                questions.add(loop.create_task(self._answer(next_seq)))
                done, _ = await asyncio.wait(questions, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for question in questions:
                question.cancel()
        self._task = None  # what the answer leads to may be another question
        self._answered(done.pop().result(), late)

    async def _answer(self, next_seq: int) -> NodeAnswer | None:
        loop, wait_s = asyncio.get_running_loop(), _FIRST_AGAIN_S
        give_up = loop.time() + self._kept_s
        while True:
            try:
                return await self._question(next_seq, _ANSWER_S)
            except BusError as exc:
                if not self._connected():
                    give_up = loop.time() + self._kept_s
                if loop.time() >= give_up:
                    log.debug("what is missing does not come: %s", exc)
                    return None
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, _LAST_AGAIN_S)
