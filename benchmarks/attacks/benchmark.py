"""What a run of `benchmarks.attacks` takes, its three processes, and what is made of what they tell."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe

from benchmarks.attacks.attacks import ATTACKS
from benchmarks.attacks.render import headlines, render
from benchmarks.attacks.streams import OrdinaryStreams, StreamLog, stream
from benchmarks.attacks.wire import AttackTarget, Got
from benchmarks.harness.machine import Observed
from benchmarks.harness.models import Loading
from benchmarks.harness.processes import Address, Processes, Serving, run_loop, serve
from benchmarks.harness.run import Benchmark
from benchmarks.harness.sections import Figures
from benchmarks.harness.timing import percentiles
from streamcodec.server import Limits

__all__ = ["BENCHMARK", "figures_of"]

_SETTLE_S = 2.0
_MARGIN_S = 1.0  # what fell due in the last second of a phase may still be on its way


@dataclass(frozen=True)
class Asked:
    """What the attacker's process is told."""

    name: str
    port: int
    fingerprint: str


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    add = parser.add_argument
    add("--streams", type=int, default=10, help="ordinary ones, each with a listener")
    add("--before-seconds", type=float, default=10.0, help="in which nobody attacks")
    add("--seconds", type=float, default=20.0, help="of the attack")
    add("--model", default="speech-24k")
    add("--engine", choices=("auto", "torch", "openvino"), default="auto")
    add("--threads", type=int, default=1)
    add("--workers", type=int, default=1)


def refuse(_: argparse.Namespace) -> str | None:
    """An attacker of its own address needs all of 127.0.0.0/8."""
    return None if sys.platform == "linux" else "attacks come from an address of loopback that Linux alone has: 127.0.0.66"


def measure(args: argparse.Namespace, observed: Observed) -> Figures:
    """Run the attack `args.case` beside the streams.

    The server has its default limits, but bounds loopback like other addresses, and is never full.
    """
    with observed, Processes() as processes:
        loading = Loading(args.model, args.engine, threads=args.threads, workers=args.workers)
        server = processes.start(serve, Serving(loading, limits=Limits(bound_loopback=True, capacity=None)))
        address: Address = server.receive()
        ordinary = processes.start(stream, OrdinaryStreams(address.url, address.fingerprint, args.streams))
        ordinary.receive()
        attacker = processes.start(attack)
        time.sleep(_SETTLE_S)
        began = time.perf_counter()
        time.sleep(args.before_seconds + _MARGIN_S)
        before, at = server.ask("usage"), time.perf_counter()
        attacker.send((Asked(args.case, address.port, address.fingerprint), args.seconds))
        got: Got = attacker.receive()
        ended = time.perf_counter()
        time.sleep(_MARGIN_S)
        after = server.ask("usage")
        logs: list[StreamLog] = ordinary.ask("stop")
    print(f"{args.case}: done", file=sys.stderr, flush=True)
    return figures_of(logs, (began, at - _MARGIN_S), (at, ended), got, (before, after), args)


def attack(pipe: Pipe) -> None:
    """Wait for what to do, do it, and send what was `Got`."""
    message = pipe.recv()
    if message == "stop":
        return
    asked, seconds = message
    target = AttackTarget(asked.port, asked.fingerprint, time.perf_counter() + seconds)

    async def run() -> None:
        await ATTACKS[asked.name](target)

    run_loop(run())
    pipe.send(target.got)


def figures_of(
    logs: Sequence[StreamLog],
    before: tuple[float, float],
    during: tuple[float, float],
    got: Got,
    used: tuple[dict[str, float], dict[str, float]],
    args: argparse.Namespace,
) -> Figures:
    """What the streams noticed in each phase, what the server used, and what the attacker did and got."""
    return {
        "streams": args.streams,
        "before": _phase(logs, *before),
        "during": _phase(logs, *during),
        "attack_s": during[1] - during[0],
        "connections": got.connections,
        "sent_mib": got.sent_bytes / 2**20,
        "answers": dict(got.answers.most_common(6)),
        "server_mib": [one["rss_mib"] for one in used],
        "server_cores": (used[1]["cpu_s"] - used[0]["cpu_s"]) / (used[1]["at"] - used[0]["at"]),
        "failures": [log.error for log in logs if log.error],
    }


def _phase(logs: Sequence[StreamLog], begin: float, end: float) -> Figures:
    found = [log.between(begin, end) for log in logs]
    late = [each for _, one in found for each in one]
    return {"lost": sum(lost for lost, _ in found), "came": len(late), "late_ms": percentiles(late) if late else None}


BENCHMARK = Benchmark(
    name="attacks",
    title="Attacks",
    question="What do ordinary streams notice of an attacker who sends what one core can send?",
    options=add_options,
    refuse=refuse,
    measure=measure,
    render=render,
    headlines=headlines,
    cases=tuple(ATTACKS),
    case=lambda args: str(args.case),
)
