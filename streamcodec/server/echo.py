"""Echo tests: a client publishes under a name of its own, listens to the same name, and hears itself. The wire knows nothing of it.

Whoever comes to test a connection has no token yet. So where the operator allows echo tests, these names need none. They are bounded: so
many run at a time, each for a while, and with few listeners. They are not recorded.
"""

from __future__ import annotations

from collections.abc import Callable

from streamcodec.errors import RemoteProtocolError, WireCode
from streamcodec.protocol import ListenHello, PublishHello
from streamcodec.server.limits import Limits

__all__ = ["ECHO_PREFIX", "MAX_ECHO_LISTENERS", "echo_is_over", "is_echo", "no_place_for_echo"]

ECHO_PREFIX = "echo."
MAX_ECHO_LISTENERS = 2
"""Listeners for each echo test: one that hears it, and one more while a connection that broke is made again."""


def is_echo(stream: str, limits: Limits) -> bool:
    """Whether a stream of that name is an echo test."""
    return limits.max_echo_tests > 0 and stream.startswith(ECHO_PREFIX)


def no_place_for_echo(
    hello: PublishHello | ListenHello, limits: Limits, streams: Callable[[], list[str]], listeners: Callable[[], list[str]]
) -> str | None:
    """Why there is no place for `hello`, where it is of an echo test.

    `streams` tells the names of all that are published, `listeners` the name that each listener listens to.
    """
    if not is_echo(hello.stream, limits):
        return None
    most = limits.max_echo_tests
    if isinstance(hello, PublishHello):
        there = sum(is_echo(name, limits) for name in streams())
        return f"the server has its {most} echo tests" if there >= most else None
    names = listeners()
    if names.count(hello.stream) >= MAX_ECHO_LISTENERS:
        return f"this echo test has its {MAX_ECHO_LISTENERS} listeners"
    if sum(is_echo(name, limits) for name in names) >= MAX_ECHO_LISTENERS * most:
        return f"the server has its {MAX_ECHO_LISTENERS * most} listeners of echo tests"
    return None


def echo_is_over(limits: Limits) -> RemoteProtocolError:
    """What the publisher of an echo test is told when its time is over."""
    return RemoteProtocolError(WireCode.TIMEOUT, f"an echo test lasts {limits.echo_test_s:g} s at most")
