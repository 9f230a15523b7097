"""The phases of a capacity run: grow until packets are late, hold (fewer where that is too much), 150% of it, back to 75%; and 150% once
more where the server may refuse.

They ask for publishers, wait, and read the ledger; how publishers come about is the `Publishers`'s business.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from benchmarks.capacity.ledger import PCM, PacketLedger, Sample, back_after
from benchmarks.harness.sections import Figures
from benchmarks.harness.timing import percentiles

__all__ = ["LIMIT_MS", "CapacityRun", "PhasePlan", "Publishers", "fewer_to_hold", "run_admission", "run_phases"]

LIMIT_MS = 40.0
_LOOK_EVERY_S = 0.5
_SETTLE_S = 1.0  # what newcomers set off is over by then
_DRAIN_S = 30.0
_MOST_HOLDS = 3
_TRIES = 3  # of a count


class Publishers(Protocol):
    """How publishers reach the model. `usage` says of "model" and "load": `cpu_s` so far and `at` (s), and of the model `rss_mib`."""

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def want(self, streams: int) -> None: ...
    def collect(self) -> Sample: ...
    def usage(self) -> dict[str, dict[str, float]]: ...


@dataclass(frozen=True)
class PhasePlan:
    """Where growth begins and ends and what it adds (publishers), how long phases take (s), and what to hold: None is the last good."""

    begin: int
    step: int
    most: int
    grow_s: float
    hold: int | None
    hold_s: float
    overload_s: float
    recovery_s: float
    joins_per_s: float
    patience_s: float


@dataclass
class CapacityRun:
    """A way under way, its ledger, and what was noted of each phase."""

    way: Publishers
    ledger: PacketLedger = field(default_factory=PacketLedger)
    live: int = 0

    def watch(self, seconds: float) -> None:
        """Let it go on, entering what happens."""
        until = time.perf_counter() + seconds
        while (left := until - time.perf_counter()) > 0:
            time.sleep(min(_LOOK_EVERY_S, left))
            sample = self.way.collect()
            self.live = sample.live
            self.ledger.add(sample, time.perf_counter())

    def want(self, streams: int, joins_per_s: float) -> None:
        """Have so many publishers, and wait until they are there or were refused."""
        self.way.want(streams)
        refused, give_up = len(self.ledger.refused), time.perf_counter() + abs(streams - self.live) / joins_per_s + 10
        while self.live + len(self.ledger.refused) - refused != streams and time.perf_counter() < give_up:
            self.watch(0.1)

    def in_time(self, begin: float, end: float) -> bool:
        """Whether what fell due in [begin, end) came in time, 99% within the limit, and nothing was dropped."""
        return bool(self.ledger.p99_ms(begin, end) < LIMIT_MS and not self.ledger.dropped(begin, end))

    def phase(self, streams: int, begin: float, end: float, usage: tuple[Any, Any]) -> Figures:
        """What the ledger says of [begin, end), during which there were so many publishers."""
        late, pcm, own = self.ledger.late_ms(begin, end), self.ledger.late_ms(begin, end, PCM), self.ledger.own_ms(begin, end)
        before, after = usage

        def cores(part: str) -> float:
            spent: float = after[part]["cpu_s"] - before[part]["cpu_s"]
            wall: float = after[part]["at"] - before[part]["at"]
            return spent / wall

        figures = {
            "streams": streams,
            "seconds": end - begin,
            "packets": len(late),
            "late_ms": percentiles(list(late)),
            "dropped": self.ledger.dropped(begin, end),
            "handed_over_late_ms": percentiles(list(own)),
            "cores": cores("model"),
            "load_cores": cores("load"),
            "rss_mib": [before["model"]["rss_mib"], after["model"]["rss_mib"]],
        }
        return figures if not len(pcm) else {**figures, "pcm_packets": len(pcm), "pcm_late_ms": percentiles(list(pcm))}


def run_phases(run: CapacityRun, course: PhasePlan) -> Figures:
    """All phases in one go; raises `RuntimeError` where not one publisher is let in."""
    levels, good = _grow(run, course)
    count: int | None = course.hold or good or course.begin
    print(f"{good} in time", file=sys.stderr)
    holds = []
    while count is not None:
        holds.append(_hold(run, count, course))
        count = fewer_to_hold(course, [streams for streams, *_ in holds], in_time=run.in_time(*holds[-1][1:3]))
    count, begin, fallen_in, (before, between) = holds.pop()
    more, fewer = _share(count, 1.5), _share(count, 0.75)
    print(f"{more} for {course.overload_s:g} s", file=sys.stderr)
    run.way.want(more)
    run.watch(course.overload_s)
    reached = run.live
    after, fall = run.way.usage(), time.perf_counter()
    print(f"back to {fewer}", file=sys.stderr)
    run.way.want(fewer)
    run.watch(course.recovery_s)
    give_up = fall + course.recovery_s + course.patience_s
    while back_after(run.ledger, fall, time.perf_counter(), LIMIT_MS) is None and time.perf_counter() < give_up:
        run.watch(1.0)
    end, last = time.perf_counter(), run.way.usage()
    _drain(run)
    hold = run.phase(count, begin, fallen_in, (before, between))
    too_many = [run.phase(*each) for each in holds]
    shares = np.linspace(0, 100, 201)
    late = run.ledger.late_ms(begin, fallen_in)
    return {
        "limit_ms": LIMIT_MS,
        "growth": levels,
        "grown_to": good,
        "grown_until": max(level["streams"] for level in levels),
        "hold": hold,
        "held_too_many": too_many,
        "held": run.in_time(begin, fallen_in),
        "hold_distribution_ms": [round(float(v), 2) for v in np.percentile(late, shares)] if len(late) else [],
        "overload": {**run.phase(more, fallen_in, fall, (between, after)), "reached": reached},
        "recovery": {**run.phase(fewer, fall, end, (after, last)), "back_after_s": back_after(run.ledger, fall, end, LIMIT_MS)},
        "over_time": {"overload_at": fallen_in - begin, "recovery_at": fall - begin, **run.ledger.seconds(begin, end)},
        "never_came": run.ledger.waiting,
        "gaps": run.ledger.gaps,
        "failures": run.ledger.failures[:20],
    }


def fewer_to_hold(course: PhasePlan, tried: Sequence[int], *, in_time: bool) -> int | None:
    """What to hold next, where the last of `tried` was not in time: a step fewer.

    None where it was, where a count was asked for, and at the end of patience.
    """
    fewer = tried[-1] - course.step
    return None if in_time or course.hold is not None or len(tried) >= _MOST_HOLDS or fewer < 1 else fewer


def _hold(run: CapacityRun, count: int, course: PhasePlan) -> tuple[int, float, float, tuple[Any, Any]]:
    """Hold a count; returns it, when that began and ended, and the usage at both."""
    print(f"holding {count} for {course.hold_s:g} s", file=sys.stderr)
    _calm(run, count, course)
    before, begin = run.way.usage(), time.perf_counter()
    run.watch(course.hold_s)
    return count, begin, time.perf_counter(), (before, run.way.usage())


def run_admission(run: CapacityRun, streams: int, seconds: float, joins_per_s: float) -> Figures:
    """Let `streams` publishers come to a server that may refuse them, and see how those fare that it took."""
    run.want(streams, joins_per_s)
    before, begin = run.way.usage(), time.perf_counter() + _SETTLE_S
    run.watch(_SETTLE_S + seconds)
    after, end = run.way.usage(), time.perf_counter()
    accepted = run.live
    _drain(run)
    reasons = Counter(code for code, _ in run.ledger.refused)
    return {
        **run.phase(accepted, begin, end, (before, after)),
        "asked": streams,
        "refused": len(run.ledger.refused),
        "reasons": {code: {"count": n, "first": next(why for c, why in run.ledger.refused if c == code)} for code, n in reasons.items()},
        "failures": run.ledger.failures[:20],
    }


def _grow(run: CapacityRun, course: PhasePlan) -> tuple[list[Figures], int]:
    """Add publishers until packets are late or lost in each of `_TRIES`; return what was seen, and the last count that was in time."""
    levels: list[Figures] = []
    good, count = 0, course.begin
    while count <= course.most:
        for attempt in range(_TRIES):
            if attempt:
                # It may have been something else on this machine: what waits must go before the count is tried again.
                _calm(run, good or max(1, course.begin // 2), course)
            level = _level(run, count, course)
            levels.append(level)
            if level["in_time"]:
                break
        if not level["in_time"]:
            break
        good, count = count, count + course.step
    return levels, good


def _level(run: CapacityRun, count: int, course: PhasePlan) -> Figures:
    run.want(count, course.joins_per_s)
    run.watch(_SETTLE_S)
    if not run.live:
        raise RuntimeError(f"no publisher was let in: {[*run.ledger.refused, *run.ledger.failures][:3]}")
    before, begin = run.way.usage(), time.perf_counter()
    run.watch(course.grow_s)
    after, end = run.way.usage(), time.perf_counter()
    p99 = run.ledger.p99_ms(begin, end)
    level = run.phase(count, begin, end, (before, after))
    in_time = bool(p99 < LIMIT_MS and not level["dropped"] and run.live == count)
    print(f"{run.live} publishers: p99 {p99:.1f} ms, {level['dropped']} dropped, {level['cores']:.2f} cores", file=sys.stderr)
    return {**level, "p99_ms": p99, "in_time": in_time}


def _calm(run: CapacityRun, count: int, course: PhasePlan) -> None:
    """Have `count` publishers and wait until a second's packets are in time, as long as there is patience."""
    run.want(count, course.joins_per_s)
    give_up = time.perf_counter() + course.patience_s
    run.watch(_SETTLE_S)
    while time.perf_counter() < give_up:
        now = time.perf_counter()
        if run.ledger.p99_ms(now - _SETTLE_S, now) < LIMIT_MS:
            return
        run.watch(_LOOK_EVERY_S)


def _drain(run: CapacityRun) -> None:
    """Let everybody leave and wait for what is still to come."""
    run.way.want(0)
    give_up = time.perf_counter() + _DRAIN_S
    run.watch(0.2)
    while (run.ledger.waiting or run.live) and time.perf_counter() < give_up:
        run.watch(0.2)
    run.watch(0.2)


def _share(count: int, share: float) -> int:
    return max(1, round(count * share))
