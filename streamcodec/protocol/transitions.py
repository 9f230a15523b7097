"""A connection's life as a table: which messages each side may send in which state, and what state follows."""

from __future__ import annotations

from enum import StrEnum

from streamcodec.protocol.messages import (
    End,
    Ended,
    Error,
    Gap,
    ListenHello,
    Message,
    Packet,
    Ping,
    Pong,
    PublishHello,
    Refuse,
    Report,
    StreamEnd,
    StreamStart,
    Waiting,
    Welcome,
)

__all__ = ["LEGAL", "TRANSITIONS", "Side", "State"]


class Side(StrEnum):
    """Who sends."""

    CLIENT = "client"
    SERVER = "server"


class State(StrEnum):
    """Where a connection is in its life."""

    HELLO = "hello"
    PUBLISH_ASKED = "publish_asked"
    LISTEN_ASKED = "listen_asked"
    PUBLISHING = "publishing"
    DRAINING = "draining"
    WAITING = "waiting"
    STREAMING = "streaming"
    CLOSED = "closed"


TRANSITIONS: dict[tuple[State, Side, type[Message]], State] = {
    (State.HELLO, Side.CLIENT, PublishHello): State.PUBLISH_ASKED,
    (State.HELLO, Side.CLIENT, ListenHello): State.LISTEN_ASKED,
    (State.HELLO, Side.SERVER, Refuse): State.CLOSED,
    (State.PUBLISH_ASKED, Side.SERVER, Welcome): State.PUBLISHING,
    (State.PUBLISH_ASKED, Side.SERVER, Refuse): State.CLOSED,
    (State.PUBLISH_ASKED, Side.CLIENT, Error): State.CLOSED,
    (State.LISTEN_ASKED, Side.SERVER, Welcome): State.WAITING,
    (State.LISTEN_ASKED, Side.SERVER, Refuse): State.CLOSED,
    (State.LISTEN_ASKED, Side.CLIENT, Error): State.CLOSED,
    (State.PUBLISHING, Side.CLIENT, Packet): State.PUBLISHING,
    (State.PUBLISHING, Side.CLIENT, Gap): State.PUBLISHING,
    (State.PUBLISHING, Side.CLIENT, End): State.DRAINING,
    (State.PUBLISHING, Side.SERVER, Gap): State.PUBLISHING,
    (State.DRAINING, Side.SERVER, Gap): State.DRAINING,
    (State.DRAINING, Side.SERVER, Ended): State.CLOSED,
    (State.WAITING, Side.CLIENT, Report): State.WAITING,
    (State.STREAMING, Side.CLIENT, Report): State.STREAMING,
    (State.WAITING, Side.SERVER, Waiting): State.WAITING,
    (State.WAITING, Side.SERVER, StreamStart): State.STREAMING,
    (State.STREAMING, Side.SERVER, StreamStart): State.STREAMING,
    (State.STREAMING, Side.SERVER, Packet): State.STREAMING,
    (State.STREAMING, Side.SERVER, Gap): State.STREAMING,
    (State.STREAMING, Side.SERVER, StreamEnd): State.WAITING,
}
for _state in (State.PUBLISHING, State.DRAINING, State.WAITING, State.STREAMING):
    TRANSITIONS[_state, Side.CLIENT, Ping] = _state
    TRANSITIONS[_state, Side.SERVER, Pong] = _state
    TRANSITIONS[_state, Side.CLIENT, Error] = State.CLOSED
    TRANSITIONS[_state, Side.SERVER, Error] = State.CLOSED

LEGAL: dict[tuple[State, Side], dict[type[Message], State]] = {
    (state, side): {kind: after for (at, who, kind), after in TRANSITIONS.items() if (at, who) == (state, side)}
    for state in State
    for side in Side
}
"""The same table by state and sender: to look up all three for each packet would take longer than all else that is done about it."""
