"""The clock that each end reads, and arithmetic on two of them and the 32 bits between."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

__all__ = ["CLOCK_WINDOW", "TIMESTAMP_MODULUS", "ClockEstimate", "both_clocks", "now_us", "unwrap_timestamp"]

TIMESTAMP_MODULUS = 1 << 32
CLOCK_WINDOW = 16


def now_us() -> int:
    """This program's clock: microseconds that only go forward, of `time.perf_counter`."""
    return time.perf_counter_ns() // 1000


def both_clocks() -> tuple[int, float]:
    """This program's clock (us) and the time of day (s since 1970) at one moment, as nearly as a few tries can tell."""

    def read() -> tuple[int, int, float]:
        before, day_s, after = now_us(), time.time(), now_us()
        return after - before, (before + after) // 2, day_s

    _, clock_us, day_s = min(read() for _ in range(5))
    return clock_us, day_s


def unwrap_timestamp(timestamp: int, near: int) -> int:
    """The time, in microseconds, that is `timestamp` modulo 2**32 and closest to `near` (at most 36 minutes away)."""
    half = TIMESTAMP_MODULUS // 2
    return near - half + (timestamp - near + half) % TIMESTAMP_MODULUS


@dataclass(frozen=True)
class ClockEstimate:
    """How far the server's clock is ahead of ours, from the quickest of the last 16 ping exchanges (as NTP's clock filter does).

    Each exchange is (round trip, offset), microseconds; the offset is off by at most half the round trip.
    """

    exchanges: tuple[tuple[int, int], ...] = ()

    def update(self, sent: int, server_time: int, received: int) -> ClockEstimate:
        """With one more exchange: our clock when the ping left, the server's in its pong, ours when the pong came.

        A round trip below zero (our clock was set back meanwhile) changes nothing.
        """
        if received < sent:
            return self
        exchange = (received - sent, server_time - (sent + received) // 2)
        return replace(self, exchanges=(*self.exchanges, exchange)[-CLOCK_WINDOW:])

    @property
    def round_trip(self) -> int | None:
        """The quickest round trip in the window, microseconds; None before the first exchange."""
        return min(self.exchanges)[0] if self.exchanges else None

    @property
    def offset(self) -> int:
        """The server's clock minus ours, microseconds; 0 before the first exchange."""
        return min(self.exchanges, key=lambda exchange: exchange[0])[1] if self.exchanges else 0

    def to_server(self, local: int) -> int:
        """Our time as the server's."""
        return local + self.offset

    def to_local(self, server: int) -> int:
        """The server's time as ours."""
        return server - self.offset
