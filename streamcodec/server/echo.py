"""Echo tests: a client publishes under a name of its own, listens to the same name, and hears itself. The wire knows nothing of it.

Whoever comes to test a connection has no token yet. So where the operator allows echo tests, these names need none. They are bounded: so
many run at a time, each for a while, and with few listeners. They are not recorded.
"""

from __future__ import annotations

from collections.abc import Callable

from streamcodec.errors import RemoteProtocolError, WireCode
from streamcodec.protocol import ListenHello, PublishHello
from streamcodec.server.limits import Limits

__all__ = ["ECHO_PREFIX", "MAX_ECHO_LISTENERS", "EchoTests"]

ECHO_PREFIX = "echo."
MAX_ECHO_LISTENERS = 2
"""Listeners for each echo test: one that hears it, and one more while a connection that broke is made again."""


class EchoTests:
    """Which streams are echo tests, and how many of them there may be; where they are not `allowed`, their names are like any other."""

    def __init__(self, limits: Limits, *, allowed: bool) -> None:
        self._limits = limits
        self._allowed = allowed

    def has(self, stream: str) -> bool:
        """Whether a stream of that name is an echo test."""
        return self._allowed and stream.startswith(ECHO_PREFIX)

    def no_place(
        self, hello: PublishHello | ListenHello, streams: Callable[[], list[str]], listeners: Callable[[], list[str]]
    ) -> str | None:
        """Why there is no place for `hello`, where it is of an echo test.

        `streams` tells the names of all that are published, `listeners` the name that each listener listens to.
        """
        if not self.has(hello.stream):
            return None
        most = self._limits.max_echo_tests
        if isinstance(hello, PublishHello):
            return f"the server has its {most} echo tests" if sum(map(self.has, streams())) >= most else None
        names = listeners()
        if names.count(hello.stream) >= MAX_ECHO_LISTENERS:
            return f"this echo test has its {MAX_ECHO_LISTENERS} listeners"
        if sum(map(self.has, names)) >= MAX_ECHO_LISTENERS * most:
            return f"the server has its {MAX_ECHO_LISTENERS * most} listeners of echo tests"
        return None

    def over(self) -> RemoteProtocolError:
        """What the publisher of an echo test is told when its time is over."""
        return RemoteProtocolError(WireCode.TIMEOUT, f"an echo test lasts {self._limits.echo_test_s:g} s at most")
