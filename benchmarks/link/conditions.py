"""What a network does at which moment, in plain numbers: no socket, no clock, and one seed gives one network.

Time runs in seconds from the moment at which a link is told to begin; what holds before zero holds before that too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import chain

import numpy as np

__all__ = ["Conditions", "Direction", "LinkState"]

_SLOT_S = 0.01  # how long one draw of the jitter holds


@dataclass(frozen=True)
class Direction:
    """One direction of a link: what is sent waits for the link to be free, goes through at its rate, and travels.

    `rates` are (from when, bytes/s), of which the last that has begun holds; None, and before the first, is without a limit. In `stalls`
    (begin, end) nothing goes through. Travelling takes `delay_s` and up to a jitter more, of which `jitters` are (from when, s); nothing
    overtakes. At most `buffer_bytes` are on the way or waiting; then the sender has to wait.
    """

    delay_s: float = 0.0
    jitters: tuple[tuple[float, float], ...] = ()
    rates: tuple[tuple[float, float | None], ...] = ()
    stalls: tuple[tuple[float, float], ...] = ()
    buffer_bytes: int = 4096
    seed: int = 0

    def rate_at(self, t: float) -> float:
        """Bytes per second that go through at `t`."""
        if any(begin <= t < end for begin, end in self.stalls):
            return 0.0
        rate = next((rate for begin, rate in reversed(self.rates) if begin <= t), None)
        return math.inf if rate is None else rate

    def change_after(self, t: float) -> float:
        """When something may be another next."""
        times = chain((begin for begin, _ in (*self.rates, *self.jitters)), chain.from_iterable(self.stalls))
        return min((at for at in times if at > t), default=math.inf)

    def jitter_at(self, t: float) -> float:
        """The most that travelling may take beyond the delay at `t`."""
        return next((most for begin, most in reversed(self.jitters) if begin <= t), 0.0)

    def travel_at(self, t: float) -> float:
        """Seconds that what sets out at `t` travels, if nothing is in front of it."""
        jitter_s = self.jitter_at(t)
        if not jitter_s:
            return self.delay_s
        # A seed takes no negative numbers.
        draw = np.random.default_rng([self.seed, math.floor(t / _SLOT_S) % 2**32]).random()
        return self.delay_s + jitter_s * float(draw)


@dataclass
class LinkState:
    """What is on its way in one direction, as two times: when the link is free again, and when the last byte arrives."""

    direction: Direction
    _free_at: float = field(default=-math.inf, init=False)
    _arrives_at: float = field(default=-math.inf, init=False)

    def send(self, t: float, size: int) -> float:
        """When `size` bytes that are handed over at `t` have arrived; calls must come in the order of their times."""
        at, left = max(t, self._free_at), float(size)
        while left > 0.0:
            rate, until = self.direction.rate_at(at), self.direction.change_after(at)
            if rate == math.inf:
                break
            if rate > 0.0 and left <= rate * (until - at):
                at += left / rate
                break
            left -= rate * (until - at) if rate > 0.0 else 0.0
            at = until
            if at == math.inf:
                break
        self._free_at = at
        if at < math.inf:
            at += self.direction.travel_at(at)
        self._arrives_at = max(self._arrives_at, at)
        return self._arrives_at


@dataclass(frozen=True)
class Conditions:
    """A link's two directions, as a client sees them, and when it is cut: at each `cuts` (from, until) every connection is reset, and so is
    each new one until the end.

    Each connection has the rates for itself, or with `shared` all of them together."""

    up: Direction = Direction()
    down: Direction = Direction()
    cuts: tuple[tuple[float, float], ...] = ()
    shared: bool = False

    def cut_at(self, t: float) -> bool:
        """Whether nothing can be connected at `t`."""
        return any(begin <= t < end for begin, end in self.cuts)
