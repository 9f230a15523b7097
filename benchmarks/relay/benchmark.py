"""What a run of `benchmarks.relay` takes, its two processes, and what is made of what they tell."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from benchmarks.harness.machine import Observed
from benchmarks.harness.models import Loading
from benchmarks.harness.processes import Address, Process, Processes, Serving, serve
from benchmarks.harness.run import Benchmark
from benchmarks.harness.sections import Figures
from benchmarks.harness.timing import percentiles
from benchmarks.relay.listener import RelayLog
from benchmarks.relay.load import RelayLoad, RelayReport, generate
from benchmarks.relay.render import headlines, render

__all__ = ["BENCHMARK"]

_PATIENCE_S, _LOOK_EVERY_S, _IDLE_CORES = 60.0, 1.0, 0.05


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    add = parser.add_argument
    add("--listeners", type=int, default=1000)
    add("--processes", type=int, default=1, help="of the server, as `serve --processes` starts them")
    add("--join-seconds", type=float, default=5.0, help="in which they come")
    add("--hold-seconds", type=float, default=20.0, help="in which they listen")
    add("--over-seconds", type=float, default=10.0, help="with half as many again that have asked to come; 0: they do not")
    add("--model", default="speech-24k")
    add("--engine", choices=("auto", "torch", "openvino"), default="auto")
    add("--seed", type=int, default=0, help="of the codes")


def measure(args: argparse.Namespace, observed: Observed) -> Figures:
    """Run the load against a server with its default limits."""
    with observed, Processes() as processes:
        server = processes.start(serve, Serving(Loading(args.model, args.engine), processes=args.processes))
        address: Address = server.receive()
        load = RelayLoad(
            address.url, address.fingerprint, args.listeners, args.join_seconds, args.hold_seconds, args.over_seconds, seed=args.seed
        )
        _wait_until_idle(server)
        clients = processes.start(generate, load)
        used = []
        for _ in ("holding", "held", "over"):
            where = clients.receive()
            used.append(server.ask("usage"))
            print(where, file=sys.stderr, flush=True)
            clients.send("go on")
        report: RelayReport = clients.receive()
    return figures_of(load, report, used)


def _wait_until_idle(server: Process) -> None:
    """Wait until the server does nothing more: after its start it prepares its model for a while."""
    give_up, before = time.perf_counter() + _PATIENCE_S, server.ask("usage")
    while time.perf_counter() < give_up:
        time.sleep(_LOOK_EVERY_S)
        now = server.ask("usage")
        if _cores(before, now, "cpu_s") < _IDLE_CORES:
            return
        before = now


def figures_of(load: RelayLoad, report: RelayReport, used: Sequence[dict[str, float]]) -> Figures:
    """What the report says; `used` is what the server had used when the listeners were there, after the hold, and at the end."""
    in_hold = [one for one in report.held if not one.refused]
    let_in = [one for one in report.newcomers if one.answered is not None and not one.refused]
    everybody = [*report.held, *report.newcomers]
    return {
        "listeners": load.listeners,
        "kbps": load.n_q * 0.75,
        "packet_ms": 1000 * load.packet_s,
        "join_s": load.join_s,
        "hold": {
            **_crowd(report.held),
            **_delivery(in_hold, report, report.hold),
            "seconds": load.hold_s,
            "server_cores": _cores(used[0], used[1], "cpu_s"),
            "load_cores": _cores(report.usage[0], report.usage[1], "cpu_s"),
            "server_mib": used[1]["rss_mib"],
        },
        "over": {
            **_crowd(report.newcomers),
            **_delivery([*in_hold, *let_in], report, report.over),
            "seconds": load.over_s,
        }
        if load.over_s
        else None,
        "handed_over_late_ms": percentiles([1000 * late for late in report.handed_over_late_s]),
        "failures": _failures(everybody, report),
    }


def _crowd(group: Sequence[RelayLog]) -> Figures:
    """How those were answered that said hello."""
    times = [1000 * (one.answered - one.asked) for one in group if one.answered is not None]
    refused = Counter(one.refused for one in group if one.refused)
    return {
        "asked": len(group),
        "let_in": sum(one.answered is not None and not one.refused for one in group),
        "refused": {code: {"count": n, "first": next(one.reason for one in group if one.refused == code)} for code, n in refused.items()},
        "silent": sum(one.answered is None for one in group),
        "hello_ms": percentiles(times) if times else None,
    }


def _delivery(group: Sequence[RelayLog], report: RelayReport, span: tuple[float, float]) -> Figures:
    """What came, of what fell due in `span`, to those of `group` whose stream had begun by then, and how late."""
    begin, end = span
    late: list[npt.NDArray[np.float64]] = [np.empty(0)]
    expected = 0
    dues = np.array(report.dues)
    for one in group:
        due, lateness = np.array(one.due), np.array(one.late, np.float64)
        inside = (due >= begin) & (due < end)
        late.append(1000 * lateness[inside])
        first = np.inf if one.first_live is None else one.first_live
        expected += int(((dues >= begin) & (dues < end) & (np.arange(len(dues)) >= first)).sum())
    joined = np.concatenate(late)
    # A packet that came too late to be of use is not delivered, whatever came of it in the end.
    in_time = int((joined < 1000).sum())
    return {
        "expected": expected,
        "came": len(joined),
        "within_1s": in_time,
        "late_ms": percentiles(list(joined)) if len(joined) else None,
        "told": sum(one.told for one in group),
        "unnamed": sum(one.unnamed for one in group),
    }


def _cores(before: dict[str, float], after: dict[str, float], what: str) -> float:
    return (after[what] - before[what]) / (after["at"] - before["at"])


def _failures(everybody: Sequence[RelayLog], report: RelayReport) -> list[str]:
    """What must not be, however slow the machine is."""
    found = [report.publisher_error] if report.publisher_error else []
    checks = {
        "were not answered": sum(one.answered is None for one in everybody),
        "missed packets that no gap named": sum(one.unnamed > 0 for one in everybody),
        "got packets that differ from what was sent": sum(one.differing > 0 for one in everybody),
        "were let in and saw no end of the stream": sum(not one.ended and not one.refused for one in everybody),
    }
    return (
        found + [f"{count} listeners {what}" for what, count in checks.items() if count] + [one.error for one in everybody if one.error][:5]
    )


BENCHMARK = Benchmark(
    name="relay",
    title="One stream to many listeners",
    question="How many listeners of one stream does this machine serve, how late, and what are those told that are too many?",
    options=add_options,
    measure=measure,
    render=render,
    headlines=headlines,
    case=lambda args: f"{args.listeners} listeners" + (f", {args.processes} processes" if args.processes > 1 else ""),
)
