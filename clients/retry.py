"""Trying again when a connection fails, until it works or cannot work."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from streamcodec.client import backoff
from streamcodec.errors import ConnectionFailed, Refused

__all__ = ["keep_trying"]

_LASTED_S = 10.0


async def keep_trying(attempt: Callable[[], Awaitable[None]], *, note: Callable[[str], None], give_up: Callable[[], bool]) -> None:
    """Await `attempt()` until it succeeds, waiting longer each time; a connection that lasted makes the waits short again.

    Where the server has said how long not to come, the wait is so much longer.

    Raises what the server refuses for good, and any `ConnectionFailed` once `give_up()` says that another attempt makes no sense.
    """
    waits = backoff()
    while True:
        begun = time.monotonic()
        try:
            return await attempt()
        except ConnectionFailed as exc:
            if (isinstance(exc, Refused) and not exc.retry) or give_up():
                raise
            if time.monotonic() - begun > _LASTED_S:
                waits = backoff()
            wait_s = next(waits)
            if isinstance(exc, Refused) and exc.retry_after_s is not None:
                wait_s += exc.retry_after_s
            note(f"{exc}; trying again in {wait_s:.1f} s")
            await asyncio.sleep(wait_s)
