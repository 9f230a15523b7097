"""Who was turned away or cut off by a limit: counted each time, and told in the log once in a while, as an attacker must not fill it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from enum import StrEnum

from prometheus_client.core import Metric

from streamcodec.errors import RemoteProtocolError
from streamcodec.server.events import Observer, ServerEvent
from streamcodec.server.metrics import counter_family

__all__ = ["TELL_EVERY_S", "Bound", "LimitReached", "Refusals"]

TELL_EVERY_S = 60.0

log = logging.getLogger("streamcodec.server")


class Bound(StrEnum):
    """What a peer can be turned away or cut off by, as `/metrics` names it."""

    ADMIN_TOKENS = "admin_tokens"
    CONTROL_FRAMES = "control_frames"
    CONNECTIONS = "connections"
    CONNECTIONS_OF_ADDRESS = "connections_of_address"
    ECHO_TESTS_OF_ADDRESS = "echo_tests_of_address"
    HANDSHAKES = "handshakes"
    HOST = "host"
    NEW_CONNECTIONS = "new_connections"
    ORIGIN = "origin"
    PUBLISHERS_OF_ADDRESS = "publishers_of_address"
    TLS = "tls"
    TOKENS = "tokens"


class LimitReached(RemoteProtocolError):
    """A refusal that `Refusals` has noted already: it needs no second event."""


class Refusals:
    """Counts refusals by bound, and lets `observe` hear of each. `clock` tells seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.observe: Observer = lambda _: None
        self.counts = dict.fromkeys(Bound, 0)
        self._clock = clock
        self._told: dict[Bound, tuple[float, int]] = {}  # when, and how many there had been then

    def note(self, bound: Bound, who: str, what: str, connection: str = "") -> None:
        """`who` broke `bound`, on the `connection` of that key; `what` says it in words, in which what a peer wrote is escaped."""
        self.counts[bound] += 1
        self.observe(ServerEvent("client.refused", {"limit": str(bound), "address": who, "count": 1}, f"limit {bound}"))
        now, count = self._clock(), self.counts[bound]
        told_at, told = self._told.get(bound, (now - TELL_EVERY_S, count - 1))
        if now - told_at >= TELL_EVERY_S:
            since = f"; {count - told} like this since the last line" if count - told > 1 else ""
            subjects = {"address": who, "connection": connection}
            log.warning("%s: %s (limit: %s%s)", who, what, bound, since, extra=subjects)
            self._told[bound] = now, count

    def families(self) -> Iterable[Metric]:
        """For `Metrics.collect_from`."""
        counts = {str(bound): float(count) for bound, count in self.counts.items()}
        yield counter_family("connections_limited", "Connections that a limit kept out or ended, by limit.", counts, "limit")
