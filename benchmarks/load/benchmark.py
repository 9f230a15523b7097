"""What a run of `benchmarks.load` takes, its two processes, and what is made of what they tell."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from benchmarks.harness.machine import Observed
from benchmarks.harness.models import Loading
from benchmarks.harness.parity import rule_of
from benchmarks.harness.processes import Address, Processes, Served, Serving, serve
from benchmarks.harness.run import Benchmark
from benchmarks.harness.sections import Figures
from benchmarks.harness.timing import percentiles
from benchmarks.load.check import Offline, Outcome, check, offline_codes
from benchmarks.load.clients import LoadReport, generate
from benchmarks.load.plan import Plan, make_plan
from benchmarks.load.render import draw, headlines, packets_per_second, render
from streamcodec.server import Limits

__all__ = ["BENCHMARK"]

_Usage = tuple[dict[str, float], dict[str, float]]

_STAGES = ("captured to received", "received to step", "the step", "step to queued")


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--publishers", type=int, default=20)
    parser.add_argument("--listeners", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--model", default="speech-24k")
    parser.add_argument("--threads", type=int, default=1, help="of the server's model, all workers together")
    parser.add_argument("--workers", type=int, default=1, help="steps that the server runs at the same time")
    parser.add_argument("--packet-frames", type=int, default=6)
    parser.add_argument("--pcm-every", type=int, default=2, help="every n-th stream has listeners of PCM, which the server decodes")
    parser.add_argument("--fast", action="store_true", help="send as quickly as the server takes it, and measure no latency")
    parser.add_argument("--block-ms", type=float, default=20.0, help="what a publisher's device hands over at once")


def measure(args: argparse.Namespace, observed: Observed) -> Figures:
    """Run the load, and check what every listener got against the same clips encoded and decoded in one go."""
    codec = Loading(args.model)()
    packet_s, block_s = args.packet_frames / codec.frame_rate, args.block_ms / 1000
    plan = make_plan(args.publishers, args.listeners, args.seconds, packet_s, block_s, args.pcm_every, fast=args.fast)
    print(f"encoding {args.publishers} clips of {plan.seconds:g} s in one go, to compare with", file=sys.stderr)
    rule = rule_of(codec)
    offline = [offline_codes(codec, rule, plan, publisher) for publisher in plan.publishers]
    print(f"{args.publishers} publishers and {args.listeners} listeners for {plan.seconds:g} s", file=sys.stderr)
    with observed:
        report, served, used = _run(plan, offline, Loading(args.model, threads=args.threads, workers=args.workers))
    print("checking what every listener got", file=sys.stderr)
    return _figures(plan, args.model, report, served, used, check(codec, plan, offline, report))


def _run(plan: Plan, offline: Sequence[Offline], loading: Loading) -> tuple[LoadReport, Served, _Usage]:
    """Run both processes; return what the load saw, what the server tells, and what the server had used before and after."""
    codes = {i: offline[i].codes for i, publisher in enumerate(plan.publishers) if publisher.format == "codes"}
    # Where nobody is in time, no machine is too small and no listener too slow.
    limits = Limits(capacity=None, stall_s=3600.0) if plan.fast else Limits()
    with Processes() as processes:
        server = processes.start(serve, Serving(loading, limits=limits, traces=True))
        address: Address = server.receive()
        clients = processes.start(generate, address.url, plan, address.fingerprint, codes)
        clients.receive()
        before = server.ask("usage")
        report: LoadReport = clients.ask("go")
        after = server.ask("usage")
        served: Served = server.ask("stop")
    return report, served, (before, after)


# The figures -------------------------------------------------------------------------------------------------------------------------


def _figures(plan: Plan, model: str, report: LoadReport, served: Served, used: _Usage, outcome: Outcome) -> Figures:
    packet_ms, rows = 1000 * plan.packet_s, outcome.rows
    coded = [row for row in rows if row["format"] == "codes"]
    latencies = {
        "all packets": outcome.latencies,
        **{f"listeners of {f}": [x for x in outcome.latencies if x["format"] == f] for f in sorted({row["format"] for row in rows})},
        **{f"publishers of {s}": [x for x in outcome.latencies if x["source"] == s] for s in sorted({row["source"] for row in rows})},
    }
    ways = np.diff(np.array(served.traces, np.float64).reshape(-1, len(_STAGES) + 1)) / 1000
    worst: dict[str, Any] = max(coded, key=lambda row: row.get("differing", -1), default={})
    return {
        "model": model,
        "pace": "fast" if plan.fast else "live",
        "seconds": plan.seconds,
        "packet_ms": packet_ms,
        "block_ms": 1000 * plan.block_s,
        "publishers": _count(publisher.kind for publisher in plan.publishers),
        "published_kbps": _count(f"{publisher.bandwidth:g}" for publisher in plan.publishers),
        "listeners": _count(row["format"] for row in rows),
        "listened_kbps": _count(f"{row['kbps']:g}" for row in coded if "kbps" in row),
        "encoded": sum(publisher.format != "codes" for publisher in plan.publishers),
        "decoded": len({which.stream for which in plan.listeners if which.format != "codes"}),
        "failures": outcome.failures,
        "packets": sum(row.get("packets", 0) for row in rows),
        "lost": sum(row.get("lost", 0) for row in rows),
        "dropped": sum(published.dropped for published in report.published),
        "differing": worst.get("differing"),
        "near_ties": worst.get("near_ties"),
        "codes_identical_listeners": sum(row.get("differing") == 0 for row in coded),
        "played_error": _worst([row.get("audio_error") for row in coded], max),
        "pcm_error": {f: _worst([row.get("audio_error") for row in rows if row["format"] == f], max) for f in ("pcm_f32le", "pcm_s16le")},
        "timestamp_error_ms": _worst([row.get("timestamp_error_ms") for row in rows], max),
        "latency_ms": {name: percentiles([ms for part in parts for ms in part["ms"]]) for name, parts in latencies.items() if parts},
        "stages_ms": {name: percentiles(list(ways[:, i])) for i, name in enumerate(_STAGES)} if len(ways) else {},
        "server": _load_of(used),
        "clients": _load_of(report.usage),
        "batch": served.rows / max(1, served.steps),
        "step_ms": 1000 * served.busy_s / max(1, served.steps),
        "distribution": _distribution(outcome.latencies),
        "over_time": _over_time(outcome.latencies, plan.packet_s),
        "rows": rows,
    }


def _count(values: Iterable[str]) -> dict[str, int]:
    names, counts = np.unique(list(values), return_counts=True)
    return {str(name): int(count) for name, count in zip(names, counts, strict=True)}


def _worst(values: Sequence[float | None], pick: Any) -> float | None:
    return pick([value for value in values if value is not None], default=None)  # type: ignore[no-any-return]


def _load_of(usage: _Usage) -> dict[str, float]:
    before, after = usage
    wall = after["at"] - before["at"]
    cores, loop = ((after[name] - before[name]) / wall for name in ("cpu_s", "loop_s"))
    return {"cores": cores, "loop_cores": loop, "peak_mib": after["peak_mib"]}


def _distribution(latencies: list[dict[str, Any]]) -> dict[str, list[float]]:
    """Latency at each percent of the packets, by what the listener gets."""
    shares = np.linspace(0, 100, 201)
    found = {}
    for format in sorted({part["format"] for part in latencies}):
        ms = np.concatenate([part["ms"] for part in latencies if part["format"] == format])
        found[format] = [round(float(value), 2) for value in np.percentile(ms, shares)]
    return found


def _over_time(latencies: list[dict[str, Any]], packet_s: float) -> dict[str, list[float]]:
    """Median and 99th percentile of each second, or as near to one as whole packets come."""
    per = packets_per_second(packet_s)
    longest = max((len(part["ms"]) for part in latencies), default=0)
    seconds = [[ms for part in latencies for ms in part["ms"][at : at + per]] for at in range(0, longest, per)]
    return {f"p{share}": [round(float(np.percentile(ms, share)), 2) for ms in seconds] for share in (50, 99)}


BENCHMARK = Benchmark(
    name="load",
    title="Many publishers and listeners at once",
    question="Do publishers and listeners of every kind, in real time on loopback, get exactly what they should, and how late?",
    options=add_options,
    measure=measure,
    render=render,
    draw=draw,
    headlines=headlines,
)
