"""Who may still come in: what the streams ask of the machine, what it can do, and how late its packets are.

Arithmetic alone: times are given, nothing here reads a clock, runs a model or knows a socket. All times are seconds on one clock.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from streamcodec.config import DEFAULT_PACKET_FRAMES
from streamcodec.server.limits import Limits

__all__ = ["WINDOW_S", "Admission", "Cost", "Costs", "Demand", "Kind"]

Kind = Literal["encode", "decode"]
Demand = Counter[tuple[Kind, int]]
"""How many live streams need a step of a kind, of so many frames, for each of their packets."""

WINDOW_S = 2.0
_FEWEST_WAITS = 20
_FEWEST_ROWS = 20
_CORRECT_EVERY_S = 1.0
# What waits for a step waits for the one under way and then for its own: at 20 ms each it is 40 ms late.
_ROUND_S = 0.02
_MOST_ROOM = 10_000


@dataclass(frozen=True)
class Cost:
    """What one step of the engine takes: `step` for itself, `row` for each row in it, `frame` for each frame of each row, in seconds."""

    step: float
    row: float
    frame: float

    def of_row(self, frames: int) -> float:
        """What one more row of so many frames adds to a step."""
        return self.row + frames * self.frame


Costs = Mapping[Kind, Cost]


class Admission:
    """Says no before the machine is full.

    `costs` are measured ones: without them, and with `limits.capacity` no number, everybody may come in. With a number N there, the machine
    is full with N streams to encode or decode, whatever it can do.
    """

    def __init__(self, limits: Limits, costs: Costs | None, frame_rate: float, *, lanes: int = 1, max_batch: int = 16) -> None:
        self._max_load = limits.max_load
        self._max_wait_s = limits.max_wait_s
        self._frame_rate = frame_rate
        self._lanes = lanes
        self._max_batch = max_batch
        self._scale = 1.0
        self._measured = costs is not None
        if isinstance(limits.capacity, int):
            # Each stream takes its share of what is allowed, whatever its packets are.
            share = Cost(0.0, 0.0, lanes * limits.max_load / limits.capacity / frame_rate)
            costs = {"encode": share, "decode": share}
        self._costs = costs
        self._waits: deque[tuple[float, float]] = deque(maxlen=4096)
        self._corrected_at = -math.inf
        self._worked = (0, 0, 0.0)

    def load(self, demand: Demand) -> float:
        """The predicted share of the machine's engine time that `demand` takes: 1 is all of it, 0 where nothing is known."""
        if self._costs is None:
            return 0.0
        seconds = 0.0
        for (kind, frames), streams in demand.items():
            rate = streams * self._frame_rate / frames
            steps = max(rate / self._max_batch, min(rate, 1 / _ROUND_S))
            seconds += steps * self._costs[kind].step + rate * self._costs[kind].of_row(frames)
        return self._scale * seconds / self._lanes

    def room(self, kind: Kind = "encode", frames: int = DEFAULT_PACKET_FRAMES) -> int | None:
        """How many live streams of a kind may be there if there are no others, at least 1; None: as many as like."""
        if self._costs is None:
            return None
        return max(1, bisect_right(range(1, _MOST_ROOM), self._max_load + 1e-9, key=lambda n: self.load(Counter({(kind, frames): n}))))

    def refusal(self, now: float, demand: Demand, wanted: Demand) -> str | None:
        """Why `wanted` may not join `demand`, or None: it may. An idle machine takes anyone."""
        if self._costs is None or not wanted or not demand:
            return None
        if self.load(demand + wanted) > self._max_load + 1e-9:
            kind, frames = next(iter(wanted))
            packet_ms = 1000 * frames / self._frame_rate
            has = " and ".join(f"{sum(n for (k, _), n in demand.items() if k == kind)} to {kind}" for kind in ("encode", "decode"))
            about = self.room(kind, frames)
            return (
                f"of streams like this ({packet_ms:.0f} ms packets) the server can {kind} about {about}, and it has {has}; "
                "what is published and heard as codes takes no such room"
            )
        wait_ms, bound_ms = 1000 * self.waits(now, 0.95)[0], 1000 * self._max_wait_s
        if wait_ms > bound_ms:
            return f"the server is behind: 5% of its packets wait {wait_ms:.0f} ms or more, it takes no others beyond {bound_ms:.0f} ms"
        return None

    def waited(self, now: float, wait_s: float) -> None:
        """A live packet has come out, so long after all of it was there."""
        self._waits.append((now, wait_s))

    def waits(self, now: float, *quantiles: float) -> list[float]:
        """Quantiles of what live packets of the last seconds waited; 0 where there are too few of them to say."""
        recent = sorted(wait_s for at, wait_s in self._waits if at > now - WINDOW_S)
        if len(recent) < _FEWEST_WAITS:
            return [0.0] * len(quantiles)
        return [recent[min(len(recent) - 1, int(q * len(recent)))] for q in quantiles]

    def correction_due(self, now: float) -> bool:
        """Whether `worked` should be told again."""
        return self._measured and now - self._corrected_at >= _CORRECT_EVERY_S

    def worked(self, now: float, demand: Demand, steps: int, rows: int, busy_s: float) -> None:
        """Correct the costs by what the engine's steps have really taken; `demand` says what they were, the rest counts from the start.

        So a machine that something else slows down has room for fewer, and one whose engine was replaced by a faster one for more.
        """
        self._corrected_at = now
        more_steps, more_rows, more_s = steps - self._worked[0], rows - self._worked[1], busy_s - self._worked[2]
        if self._costs is None or more_rows < _FEWEST_ROWS:
            return
        self._worked = (steps, rows, busy_s)
        if not demand:
            return
        rates = {key: streams * self._frame_rate / key[1] for key, streams in demand.items()}
        expected_s = sum(
            rate * (more_steps * self._costs[kind].step + more_rows * self._costs[kind].of_row(frames))
            for (kind, frames), rate in rates.items()
        ) / sum(rates.values())
        if expected_s > 0:
            self._scale += 0.5 * (more_s / expected_s - self._scale)
