"""How much audio may be under way to the other end: so much, and what goes out during a round trip; and how long that is.

Trips get longer with a link's delay, and with what waits in front of a link that is too thin: letting out more for those would only make
them longer still. So a trip is believed where little was under way before it. Where all have got longer, what is under way runs out for
once, and what then goes alone tells.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["LITTLE_S", "Departure", "SendWindow"]

LITTLE_S = 0.24 - 1e-6
"""With less under way (s) nothing holds up what follows: it goes alone. A listener reports at the latest when it has so much."""


@dataclass(frozen=True, slots=True)
class Departure:
    """When something left that the other end will answer (s), and whether little was under way in front of it."""

    at: float
    alone: bool


class SendWindow:
    """Lets `seconds` of audio and a round trip of it be under way; the round trip is the quickest of the last `trips`, a guess before one.

    `clock` gives seconds. The sender counts what is under way; it tells what leaves here, and when that was answered.

    `round_trip_s` is the quickest of the last trips, and not much longer than the last one that went alone. `in_doubt` says that trips have
    got longer and stay so: what leaves next is to go alone, and to be answered. With more than `max_s` under way nothing is to be sent.
    """

    def __init__(self, seconds: float, *, trips: int = 16, guess_s: float = 0.5, clock: Callable[[], float] = time.perf_counter) -> None:
        self._seconds = seconds
        self._guess_s = guess_s
        self._clock = clock
        self._trips: deque[float] = deque(maxlen=trips)
        self._doubt_after = 2 * trips
        self._alone_s = 0.0  # the last trip of what went alone
        self._crowded = 0  # trips since then
        # How much audio may be under way is asked for each packet, and changes with each answer only.
        self.round_trip_s, self.in_doubt, self.max_s = self._conclude()

    def depart(self, ahead_s: float) -> Departure:
        """Something leaves that will be answered, behind `ahead_s` of audio that is under way."""
        return Departure(self._clock(), ahead_s < LITTLE_S)

    def answered(self, departure: Departure) -> None:
        """The answer to what left so has come."""
        trip_s = self._clock() - departure.at
        self._trips.append(trip_s)
        self._alone_s, self._crowded = (trip_s, 0) if departure.alone else (self._alone_s, self._crowded + 1)
        self.round_trip_s, self.in_doubt, self.max_s = self._conclude()

    def _conclude(self) -> tuple[float, bool, float]:
        quickest_s, bound_s = min(self._trips, default=self._guess_s), self._alone_s + LITTLE_S
        if not self._trips:
            return self._guess_s, False, self._seconds + self._guess_s
        round_trip_s, in_doubt = min(quickest_s, bound_s), self._crowded >= self._doubt_after and quickest_s > bound_s
        return round_trip_s, in_doubt, LITTLE_S if in_doubt else self._seconds + round_trip_s
