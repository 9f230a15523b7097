"""Which newcomers are admitted: what the streams need of the machine, what it can do, and how late its packets are.

This is arithmetic: times are given, nothing here reads a clock, runs a model or knows a socket. All times are seconds on one clock.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter, deque
from dataclasses import dataclass
from itertools import takewhile

from streamcodec.config import DEFAULT_PACKET_FRAMES
from streamcodec.server.capacity.load_model import Cost, Costs, Demand, Kind, LoadModel, Shares, Work
from streamcodec.server.limits import Limits

__all__ = ["NEWEST_S", "WINDOW_S", "Admission", "Refusal"]

NEWEST_S, WINDOW_S = 1.0, 2.0
_MIN_WAITS = 20
_CORRECT_EVERY_S = 1.0
_MAX_ROOM = 10_000
# Newcomers may take half of what was free before they came, and a few are admitted in any case; the next correction sees what they take.
# So half of an idle machine may be taken at once, and the fuller the machine is, the better its load is known.
_AT_ONCE, _FEW = 0.5, 4
# A newcomer's first packets are whole after 80 ms: a correction knows those that came so long before it. Without one, time has to do.
_SHOWN_S, _KNOWN_S = 0.5, 2.0
_LOOK_AGAIN_S = 0.1


@dataclass(frozen=True)
class Refusal:
    """Why a newcomer is refused now. After `again_s` it may be admitted although nobody has left; None: it will not be."""

    reason: str
    again_s: float | None = None


class Admission:
    """Refuses newcomers before the machine is full, and for a moment where it does not know yet how full the machine is.

    `costs` are measured: without them everybody is admitted, unless `limits.capacity` is a number. With a number N the machine is full with
    N streams to encode or decode, whatever it can do. `cores` are the processors that the process may use.
    """

    def __init__(
        self, limits: Limits, costs: Costs | None, frame_rate: float, *, workers: int = 1, cores: int = 1, max_batch: int = 16
    ) -> None:
        self._measured = costs is not None
        self._allowed = Shares(limits.max_load, limits.max_cpu, limits.max_cpu)
        if isinstance(limits.capacity, int):
            # Each stream takes its share of what is allowed, whatever its packets are and whatever else they take.
            share = Cost(0.0, 0.0, workers * limits.max_load / limits.capacity / frame_rate)
            costs = {"encode": share, "decode": share}
            self._measured, self._allowed = False, Shares(limits.max_load, math.inf, math.inf)
        self._known = costs is not None
        self._max_wait_s = limits.max_wait_s
        self._frame_rate = frame_rate
        self._cores = cores
        self._load_model = LoadModel(costs, frame_rate, workers=workers, cores=cores, max_batch=max_batch)
        self._waits: deque[tuple[float, float]] = deque(maxlen=4096)
        self._corrected_at = -math.inf
        self._joined: deque[tuple[float, str, Demand]] = deque()

    def shares(self, demand: Demand) -> Shares:
        """What `demand` is expected to take of the machine."""
        return self._load_model.shares(demand)

    def room(self, kind: Kind = "encode", frames: int = DEFAULT_PACKET_FRAMES) -> int | None:
        """How many live streams of a kind may be there if no others are encoded or decoded, at least 1; None: any number."""
        if not self._known:
            return None
        return max(1, bisect_right(range(1, _MAX_ROOM), 1 + 1e-9, key=lambda n: self._fullness(Counter({(kind, frames): n}))))

    def refusal(self, now: float, demand: Demand, wanted: Demand) -> Refusal | None:
        """Why `wanted` is refused beside `demand`; None: it is admitted. An idle machine admits everybody."""
        if not self._known or not wanted or not demand:
            return None
        fullness = self._fullness(demand + wanted)
        if fullness > 1 + 1e-9:
            return Refusal(self._full(demand, wanted))
        wait_ms, bound_ms = 1000 * self._late_s(now), 1000 * self._max_wait_s
        if wait_ms > bound_ms:
            return Refusal(
                f"the server is behind: 5% of its packets wait {wait_ms:.0f} ms or more, it takes no others beyond {bound_ms:.0f} ms",
                _LOOK_AGAIN_S,
            )
        if not self._measured:
            return None
        new = self._newcomers(now)
        known = self._fullness(demand - new)
        bound = known + _AT_ONCE * (1 - known)
        if fullness > bound and (new + wanted).total() > _FEW:
            return Refusal(
                f"many come at once: the server does not know yet what the newest {new.total()} take; with one more it would be about "
                f"{100 * fullness:.0f}% full, and it goes to {100 * bound:.0f}% before it looks",
                max(_LOOK_AGAIN_S, self._corrected_at + _CORRECT_EVERY_S - now),
            )
        return None

    def joined(self, now: float, wanted: Demand, stream: str) -> None:
        """`wanted` was admitted for `stream`: it counts as new until a correction has seen what it takes."""
        self._newcomers(now)  # forgets those that are not new any longer
        if self._measured and wanted:
            self._joined.append((now, stream, wanted))

    def left(self, stream: str, kind: Kind | None = None) -> None:
        """`stream` is gone, or its steps of one `kind` are: what came and went does not count as new."""
        kept = ((at, name, _without(wanted, kind) if name == stream else wanted) for at, name, wanted in self._joined)
        self._joined = deque(entry for entry in kept if entry[2])

    def waited(self, now: float, wait_s: float) -> None:
        """A live packet has come out, `wait_s` after it was complete. Calls must come in the order of their times."""
        self._waits.append((now, wait_s))

    def waits(self, now: float, *quantiles: float, window_s: float = WINDOW_S) -> list[float]:
        """Quantiles of what live packets of the last seconds waited; 0 where there were too few of them."""
        newest = takewhile(lambda wait: wait[0] > now - window_s, reversed(self._waits))
        recent = sorted(wait_s for _, wait_s in newest)
        if len(recent) < _MIN_WAITS:
            return [0.0] * len(quantiles)
        return [recent[min(len(recent) - 1, int(q * len(recent)))] for q in quantiles]

    def correction_due(self, now: float) -> bool:
        """Whether `worked` is to be called again."""
        return self._measured and now - self._corrected_at >= _CORRECT_EVERY_S

    def worked(self, now: float, demand: Demand, work: Work) -> None:
        """Correct the prediction by what was really done for `demand`."""
        self._corrected_at = now
        self._load_model.learn(now, demand, work)

    def _late_s(self, now: float) -> float:
        """What the latest 5% of live packets wait, in the newest second or in the whole window: a lull does not end it."""
        return max(self.waits(now, 0.95, window_s=window_s)[0] for window_s in (NEWEST_S, WINDOW_S))

    def _newcomers(self, now: float) -> Demand:
        """Those that came too late for the last correction to have seen what they take."""
        known_until = max(self._corrected_at - _SHOWN_S, now - _KNOWN_S)
        while self._joined and self._joined[0][0] <= known_until:
            self._joined.popleft()
        return sum((wanted for _, _, wanted in self._joined), Demand())

    def _fullness(self, demand: Demand) -> float:
        """What share of what is allowed `demand` takes; of the three resources the fullest one counts."""
        return max(share / allowed for share, allowed in zip(self.shares(demand), self._allowed, strict=True))

    def _full(self, demand: Demand, wanted: Demand) -> str:
        kind, frames = next(iter(wanted))
        packet_ms = 1000 * frames / self._frame_rate
        has = " and ".join(f"{sum(n for (k, _), n in demand.items() if k == kind)} to {kind}" for kind in ("encode", "decode"))
        why = ""
        if self._measured:
            shares = self.shares(demand + wanted)
            whose = ("the model's time", f"the time of {self._cores} processor(s)", "a processor's time for all beside the model")
            share, allowed, of = max(zip(shares, self._allowed, whose, strict=True), key=lambda each: each[0] / each[1])
            why = f", as one more would take {100 * share:.0f}% of {of} and {100 * allowed:.0f}% is allowed"
        return (
            f"of streams like this ({packet_ms:.0f} ms packets) the server can {kind} about {self.room(kind, frames)}, "
            f"and it has {has}{why}; what is published and heard as codes takes no such room"
        )


def _without(wanted: Demand, kind: Kind | None) -> Demand:
    return Demand() if kind is None else Demand({need: count for need, count in wanted.items() if need[0] != kind})
