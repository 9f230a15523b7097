"""Connecting again after a connection broke, for as long as the server keeps what was going on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from streamcodec.client.backoff import backoff
from streamcodec.client.connection import Connection, open_connection
from streamcodec.errors import ConnectionFailed, Refused
from streamcodec.protocol import ListenHello, PublishHello

__all__ = ["Note", "reopen", "resumable"]

Note = Callable[[str], None]

_FIRST_WAIT_S = 0.1
_MAX_WAIT_S = 2.0


def resumable(lost: Exception, resume_ms: int) -> bool:
    """Whether a connection that ended so may be opened again where it was: it broke, and nobody said goodbye."""
    return type(lost) is ConnectionFailed and resume_ms > 0


async def reopen(url: str, hello: Callable[[], PublishHello | ListenHello], lost: Exception, within_s: float) -> Connection:
    """Connect again until it works, for at most `within_s`; `hello` is asked for what to say each time.

    Raises `lost`, why the connection broke, where it comes to nothing.
    """
    give_up = time.monotonic() + within_s
    for wait_s in backoff(_FIRST_WAIT_S, _MAX_WAIT_S):
        left_s = give_up - time.monotonic()
        if left_s <= 0:
            break
        await asyncio.sleep(min(wait_s, left_s))
        # Tried on a network that is just going away it may never be answered: there must be time to try on the next one.
        share_s = (give_up - time.monotonic()) / 3
        try:
            return await open_connection(url, hello(), timeout_s=max(0.1, min(10.0, share_s)))
        except Refused as exc:
            if not exc.retry:
                raise lost from exc
        except ConnectionFailed:
            continue
    raise lost
