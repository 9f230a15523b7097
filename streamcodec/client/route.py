"""Where a client goes next: where its server sends it, to the servers that know the same streams, or back. No clock and no sockets."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from streamcodec.errors import ConnectionFailed, Refused

__all__ = ["MAX_HOPS", "Destination", "SessionRoute", "may_follow"]

MAX_HOPS = 5
"""So many servers in a row may send a client on to the next one."""


def may_follow(at: str, go_to: str) -> bool:
    """Whether a client of the server `at` may go on to the address `go_to`, which that server has named.

    Not from wss:// to ws://, where others could read the token, and not to what is no address of a server.
    """
    if at.startswith("wss:") and not go_to.startswith("wss:"):
        return False
    try:
        parts = urlsplit(go_to)
        host, port = parts.hostname or "", parts.port
        host.encode("idna")
    except ValueError:
        return False
    return parts.scheme in ("ws", "wss") and host != "" and port != 0 and "@" not in parts.netloc and "#" not in go_to


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
        """Choose where the attempt after a `failed` one goes; returns whether that is where a server has sent the client.

        `lasted` says that the connection had been there for a while. It never goes from wss:// to ws://, where others could read the token.
        """
        if lasted:
            self._hops = 0
        go_to = None if isinstance(failed, Refused) and not failed.retry else failed.go_to
        if go_to is None or go_to == self._given or self._hops >= MAX_HOPS or not may_follow(self.url, go_to):
            self.url = self._given
            return False
        self.url, self._hops = go_to, self._hops + 1
        return True


class SessionRoute:
    """The addresses at which a session may go on, from `given`, where it began, on; `url` is where it is, or was."""

    def __init__(self, url: str) -> None:
        self.url = self.given = url
        self._alternates: tuple[str, ...] = ()
        self._sent_to: str | None = None
        self._left_out: set[str] = set()
        self._hops = 0

    def reached(self, url: str, alternates: Iterable[str]) -> None:
        """The session goes on at `url`, whose server names `alternates`."""
        self.url, self._alternates = url, tuple(alternates)
        self._sent_to = None
        self._left_out.clear()

    def lasted(self) -> None:
        """The connection had been there for a while: the count of hops begins anew."""
        self._hops = 0

    def follow(self, go_to: str) -> bool:
        """Whether to go on at `go_to`, where the session has moved; False where servers have sent it on too often in a row."""
        if self._hops >= MAX_HOPS:
            return False
        self._hops += 1
        self._sent_to = go_to
        return True

    def leave_out(self, url: str) -> None:
        """Do not try `url` again before the session has gone on elsewhere: its server says no to this client."""
        self._left_out.add(url)

    def round(self) -> list[str]:
        """The addresses to try in turn: where the session was, the alternates, where it was sent last, and the one that was given."""
        others = [*self._alternates, *([] if self._sent_to is None else [self._sent_to]), self.given]
        allowed = [url for url in others if url not in self._left_out and may_follow(self.url, url)]
        return list(dict.fromkeys([self.url, *allowed]))
