"""From when a server is told to stop until it does: nobody new comes in, and who is there may leave in order. No clock of its own."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

from streamcodec.errors import InputError, LocalProtocolError, RemoteProtocolError, WireCode, without_credentials
from streamcodec.protocol import Error, Ping, Pong, now_us
from streamcodec.protocol.fields import shown

__all__ = ["CLOSING_S", "DEFAULT_DRAIN_S", "Draining", "checked_address"]

DEFAULT_DRAIN_S = 8.0
"""A stop by SIGTERM takes no longer: container engines kill after 10 s."""
CLOSING_S = 3.0
"""So much of that, or half of it, is left to send out what was accepted and to close."""
_MIN_S, _MAX_S = 1.0, 86_400.0
_CLOSES = "the server is closing"


class Draining:
    """Whether the server drains, until when, and where its clients are to go. `clock` tells seconds.

    Where nobody has said where, `elsewhere` says it for each client.
    """

    def __init__(self, clock: Callable[[], float], go_to: str | None = None, elsewhere: Callable[[], str | None] = lambda: None) -> None:
        self.go_to = go_to
        self._elsewhere = elsewhere
        self._clock = clock
        self._ends: float | None = None
        self._stops = 0.0

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

    def part_s(self, most_s: float) -> float:
        """How long the next part of a stop may take: `most_s`, but no more than half of the time that is left for all of them."""
        return most_s if self._ends is None else max(0.0, min(most_s, (self._stops - self._clock()) / 2))

    def pong(self, ping: Ping) -> Pong:
        """The answer to a ping, which says how long the server is still there."""
        if self._ends is None:
            return Pong(time=ping.time, server_time=now_us())
        return Pong(time=ping.time, server_time=now_us(), closing_ms=self._left_ms, go_to=self.go_to or self._elsewhere())

    def farewell(self) -> RemoteProtocolError:
        """What is said to a newcomer, and to whoever has to leave."""
        return RemoteProtocolError(
            WireCode.SERVER_CLOSING, _CLOSES, self._left_ms if self.begun else None, go_to=self.go_to or self._elsewhere()
        )

    @property
    def _left_ms(self) -> int:
        assert self._ends is not None
        return max(0, round(1000 * (self._ends - self._clock())))


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
