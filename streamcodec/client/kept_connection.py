"""A connection that is kept: resumed where it broke, at another server that knows the session, or where the session has moved."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable

from streamcodec.client.connection import Connection, open_connection
from streamcodec.client.reconnect import LASTED_S, Note, reopen
from streamcodec.client.route import SessionRoute
from streamcodec.client.tokens import Token, may_go_on
from streamcodec.errors import printable
from streamcodec.protocol import ListenHello, PublishHello

__all__ = ["KeptConnection"]


class KeptConnection:
    """One connection after another of one session; `resumed` counts them. `tls` says whom to trust, and `note` is told of each in a line.

    A session that ends as its token has expired goes on where `token` gives another one.
    """

    def __init__(self, url: str, note: Note, tls: ssl.SSLContext | None = None, token: Token = None) -> None:
        self.current: Connection
        self.resumed = 0
        self._route = SessionRoute(url)
        self._note = note
        self._tls = tls
        self._token = token
        self._opened = 0.0
        self._leaving: set[asyncio.Task[None]] = set()

    async def open(self, hello: PublishHello | ListenHello) -> Connection:
        """Connect for the first time."""
        self._reached(await open_connection(self._route.url, hello, tls=self._tls))
        return self.current

    async def resume(self, lost: Exception, hello: Callable[[], PublishHello | ListenHello]) -> Connection:
        """Go on after a connection that ended with `lost`; each attempt sends what `hello` returns. Raises `lost` where it cannot go on."""
        broken, begun = self.current, time.monotonic()
        resume_s = broken.welcome.resume_ms / 1000
        assert broken.session.hello is not None
        if resume_s == 0 or not may_go_on(lost, broken.session.hello.token, self._token):
            raise lost
        # Nothing waits for the end of the old connection: where the session has moved, the next one is made meanwhile.
        leaving = asyncio.create_task(broken.close())
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)
        if begun - self._opened > LASTED_S:
            self._route.lasted()
        self._reached(await reopen(self._route, hello, lost, resume_s, self._tls))
        self.resumed += 1
        where = "" if self.current.url == broken.url else f" at {printable(self.current.url)}"
        self._note(f"{lost}; resumed{where} after {time.monotonic() - begun:.1f} s")
        return self.current

    async def close(self) -> None:
        """Close the connection, and wait until all are closed."""
        await self.current.close()
        await asyncio.gather(*self._leaving, return_exceptions=True)

    def _reached(self, connection: Connection) -> None:
        self.current, self._opened = connection, time.monotonic()
        self._route.reached(connection.url, connection.welcome.alternates)
