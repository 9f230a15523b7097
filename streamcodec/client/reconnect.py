"""Connecting again: a session whose connection is over is resumed, and an attempt that failed is repeated.

`reopen` resumes one session, where it was or at a server that knows it, for as long as its state is kept. `keep_trying` runs a whole
attempt again, from its beginning.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator

from streamcodec.client.connection import Connection, open_connection
from streamcodec.client.route import MAX_HOPS, Destination, SessionRoute
from streamcodec.errors import ConnectionFailed, Refused, RemoteProtocolError, UntrustedServerError, WireCode, printable
from streamcodec.protocol import ListenHello, PublishHello

__all__ = ["LASTED_S", "MAX_HOPS", "Destination", "Note", "backoff", "keep_trying", "reopen"]

Note = Callable[[str], None]

_FIRST_WAIT_S = 0.1
_MAX_WAIT_S = 2.0
_PATIENCE_S = 2.0  # for the first answer where there are other servers; it doubles from round to round
LASTED_S = 10.0
"""A connection that lasted longer than this does not count as a failed attempt."""


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
    route: SessionRoute,
    hello: Callable[[], PublishHello | ListenHello],
    lost: Exception,
    within_s: float,
    tls: ssl.SSLContext | None = None,
) -> Connection:
    """Connect again until it works, for at most `within_s`; each attempt sends what `hello` returns, and `tls` says whom to trust.

    Where `lost`, the reason why the connection is over, says that the session has moved, the first attempt is made there at once. All
    others are made at the addresses of `route` in turn.

    Raises `lost` where no attempt succeeds; its `go_to` is then the server that has said that the session is over, or None. Raises a
    `Refused` that says where to go instead where no server takes the session.
    """
    give_up = time.monotonic() + within_s
    ahead: deque[str] = deque()
    patience_s, instead = _PATIENCE_S, None

    def follow(told: Exception) -> None:
        if isinstance(told, Refused) and told.code == WireCode.MOVED and told.go_to is not None:
            if not route.follow(told.go_to):
                raise _ended(lost, None)
            ahead.appendleft(told.go_to)

    follow(lost)
    for wait_s in backoff(_FIRST_WAIT_S, _MAX_WAIT_S):
        others = len(route.round()) > 1
        while ahead and (left_s := give_up - time.monotonic()) > 0:
            url, greeting = ahead.popleft(), hello()
            # If a network is about to be lost, an attempt may never be answered. There must be time for another one on the next network.
            bound_s = min(10.0, left_s / 3, patience_s if others else 10.0)
            try:
                return await open_connection(url, greeting, timeout_s=max(0.1, bound_s), tls=tls)
            except Refused as exc:
                if exc.code == WireCode.MOVED:
                    follow(exc)
                elif exc.code == WireCode.UNKNOWN_SESSION or (url == route.url and not exc.retry):
                    raise _ended(lost, None if url == route.given else url) from exc
                elif not exc.retry:
                    route.leave_out(url)
                elif url == route.url and exc.go_to is not None:
                    instead = exc  # its server does not wait for the session, and names one that does not know it
            except RemoteProtocolError:
                if url == route.url:
                    raise
                route.leave_out(url)
            except ConnectionFailed:
                continue
        if instead is not None:
            raise instead
        if (left_s := give_up - time.monotonic()) <= 0:
            break
        await asyncio.sleep(min(wait_s, left_s))
        ahead.extend(route.round())
        patience_s *= 2 if others else 1
    raise _ended(lost, None)


def _ended(lost: Exception, at: str | None) -> Exception:
    """`lost`, where no attempt to resume can succeed any more; whoever begins anew does so `at` this address."""
    if isinstance(lost, ConnectionFailed):
        lost.go_to = at
    return lost


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
            if lasted := time.monotonic() - begun > LASTED_S:
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
