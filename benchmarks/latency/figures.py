"""What a latency run's notes say: every packet's way stage by stage, its course over time, and how long a disturbance was felt."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from benchmarks.harness.sections import Figures
from benchmarks.harness.timing import percentiles
from benchmarks.latency.run import HOP, RATE, Ear, Heard, Ran, Setup

__all__ = ["AGAIN_WITHIN_MS", "STAGES", "back_after", "ear_figures", "median_between", "quality_by_second", "thinned"]

Array = npt.NDArray[np.float64]

STAGES = ("capture", "uplink", "queue", "encode", "downlink", "decode", "playout")
AGAIN_WITHIN_MS = 20.0  # of what it was, counted from the target: a delay is back
_MAX_POINTS = 300
_SETTLED_S = 3.0
_BEST_DB, _WORST_DB = 60.0, -20.0
_QUIET = 0.1  # of the whole's RMS: in a second of less there is too little to compare


def ear_figures(setup: Setup, ear: Ear, ran: Ran) -> Figures:
    """All that is told of one listener."""
    heard = ran.heard[ear.name]
    ways = _ways(setup, heard, ran)
    handed = ~np.isnan(ways["delay"])
    timed = ~np.isnan(np.stack([ways[name] for name in STAGES])).any(axis=0)
    numbers = np.unique(np.round(ways["t"] / setup.packet_s))
    return {
        "name": ear.name,
        "drift_ppm": ear.drift_ppm,
        "expected": setup.packets,
        "packets": len(heard.packets),
        "missing": setup.packets - len(numbers),
        "told_missing": sum(count for _, count, _ in heard.gaps),
        "gaps": [{"at_s": round((at - ran.begun) / 1e6, 2), "count": count, "reason": reason} for at, count, reason in heard.gaps],
        "left_out": int(np.count_nonzero(~handed)),
        "broken": [{"at_s": round((at - ran.begun) / 1e6, 2), "why": _plain(why)} for at, why in heard.broken],
        "resumed": heard.resumed,
        "underruns": heard.underruns,
        "jumps": heard.jumps,
        "dropped_s": heard.dropped_s,
        "shortened_s": heard.shortened_s,
        "lengthened_s": heard.lengthened_s,
        "steering_ppm": 1e6 * heard.steering,
        "withheld_ms": 1000 * heard.withheld_s,
        "longest_silence_s": max(0.0, float(np.max(np.diff(ways["heard"][handed]), initial=0.0)) - setup.packet_s),
        "stages_ms": {name: percentiles(list(ways[name][timed])) for name in (*STAGES, "delay", "target", "added", "decoded")},
        "distribution_ms": {name: _distribution(ways[name][timed]) for name in ("added", "decoded")},
        "course": _course(ways),
    }


def _plain(why: str) -> str:
    """Without the address, which is another one each time."""
    return " ".join("..." if word.startswith("ws://") else word for word in why.split())


def _ways(setup: Setup, heard: Heard, ran: Ran) -> dict[str, Array]:
    """For each packet in order: `t` (s, when its last sample was captured), its stages, `delay` until it was handed over, `target`,
    `added` = delay - target, `decoded` (until then), `heard` (s, when its first sample sounded): ms where not s, NaN where unknown."""
    packet_us = round(1e6 * setup.packet_s)
    # A packet's timestamp is its first sample's; a trace has when its last one was captured.
    traces = {(times[0] - packet_us) % 2**32: times for times in ran.traces}
    block_us = 1e6 * setup.block_frames * HOP / RATE
    rows = []
    for packet, handed in zip(heard.packets, heard.handed, strict=True):
        at = round((packet.captured - ran.begun) / block_us) - 1
        offered = ran.offered[at] if 0 <= at < len(ran.offered) and ran.offered[at] else np.nan
        # The server's clock by what both say of one moment; where there is no trace, the stages in between stay unknown.
        captured, received, started, done, _ = traces.get(packet.timestamp, [np.nan] * 5)
        there = captured - packet.captured
        handed_us = np.nan if handed.at is None else 1e6 * handed.at
        marks = [packet.captured, offered, received - there, started - there, done - there, packet.received, packet.decoded, handed_us]
        delay, target = handed_us - packet.captured, 1e6 * handed.stats.target_s
        seconds = (packet.captured - ran.begun) / 1e6
        sounded = (handed_us - ran.begun) / 1e6 + handed.within_s
        ms = np.array([*np.diff(marks), delay, target, delay - target, packet.decoded - packet.captured]) / 1000
        rows.append([seconds, sounded, packet.n_q, *ms])
    table = np.array(rows, np.float64).reshape(-1, 3 + len(STAGES) + 4)
    return dict(zip(("t", "heard", "n_q", *STAGES, "delay", "target", "added", "decoded"), table.T, strict=True))


def _distribution(values: Array) -> list[float]:
    """The value at each percent."""
    return [round(float(value), 2) for value in np.percentile(values, np.linspace(0, 100, 101))] if len(values) else []


def _course(ways: dict[str, Array]) -> Figures:
    """Packet by packet: when captured and heard (s), delays (ms; None: not played), targets, bandwidth (kbps)."""

    def known(values: Array, digits: int) -> list[float | None]:
        return [None if np.isnan(value) else round(float(value), digits) for value in values]

    return {
        "t": known(ways["t"], 3),
        "heard": known(ways["heard"], 3),
        "delay_ms": known(ways["delay"], 1),
        "target_ms": known(ways["target"], 1),
        "decoded_ms": known(ways["decoded"], 1),
        "kbps": known(ways["n_q"] * 0.75, 2),
    }


def thinned(course: Figures) -> Figures:
    """The same for a picture: the median of as many packets as it takes to make it a few hundred points."""
    per = -(-len(course["t"]) // _MAX_POINTS) or 1

    def thin(values: list[float | None]) -> list[float | None]:
        parts = [[v for v in values[at : at + per] if v is not None] for at in range(0, len(values), per)]
        return [round(float(np.median(part)), 3) if part else None for part in parts]

    return {name: thin(values) for name, values in course.items() if name != "heard"}


def back_after(course: Figures, packet_s: float, begins_s: float, over_s: float) -> float | None:
    """How long after `over_s` (s) the delay was back: a whole second of sound in which no packet is more than `AGAIN_WITHIN_MS` further
    from the target than the median was before `begins_s`, and at most a fifth is missing; None: not in what was recorded."""
    played = [
        (heard, delay - target)
        for heard, delay, target in zip(course["heard"], course["delay_ms"], course["target_ms"], strict=True)
        if heard is not None and delay is not None
    ]
    before = [excess for heard, excess in played if min(_SETTLED_S, begins_s / 2) <= heard < begins_s]
    if not before:
        return None
    most = float(np.median(before)) + AGAIN_WITHIN_MS
    wanted = 0.8 / packet_s
    behind = [(heard, excess) for heard, excess in played if heard >= over_s]
    for since in [over_s, *(heard for heard, _ in behind)]:
        second = [excess for heard, excess in behind if since <= heard < since + 1.0]
        if len(second) >= wanted and max(second) <= most:
            return round(float(since - over_s), 3)
    return None


def quality_by_second(setup: Setup, ran: Ran, heard: Heard, reference: npt.NDArray[np.float32]) -> list[float | None]:
    """SI-SDR in dB of what was decoded against `reference` [T], second by second, from -20 (or nothing came) to 60; None where the
    reference is all but silent."""
    size = setup.packet_frames * HOP
    placed = np.zeros(len(reference), np.float32)
    for packet, samples in zip(heard.packets, heard.decoded, strict=True):
        at = (round((packet.captured - ran.begun) / 1e6 / setup.packet_s) - 1) * size
        if at >= 0 and at + len(samples) <= len(placed):
            placed[at : at + len(samples)] = samples
    least = (_QUIET * float(np.sqrt(np.mean(reference.astype(np.float64) ** 2)))) ** 2
    seconds = [(placed[at : at + RATE], reference[at : at + RATE]) for at in range(0, len(reference) - RATE + 1, RATE)]
    return [_si_sdr(y, x) if float(np.mean(x.astype(np.float64) ** 2)) > least else None for y, x in seconds]


def _si_sdr(heard: npt.NDArray[np.float32], reference: npt.NDArray[np.float32]) -> float:
    x, y = reference.astype(np.float64), heard.astype(np.float64)
    wanted = x * float(x @ y) / float(x @ x)
    found = 10 * float(np.log10((wanted @ wanted + 1e-12) / (np.sum((y - wanted) ** 2) + 1e-12))) if np.any(y) else _WORST_DB
    return round(min(_BEST_DB, max(_WORST_DB, found)), 2)


def median_between(course: Figures, name: str, begin_s: float, end_s: float) -> float:
    """The median of a course's values in a stretch of time."""
    found: Sequence[float] = [v for t, v in zip(course["t"], course[name], strict=True) if begin_s <= t < end_s and v is not None]
    return float(np.median(found)) if found else float("nan")
