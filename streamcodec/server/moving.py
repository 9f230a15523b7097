"""Who goes on at another node while this one drains: what a server says to whoever says hello to it then, and to who is there."""

from __future__ import annotations

from streamcodec.errors import RemoteProtocolError, WireCode
from streamcodec.protocol import ListenHello, PublishHello
from streamcodec.server.registry import Registry

__all__ = ["check_hello", "farewell", "heir", "moved"]


async def check_hello(registry: Registry, hello: PublishHello | ListenHello) -> None:
    """Raise `RemoteProtocolError` where a server that drains does not meet `hello`.

    That is SERVER_CLOSING for newcomers, and MOVED where a session goes on elsewhere or can go on there: then nothing of it begins here.
    """
    if not registry.draining.begun:
        return
    if hello.resume is None:  # it has waited, and the drain has begun meanwhile
        raise registry.draining.farewell(hello.role)
    if not (hello.can_move and registry.cluster.moves):
        return
    if isinstance(hello, PublishHello) and (stream := registry.resumed(hello)) is not None:
        # Only this node knows the counts of a stream that its publisher has ended.
        to = None if stream.complete else heir(registry)
    elif hello.stream in registry.streams:
        to = None
    else:
        to = await registry.cluster.where(hello.stream)
    if to is not None:
        raise moved(to)


def heir(registry: Registry) -> str | None:
    """The address of a server that takes a stream of this one now; None where there is none."""
    cluster = registry.cluster
    if not (cluster.moves and cluster.reached and cluster.alternates):
        return None  # without a bus another node could not ask for the stream
    return registry.draining.go_to or cluster.better("publish")


def farewell(registry: Registry, name: str) -> RemoteProtocolError:
    """What a listener is told whose stream is elsewhere: to go on there, as only there PCM goes on as if nothing had happened."""
    to = registry.cluster.node_of(name) if registry.cluster.moves else None
    return registry.draining.farewell("listen") if to is None else moved(to)


def moved(to: str) -> RemoteProtocolError:
    """What is said to a client whose session goes on at another server."""
    return RemoteProtocolError(WireCode.MOVED, "the server is closing: this session goes on at another one", resumable=True, go_to=to)
