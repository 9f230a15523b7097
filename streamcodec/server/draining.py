"""From when a server is told to stop until it does: nobody new comes in, and who is there may leave in order. No clock of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol
from urllib.parse import urlsplit

from streamcodec.errors import InputError, LocalProtocolError, RemoteProtocolError, WireCode, without_credentials
from streamcodec.protocol import Error, Ping, Pong, now_us
from streamcodec.protocol.fields import shown

__all__ = ["CLOSING_S", "DEFAULT_DRAIN_S", "Draining", "Role", "checked_address"]

DEFAULT_DRAIN_S = 8.0
"""A stop by SIGTERM takes no longer: container engines kill after 10 s."""
CLOSING_S = 3.0
"""So much of that, or half of it, is left to send out what was accepted and to close."""
_LEAVING_S = 6.0
"""So long before the end, or half of the time before it, who could have moved is told that the server closes: a client that is silent asks
every 5 s."""
_MIN_S, _MAX_S = 1.0, 86_400.0
_CLOSES = "the server is closing"


Role = Literal["publish", "listen"]


class Others(Protocol):
    """The other servers of a cluster, as far as clients are sent there."""

    @property
    def moves(self) -> bool:
        """Whether sessions may go on there."""

    def better(self, role: Role) -> str | None:
        """The address of one that takes a newcomer."""


class Draining:
    """Whether the server drains, until when, and where its clients are to go. `clock` tells seconds.

    Where nobody has said where, the `others` say it for each client.
    """

    def __init__(self, clock: Callable[[], float], go_to: str | None = None, others: Callable[[], Others | None] = lambda: None) -> None:
        self.go_to = go_to
        self._others = others
        self._clock = clock
        self._ends: float | None = None
        self._stops = 0.0
        self._leave_from = 0.0

    @property
    def begun(self) -> bool:
        """Whether no newcomers are let in."""
        return self._ends is not None

    @property
    def over(self) -> bool:
        """Whether nobody is waited for any longer."""
        return self._ends is not None and self._clock() >= self._ends

    def begin(self, within_s: float, go_to: str | None = None) -> None:
        """Be over soon enough that the server has stopped `within_s`; where that was said before, the earlier time holds.

        Raises `InputError` for a time or an address that cannot be.
        """
        if isinstance(within_s, bool) or not isinstance(within_s, (int, float)) or not _MIN_S <= within_s <= _MAX_S:
            raise InputError(f"the time to drain is {shown(within_s)}, expected {_MIN_S:g} to {_MAX_S:g} s")
        if go_to is not None:
            self.go_to = checked_address(go_to)
        stops = self._clock() + within_s
        ends = stops - min(within_s / 2, CLOSING_S)
        self._ends, self._stops = (ends, stops) if self._ends is None else (min(ends, self._ends), min(stops, self._stops))
        left_s = self._ends - self._clock()
        self._leave_from = self._ends - min(left_s / 2, _LEAVING_S)

    def part_s(self, most_s: float) -> float:
        """How long the next part of a stop may take: `most_s`, but no more than half of the time that is left for all of them."""
        return most_s if self._ends is None else max(0.0, min(most_s, (self._stops - self._clock()) / 2))

    def pong(self, ping: Ping, role: Role = "publish", *, can_move: bool = False) -> Pong:
        """The answer to a ping, which says how long the server is still there.

        A publisher that reads it ends its stream. To one that `can_move` it is not said while there is time for another server to have
        room for it.
        """
        if self._ends is None or (can_move and self._moves and self._clock() < self._leave_from):
            return Pong(time=ping.time, server_time=now_us())
        return Pong(time=ping.time, server_time=now_us(), closing_ms=self._left_ms, go_to=self._elsewhere(role))

    def farewell(self, role: Role = "publish") -> RemoteProtocolError:
        """What is said to a newcomer, and to whoever has to leave."""
        return RemoteProtocolError(WireCode.SERVER_CLOSING, _CLOSES, self._left_ms if self.begun else None, go_to=self._elsewhere(role))

    def _elsewhere(self, role: Role) -> str | None:
        others = self._others()
        return self.go_to or (None if others is None else others.better(role))

    @property
    def _moves(self) -> bool:
        others = self._others()
        return others is not None and others.moves

    @property
    def left_s(self) -> float:
        """For how long clients are still waited for, once the server drains."""
        assert self._ends is not None
        return max(0.0, self._ends - self._clock())

    @property
    def _left_ms(self) -> int:
        return round(1000 * self.left_s)


def checked_address(url: str) -> str:
    """A server's address as the protocol takes it. Raises `InputError`."""
    try:
        Error(code=WireCode.SERVER_CLOSING, reason="", go_to=url)
    except LocalProtocolError:
        told = shown(without_credentials(url))
        raise InputError(f"{told} is no address of a server, expected for instance wss://voice.example.org") from None
    if urlsplit(url).username is not None:
        raise InputError("the address has a name or a password in it, which every client would be told: expected one without")
    return url
