"""Connecting again: a connection that broke is resumed where it was, and an attempt that failed is repeated.

`reopen` resumes one connection for as long as the server keeps its state. `keep_trying` runs a whole attempt again, from its beginning.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections.abc import Awaitable, Callable, Iterator

from streamcodec.client.connection import Connection, open_connection
from streamcodec.errors import ConnectionFailed, Refused, UntrustedServerError, printable
from streamcodec.protocol import ListenHello, PublishHello

__all__ = ["MAX_HOPS", "Destination", "Note", "backoff", "keep_trying", "reopen"]

Note = Callable[[str], None]

_FIRST_WAIT_S = 0.1
_MAX_WAIT_S = 2.0
# A connection that lasted longer than this does not count as a failed attempt.
_LASTED_S = 10.0


MAX_HOPS = 5
"""So many servers in a row may send a client on to the next one."""


class Destination:
    """Where a client connects: the address that it was given, or the one to which a server has sent it on."""

    def __init__(self, url: str) -> None:
        self.url = self._given = url
        self._hops = 0

    @property
    def sent_on(self) -> bool:
        """Whether it is another address than the one that was given."""
        return self.url != self._given

    def next(self, failed: ConnectionFailed, *, lasted: bool) -> bool:
        """Choose where the attempt after a `failed` one goes; returns whether that is where the server has sent the client.

        `lasted` says that the connection had been there for a while. It never goes from wss:// to ws://, where others could read the token.
        """
        if lasted:
            self._hops = 0
        go_to = failed.go_to if isinstance(failed, Refused) and failed.retry else None
        if go_to is None or self._hops >= MAX_HOPS or (self.url.startswith("wss:") and not go_to.startswith("wss:")):
            self.url = self._given
            return False
        self.url, self._hops = go_to, self._hops + 1
        return True


def backoff(first_s: float = 0.25, max_s: float = 8.0, rng: random.Random | None = None) -> Iterator[float]:
    """Waiting times in seconds, without end.

    Each is drawn evenly from half to all of a bound that doubles from `first_s` to `max_s`, so that clients do not come all at once.
    """
    rng = rng or random.Random()
    bound = first_s
    while True:
        yield rng.uniform(bound / 2, bound)
        bound = min(max_s, 2 * bound)


async def reopen(
    url: str, hello: Callable[[], PublishHello | ListenHello], lost: Exception, within_s: float, tls: ssl.SSLContext | None = None
) -> Connection:
    """Connect again until it works, for at most `within_s`; each attempt sends what `hello` returns, and `tls` says whom to trust.

    Raises `lost`, the reason why the connection broke, where no attempt succeeds, and a `Refused` that says where to go instead.
    """
    give_up = time.monotonic() + within_s
    for wait_s in backoff(_FIRST_WAIT_S, _MAX_WAIT_S):
        left_s = give_up - time.monotonic()
        if left_s <= 0:
            break
        await asyncio.sleep(min(wait_s, left_s))
        # If a network is about to be lost, an attempt may never be answered. There must be time for another attempt on the next network.
        share_s = (give_up - time.monotonic()) / 3
        try:
            return await open_connection(url, hello(), timeout_s=max(0.1, min(10.0, share_s)), tls=tls)
        except Refused as exc:
            if exc.go_to is not None:
                raise  # there is another server, and nothing to wait for here
            if not exc.retry:
                raise lost from exc
        except ConnectionFailed:
            continue
    raise lost


async def keep_trying(
    attempt: Callable[[], Awaitable[None]],
    *,
    destination: Destination | None = None,
    note: Note = lambda _: None,
    give_up: Callable[[], bool] = lambda: False,
) -> None:
    """Await `attempt()` until it succeeds; the waiting time between two attempts grows. It is short again after a connection that lasted.

    Where the server named a time before which it wants no new attempt, that time is added. `note` gets a line about each failure. Where the
    server has sent its clients to another one, `destination` follows, for the next attempt to go there.

    Raises a `Refused` that another attempt cannot change, `UntrustedServerError`, and any `ConnectionFailed` once `give_up()` is true.
    """
    waits = backoff()
    while True:
        begun = time.monotonic()
        try:
            return await attempt()
        except ConnectionFailed as exc:
            # A server that this one was sent on to, and that it does not trust, is no reason to leave the one that it was given.
            untrusted = isinstance(exc, UntrustedServerError) and (destination is None or not destination.sent_on)
            if untrusted or (isinstance(exc, Refused) and not exc.retry) or give_up():
                raise
            if lasted := time.monotonic() - begun > _LASTED_S:
                waits = backoff()
            wait_s = next(waits)
            if destination is not None and destination.next(exc, lasted=lasted):
                note(f"{exc}; going on at {printable(destination.url)} in {wait_s:.1f} s")
                await asyncio.sleep(wait_s)
                continue
            if isinstance(exc, Refused) and exc.retry_after_s is not None:
                wait_s += exc.retry_after_s
            note(f"{exc}; trying again in {wait_s:.1f} s")
            await asyncio.sleep(wait_s)
