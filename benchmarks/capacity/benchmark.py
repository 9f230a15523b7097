"""What a run of `benchmarks.capacity` takes, and its phases one after the other."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from benchmarks.capacity.in_process import InProcess
from benchmarks.capacity.phases import CapacityRun, PhasePlan, Publishers, run_admission, run_phases
from benchmarks.capacity.render import draw, headlines, render
from benchmarks.capacity.websocket import ThroughWebSockets
from benchmarks.capacity.websocket_load import WebSocketLoad
from benchmarks.harness.machine import Observed
from benchmarks.harness.models import Loading, model_folder, model_name
from benchmarks.harness.run import Benchmark
from benchmarks.harness.sections import Figures

__all__ = ["BENCHMARK"]

_HOP_S = 1 / 75


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    add = parser.add_argument
    add("--way", choices=("inprocess", "websocket"), default="inprocess")
    add("--model", default="speech-24k", help="a model, or full: the published full-size architecture with random weights")
    add("--engine", choices=("auto", "torch", "openvino"), default="auto")
    add("--precision", choices=("auto", "fp32", "bf16"), default="fp32")
    add("--threads", type=int, default=2, help="of the model, all together")
    add("--workers", type=int, default=1, help="steps at a time, which share the threads")
    add("--processes", type=int, default=1, help="through WebSockets: of the server, as `serve --processes` starts them")
    add("--packet-frames", type=int, default=6)
    add("--bandwidth", type=float, default=6.0, help="kbps")
    add("--block-ms", type=float, help="through WebSockets: what a publisher sends at once (default: a packet)")
    add("--pcm-listeners", type=int, default=0, help="through WebSockets: so many streams at most are also listened to as PCM")
    add("--from", type=int, default=20, dest="begin", help="publishers that growth begins with")
    add("--step", type=int, default=10, help="publishers that each step of growth adds")
    add("--most", type=int, default=2000, help="publishers that growth ends at")
    add("--grow-seconds", type=float, default=5.0, help="of each step, once all of its publishers are there")
    add("--hold", type=int, help="publishers to hold (default: the last count of the growth that was in time)")
    add("--minutes", type=float, default=5.0, help="to hold them")
    add("--overload-seconds", type=float, default=10.0, help="at 150%% of what was held; again, where refusing is allowed")
    add("--recovery-seconds", type=float, default=10.0, help="at 75%%, at least")
    add("--patience-seconds", type=float, default=30.0, help="to wait longer than planned for packets to be in time again")
    add("--joins-per-second", type=float, default=20.0)
    add("--seed", type=int, default=0, help="of the publishers' phases")


def refuse(args: argparse.Namespace) -> str | None:
    """Blocks are no longer than packets."""
    if args.block_ms is not None and not 0 < args.block_ms <= 1000 * args.packet_frames * _HOP_S:
        return f"--block-ms {args.block_ms:g}: expected at most a packet, {1000 * args.packet_frames * _HOP_S:g} ms"
    if args.processes > 1 and args.way != "websocket":
        return f"--processes {args.processes}: expected --way websocket"
    return None


def case_name(args: argparse.Namespace) -> str:
    """Way, model and precision."""
    pcm = f", {args.pcm_listeners} PCM listeners" if args.way == "websocket" and args.pcm_listeners else ""
    several = f", {args.processes} processes" if args.processes > 1 else ""
    return f"{_way(args)}, {model_name(args.model)}, {args.precision}{pcm}{several}"


def _way(args: argparse.Namespace) -> str:
    return "in process" if args.way == "inprocess" else "WebSockets"


def measure(args: argparse.Namespace, observed: Observed) -> Figures:
    """Run one case: all phases and, through WebSockets, 150% of what was held at a server that may refuse."""
    course = PhasePlan(
        begin=args.begin,
        step=args.step,
        most=args.most,
        grow_s=args.grow_seconds,
        hold=args.hold,
        hold_s=60 * args.minutes,
        overload_s=args.overload_seconds,
        recovery_s=args.recovery_seconds,
        joins_per_s=args.joins_per_second,
        patience_s=args.patience_seconds,
    )
    with model_folder(args.model) as model, observed:
        return _measure(args, Loading(model, args.engine, args.precision, args.threads, args.workers), course)


def _measure(args: argparse.Namespace, loading: Loading, course: PhasePlan) -> Figures:
    told = {
        "way": _way(args),
        "model": model_name(args.model),
        "precision": args.precision,
        "threads": args.threads,
        "workers": args.workers,
        "processes": args.processes,
        "packet_ms": 1000 * args.packet_frames * _HOP_S,
        "block_ms": args.block_ms or 1000 * args.packet_frames * _HOP_S,
        "kbps": args.bandwidth,
        "pcm_listeners": args.pcm_listeners if args.way == "websocket" else 0,
    }
    if args.way == "inprocess":
        way: Publishers = InProcess(loading(), args.packet_frames, args.bandwidth, joins_per_s=course.joins_per_s, seed=args.seed)
        return {**told, **_finished(CapacityRun(way), lambda run: run_phases(run, course))}

    def plan(url: str, fingerprint: str) -> WebSocketLoad:
        block_s = told["block_ms"] / 1000
        return WebSocketLoad(
            url, fingerprint, args.packet_frames, args.bandwidth, block_s, args.pcm_listeners, args.joins_per_second, args.seed
        )

    def through(*, admission: bool) -> CapacityRun:
        return CapacityRun(ThroughWebSockets(loading, plan, admission=admission, processes=args.processes))

    figures = _finished(through(admission=False), lambda run: run_phases(run, course))
    streams = figures["overload"]["streams"]
    print(f"{streams} for {course.overload_s:g} s at a server that may refuse", file=sys.stderr)
    admitted = _finished(through(admission=True), lambda run: run_admission(run, streams, course.overload_s, course.joins_per_s))
    return {**told, **figures, "admission": admitted, "failures": figures["failures"] + admitted["failures"]}


def _finished(run: CapacityRun, course: Callable[[CapacityRun], Figures]) -> Figures:
    try:
        run.way.start()
        return course(run)
    finally:
        run.way.stop()


BENCHMARK = Benchmark(
    name="capacity",
    title="How many live publishers one machine holds",
    question="How many live publishers does this machine hold with p99 lateness under 40 ms, and what happens beyond?",
    options=add_options,
    refuse=refuse,
    measure=measure,
    render=render,
    draw=draw,
    headlines=headlines,
    case=case_name,
)
