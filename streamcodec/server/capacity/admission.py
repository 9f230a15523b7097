"""Which newcomers are admitted: what the streams need of the machine, what it can do, and how late its packets are.

This is arithmetic: times are given, nothing here reads a clock, runs a model or knows a socket. All times are seconds on one clock.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter, deque
from dataclasses import dataclass

from streamcodec.config import DEFAULT_PACKET_FRAMES
from streamcodec.server.capacity.load_model import Cost, Costs, Demand, Kind, LoadModel, Shares, Work
from streamcodec.server.capacity.recent import Recent
from streamcodec.server.limits import Limits

__all__ = ["Admission", "Refusal", "relays_only"]

_CORRECT_EVERY_S = 1.0
_MAX_ROOM = 10_000
# Newcomers may take half of what was free before they came, and a few are admitted in any case; the next correction sees what they take.
# So half of an idle machine may be taken at once, and the fuller the machine is, the better its load is known.
# What a listener takes is known better before it comes: packets of others at the same rate.
_AT_ONCE, _FEW, _LISTENERS_AT_ONCE = 0.5, 4, 0.8
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
    N streams to encode or decode, whatever it can do. `cores` are the processors that the process may use. Packets have `packet_frames`
    frames where nothing else is said.

    `waits` are those of live packets for the model, `lags` those of the loop's turns. A newcomer that brings nothing but packets to pass on
    takes nothing of the engine: it is refused where the loop has no time for more, and admitted however full the engine is.
    """

    def __init__(
        self,
        limits: Limits,
        costs: Costs | None,
        frame_rate: float,
        *,
        workers: int = 1,
        cores: int = 1,
        max_batch: int = 16,
        packet_frames: int = DEFAULT_PACKET_FRAMES,
    ) -> None:
        self._measured = costs is not None
        self._allowed = Shares(limits.max_load, limits.max_cpu, limits.max_cpu)
        if isinstance(limits.capacity, int):
            # Each stream takes its share of what is allowed, whatever its packets are and whatever else they take.
            share = Cost(0.0, 0.0, workers * limits.max_load / limits.capacity / frame_rate)
            costs = {"encode": share, "decode": share}
            self._measured, self._allowed = False, Shares(limits.max_load, math.inf, math.inf)
        self._known = costs is not None
        self._packet_frames = packet_frames
        self._max_wait_s = limits.max_wait_s
        self._frame_rate = frame_rate
        self._cores = cores
        self._load_model = LoadModel(costs, frame_rate, workers=workers, cores=cores, max_batch=max_batch)
        self.waits, self.lags = Recent(), Recent()
        self._max_lag_s = limits.max_loop_lag_s
        self._max_relay = limits.max_relay
        self._corrected_at = -math.inf
        self._joined: deque[tuple[float, str, Demand]] = deque()
        self._new = Demand()  # of all in `_joined`

    def shares(self, demand: Demand) -> Shares:
        """What `demand` is expected to take of the machine."""
        return self._load_model.shares(demand)

    def room(self, kind: Kind = "encode", frames: int | None = None) -> int | None:
        """How many live streams of a kind may be there if no others are encoded or decoded, at least 1; None: any number."""
        if not self._known:
            return None
        return max(
            1,
            bisect_right(range(1, _MAX_ROOM), 1 + 1e-9, key=lambda n: self._fullness(Counter({(kind, frames or self._packet_frames): n}))),
        )

    def fullness(self, demand: Demand) -> float | None:
        """What share of what is allowed `demand` is expected to take, of the fullest resource; None: nobody knows."""
        return self._fullness(demand) if self._known else None

    def refusal(self, now: float, demand: Demand, wanted: Demand) -> Refusal | None:
        """Why `wanted` is refused beside `demand`; None: it is admitted. An idle machine admits everybody."""
        if not self._known or not wanted or not demand:
            return None
        relays = relays_only(wanted)
        if relays and not self._measured:
            return None
        fullness = self._fullness(demand + wanted, relays)
        if fullness > 1 + 1e-9:
            return Refusal(self._relay_full(demand, wanted) if relays else self._full(demand, wanted))
        lag_ms, max_ms = 1000 * self.lags.worst(now, 0.95), 1000 * self._max_lag_s
        if self._measured and lag_ms > max_ms:
            return Refusal(
                f"the server is behind: it reads 5% of what comes {lag_ms:.0f} ms late or more, it takes no others beyond {max_ms:.0f} ms",
                _LOOK_AGAIN_S,
            )
        wait_ms, bound_ms = 0.0 if relays else 1000 * self.waits.worst(now, 0.95), 1000 * self._max_wait_s
        if wait_ms > bound_ms:
            return Refusal(
                f"the server is behind: 5% of its packets wait {wait_ms:.0f} ms or more, it takes no others beyond {bound_ms:.0f} ms",
                _LOOK_AGAIN_S,
            )
        if not self._measured:
            return None
        new = Demand({need: count for need, count in self._newcomers(now).items() if (need[0] == "relay") is relays})
        known = self._fullness(demand - new, relays)
        bound = known + (_LISTENERS_AT_ONCE if relays else _AT_ONCE) * (1 - known)
        if fullness > bound and new.total() + 1 > _FEW:
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
            self._new += wanted

    def left(self, stream: str, kind: Kind | None = None) -> None:
        """`stream` is gone, or its steps of one `kind` are: what came and went does not count as new."""
        kept = ((at, name, _without(wanted, kind) if name == stream else wanted) for at, name, wanted in self._joined)
        self._joined = deque(entry for entry in kept if entry[2])
        self._new = sum((wanted for _, _, wanted in self._joined), Demand())

    def correction_due(self, now: float) -> bool:
        """Whether `worked` is to be called again."""
        return self._measured and now - self._corrected_at >= _CORRECT_EVERY_S

    def worked(self, now: float, demand: Demand, work: Work) -> None:
        """Correct the prediction by what was really done for `demand`."""
        self._corrected_at = now
        self._load_model.learn(now, demand, work)

    def _newcomers(self, now: float) -> Demand:
        """Those that came too late for the last correction to have seen what they take."""
        known_until = max(self._corrected_at - _SHOWN_S, now - _KNOWN_S)
        while self._joined and self._joined[0][0] <= known_until:
            self._new -= self._joined.popleft()[2]
        return self._new

    def _fullness(self, demand: Demand, relays: bool = False) -> float:
        """What share of what is allowed `demand` takes: of the fullest of the three resources, or for `relays` of the loop's time."""
        if relays:
            return self.shares(demand).interpreter / self._max_relay
        return max(share / allowed for share, allowed in zip(self.shares(demand), self._allowed, strict=True))

    def _full(self, demand: Demand, wanted: Demand) -> str:
        kind, frames = next(need for need in wanted if need[0] != "relay")
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

    def _relay_full(self, demand: Demand, wanted: Demand) -> str:
        listeners = sum(count for (kind, _), count in demand.items() if kind == "relay")
        share = self.shares(demand + wanted).interpreter
        return (
            f"the server passes packets on to {listeners} listener(s); with one more all beside the model would take {100 * share:.0f}% "
            f"of a processor's time, and {100 * self._max_relay:.0f}% is allowed"
        )


def relays_only(wanted: Demand) -> bool:
    """Whether a newcomer brings nothing but packets to pass on."""
    return all(kind == "relay" for kind, _ in wanted)


def _without(wanted: Demand, kind: Kind | None) -> Demand:
    return Demand() if kind is None else Demand({need: count for need, count in wanted.items() if need[0] != kind})
