"""What a run of `benchmarks.latency` takes, and a case's figures."""

from __future__ import annotations

import argparse
import sys

import numpy as np

from benchmarks.harness.machine import Observed
from benchmarks.harness.models import Loading
from benchmarks.harness.run import Benchmark
from benchmarks.harness.sections import Figures
from benchmarks.latency.cases import CASES, Case, Lengths, make_case
from benchmarks.latency.device import hour_of_drift
from benchmarks.latency.figures import ear_figures, quality_by_second, thinned
from benchmarks.latency.render import draw, headlines, render
from benchmarks.latency.run import HOP, RATE, Ran, Setup, run, spoken
from benchmarks.link.netns import missing

__all__ = ["BENCHMARK"]

_SHORT_PACKETS = ("loopback-13", "loopback-27")


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    add = parser.add_argument
    add("--minutes", type=float, help="of loopback and drift (default: 10; 2 where packets are shorter)")
    add("--before-seconds", type=float, default=10.0, help="until something happens to the network")
    add("--during-seconds", type=float, help="of narrow, jitter, reset and shrink (default: each case's own)")
    add("--after-seconds", type=float, default=15.0, help="until the end, once the network is well again")
    add("--compressed-minutes", type=float, default=60.0, help="of drift in made-up time")
    add(
        "--netns",
        action="store_true",
        help="network namespaces with netem instead of the proxy: takes root, iproute2 and a kernel with netem",
    )


def refuse(args: argparse.Namespace) -> str | None:
    """Network namespaces take more than every machine has."""
    why = missing() if args.netns else None
    return why and f"no network namespaces with netem here: {why}"


def measure(args: argparse.Namespace, observed: Observed) -> Figures:
    """Run the case `args.case`; a missed goal is no error."""
    minutes = args.minutes or (2.0 if args.case in _SHORT_PACKETS else 10.0)
    lengths = Lengths(60 * minutes, args.before_seconds, args.during_seconds, args.after_seconds, args.compressed_minutes)
    case = make_case(args.case, lengths)
    print(f"{args.case}: {sum(setup.seconds for setup in case.runs.values()):.0f} s. {case.about}", file=sys.stderr)
    with observed:
        figures = _measure(case, netns=args.netns)
    for goal in figures["goals"]:
        print(f"{args.case}: {goal['goal']}: {goal['found']} {goal['unit']}, at most {goal['most']:g}: {goal['met']}", file=sys.stderr)
    return figures


def _measure(case: Case, *, netns: bool) -> Figures:
    runs: dict[str, Figures] = {}
    for name, setup in case.runs.items():
        ran = run(setup, netns=netns)
        runs[name] = {
            "seconds": setup.seconds,
            "packet_ms": 1000 * setup.packet_s,
            "kbps": setup.bandwidth,
            "uplink_broken": len(ran.broken),
            "uplink_dropped_s": ran.uplink_dropped_s,
            "ears": [ear_figures(setup, ear, ran) for ear in setup.ears],
        }
        if case.quality:
            runs[name]["quality_db"] = _quality(setup, ran)
    if case.compressed_minutes:
        sound, packet = spoken(10.0), 6 * HOP
        last = runs[list(runs)[-1]]
        last["compressed"] = [hour_of_drift(sound, RATE, packet, case.compressed_minutes, ppm) for ppm in case.ppm]
    goals = case.goals(runs)
    for ear in (ear for each in runs.values() for ear in each["ears"]):
        ear["course"] = thinned(ear["course"])
    return {
        "about": case.about,
        "network": "netns" if netns else "proxy",
        "disturbed": None if case.disturbed is None else list(case.disturbed),
        "runs": runs,
        "goals": goals,
    }


def _quality(setup: Setup, ran: Ran) -> dict[str, list[float | None]]:
    """What every listener heard, second by second, against the whole bandwidth decoded without a network."""
    codec = Loading(setup.model)()
    encoder, decoder = codec.stream_encoder(setup.bandwidth), codec.stream_decoder(setup.bandwidth)
    codes = [*encoder.feed(spoken(setup.seconds)), *encoder.flush()]
    reference = np.concatenate([*(decoder.feed(packet) for packet in codes), decoder.flush()])
    return {ear.name: quality_by_second(setup, ran, ran.heard[ear.name], reference) for ear in setup.ears}


BENCHMARK = Benchmark(
    name="latency",
    title="Latency, packet by packet",
    question="Where does the time go on every packet's way from the microphone to the device, on networks good and bad?",
    options=add_options,
    refuse=refuse,
    measure=measure,
    render=render,
    draw=draw,
    headlines=headlines,
    cases=tuple(CASES),
    case=lambda args: f"{args.case}-netns" if args.netns else str(args.case),
)
