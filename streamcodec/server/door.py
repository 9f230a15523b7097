"""Who may connect at all: so many connections, so many of one address, and so many new ones a second; decided before a byte is read.

The system gives a program a bounded number of descriptors. When they are out nobody can connect, and nothing can be read, so the last
ones are kept.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from pathlib import Path

from streamcodec.errors import WireCode
from streamcodec.server.addresses import AddressRates, peer_key
from streamcodec.server.echo import MAX_ECHO_LISTENERS
from streamcodec.server.limits import Limits
from streamcodec.server.proxies import Proxies
from streamcodec.server.refusals import Bound, LimitReached, Refusals

if sys.platform != "win32":
    import resource

__all__ = ["RESERVED_DESCRIPTORS", "Door", "TurnedAway", "ask_for_descriptors", "free_descriptors"]

RESERVED_DESCRIPTORS = 128
"""For all but connections: the model's files, logs, the event loop, whoever asks for `/metrics` when the server is full."""

_OPEN = Path("/dev/fd")

log = logging.getLogger("streamcodec.server")


@dataclass(frozen=True)
class TurnedAway:
    """Why somebody may not connect, as HTTP says it."""

    status: HTTPStatus
    bound: Bound
    reason: str
    retry_after: str = "5"

    def response(self) -> bytes:
        """The answer to a request that was not read."""
        return _refusal(self.status, self.reason, self.retry_after)


@lru_cache(maxsize=64)  # thousands a second may get the same
def _refusal(status: HTTPStatus, reason: str, retry_after: str) -> bytes:
    body = f"{reason}.\n".encode()
    head = f"HTTP/1.1 {status.value} {status.phrase}\r\nRetry-After: {retry_after}\r\nConnection: close\r\n"
    return f"{head}Content-Type: text/plain; charset=utf-8\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


class Door:
    """Counts connections, and the publishers and echo tests among them: `most` in all.

    `clock` tells seconds; `available` is how many descriptors this process may still open, None where nobody knows. `proxies` have one
    address for many clients, so each connection of theirs is counted by its client's as soon as that is known (`know`).
    """

    def __init__(
        self,
        limits: Limits,
        refusals: Refusals,
        clock: Callable[[], float],
        available: int | None = None,
        proxies: Proxies | None = None,
    ) -> None:
        self.most = limits.max_publishers + limits.max_listeners + limits.max_other_connections
        if available is not None:
            self.most = max(1, min(self.most, available - RESERVED_DESCRIPTORS))
        self.num_connections = 0
        self._limits = limits
        self._proxies = proxies or Proxies()
        self._refusals = refusals
        self._rates = AddressRates(limits.new_connections, clock)
        self._connections: Counter[str] = Counter()
        self._publishers: Counter[str] = Counter()
        self._tests: Counter[str] = Counter()
        self._test_listeners: Counter[str] = Counter()

    def warn_of_few_files(self) -> None:
        """Tell whoever runs the server where this process may open too few files for all publishers and listeners."""
        if self.most < (wanted := self._limits.max_publishers + self._limits.max_listeners):
            told = "this process may open too few files for its %d publishers and listeners: it takes %d connections (see ulimit -n)"
            log.warning(told, wanted, self.most)

    def enter(self, host: str) -> TurnedAway | None:
        """Somebody connects from `host`: None where they may, and then `leave` is to be called once."""
        away = self._full() or self._reason(host)
        if away is not None:
            return self.turn_away(host, away)
        self.num_connections += 1
        self._count(host, 1)
        return None

    def turn_away(self, host: str, away: TurnedAway) -> TurnedAway:
        """Count somebody from `host` who may not go on."""
        self._refusals.note(away.bound, host, away.reason)
        return away

    def know(self, host: str, client: str) -> TurnedAway | None:
        """Somebody who had entered from `host` is `client`: None where they may stay, and then `client` is who leaves."""
        if client == host:
            return None
        if (away := self._reason(client)) is not None:
            self._refusals.note(away.bound, client, away.reason)
            return away
        self._count(host, -1)
        self._count(client, 1)
        return None

    def leave(self, host: str) -> None:
        """Somebody who had entered is gone."""
        self.num_connections -= 1
        self._count(host, -1)

    def publishing(self, host: str) -> AbstractContextManager[None]:
        """Count a publisher from `host` inside this block. Raises `LimitReached` SERVER_FULL where it has too many."""
        return self._counted(host, self._publishers, self._limits.max_publishers_per_address, "publishers", Bound.PUBLISHERS_OF_ADDRESS)

    def testing(self, host: str, *, publishes: bool) -> AbstractContextManager[None]:
        """As `publishing`, for who publishes or hears an echo test."""
        most = self._limits.max_echo_tests_per_address
        if publishes:
            return self._counted(host, self._tests, most, "echo tests", Bound.ECHO_TESTS_OF_ADDRESS)
        most *= MAX_ECHO_LISTENERS
        return self._counted(host, self._test_listeners, most, "listeners of echo tests", Bound.ECHO_TESTS_OF_ADDRESS)

    @contextlib.contextmanager
    def _counted(self, host: str, counts: Counter[str], most: int, what: str, bound: Bound) -> Iterator[None]:
        if (key := self._key(host)) is None:
            yield
            return
        if counts[key] >= most:
            told = f"this address has its {most} {what}"
            self._refusals.note(bound, host, told)
            raise LimitReached(WireCode.SERVER_FULL, told)
        counts[key] += 1
        try:
            yield
        finally:
            _decrease(counts, key)

    def _key(self, host: str) -> str | None:
        """By what somebody from `host` is counted; None where they are not."""
        return None if self._proxies.trusts(host) else peer_key(host, self._limits.bound_loopback)

    def _full(self) -> TurnedAway | None:
        if self.num_connections < self.most:
            return None
        return TurnedAway(HTTPStatus.SERVICE_UNAVAILABLE, Bound.CONNECTIONS, f"the server has its {self.most} connections")

    def _reason(self, host: str) -> TurnedAway | None:
        if (key := self._key(host)) is None:
            return None
        if self._connections[key] >= (most := self._limits.max_connections_per_address):
            return TurnedAway(HTTPStatus.TOO_MANY_REQUESTS, Bound.CONNECTIONS_OF_ADDRESS, f"this address has its {most} connections")
        if not self._rates.of(key).takes():
            rate = self._limits.new_connections.per_s
            told = f"this address makes more than {rate:g} new connections a second"
            return TurnedAway(HTTPStatus.TOO_MANY_REQUESTS, Bound.NEW_CONNECTIONS, told)
        return None

    def _count(self, host: str, change: int) -> None:
        if (key := self._key(host)) is None:
            return
        if change > 0:
            self._connections[key] += 1
        else:
            _decrease(self._connections, key)


def free_descriptors() -> int | None:
    """How many descriptors this process may still open; None where nobody knows."""
    if sys.platform == "win32" or not _OPEN.is_dir():
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft - len(list(_OPEN.iterdir()))


def ask_for_descriptors(wanted: int) -> None:
    """Let this process open `wanted` descriptors, or as many as the system allows."""
    if sys.platform != "win32":
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            more = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (more, hard))


def _decrease(counts: Counter[str], key: str) -> None:
    counts[key] -= 1
    if not counts[key]:
        del counts[key]
