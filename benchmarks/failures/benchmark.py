"""What a run of `benchmarks.failures` takes, how each failure is brought about, and what is made of what was seen."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import replace

from benchmarks.failures.clients import Witnesses
from benchmarks.failures.render import headlines, render
from benchmarks.failures.server import FailingServer, serve_and_fail
from benchmarks.harness.machine import Observed
from benchmarks.harness.models import Loading
from benchmarks.harness.processes import Address, Process, Processes, run_loop
from benchmarks.harness.run import Benchmark
from benchmarks.harness.sections import Figures
from streamcodec.server import Limits

__all__ = ["BENCHMARK", "FAILURES", "figures_of"]

FAILURES = {
    "a step of the engine hangs": "hang",
    "a step of the engine raises": "raise",
    "the engine's thread dies": "die",
    "the disk is full": "full disk",
    "no descriptors are left": "descriptors",
    "the server is killed (SIGKILL) and started again": "SIGKILL",
    "the server is stopped (SIGTERM) and started again": "SIGTERM",
}
_SETTLE_S = 2.0
_PATIENCE_S = 120.0
_SPENT_S = 3.0  # how long no descriptors are left
_WATCHED = re.compile(r"^streamcodec_(\w+_total(?:\{[^}]*\})?) (\S+)$", re.MULTILINE)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    add = parser.add_argument
    add("--model", default="speech-24k")
    add("--engine", choices=("auto", "torch", "openvino"), default="auto")
    add("--hung-step-seconds", type=float, default=Limits().hung_step_s, help="after which the server says that a step hangs")
    add("--after-seconds", type=float, default=3.0, help="that are looked at behind the recovery")


def refuse(_: argparse.Namespace) -> str | None:
    """Signals and limits of POSIX, and `/dev/null`."""
    return None if sys.platform == "linux" else "these failures are brought about as Linux does it"


def measure(args: argparse.Namespace, observed: Observed) -> Figures:
    """Let the server fail in the way `args.case` says, beside a publisher and a listener."""
    told = FailingServer(
        Loading(args.model, args.engine, threads=1, workers=1),
        limits=Limits(capacity=None, hung_step_s=args.hung_step_seconds),
        full_disk=FAILURES[args.case] == "full disk",
    )
    with observed, Processes() as processes:
        figures = run_loop(_measure(args, told, processes))
    print(f"{args.case}: done", file=sys.stderr, flush=True)
    return figures


async def _measure(args: argparse.Namespace, told: FailingServer, processes: Processes) -> Figures:
    server = processes.start(serve_and_fail, told)
    address: Address = await asyncio.to_thread(server.receive)
    seen = Witnesses(address.port, address.fingerprint)
    async with _running(seen):
        if await seen.until(0.0, _PATIENCE_S) is None:
            raise RuntimeError(f"no packet ever came: {seen.errors}")
        await asyncio.sleep(_SETTLE_S)
        before = counters(await seen.get("/metrics"))
        failed = time.perf_counter()
        server = await _fail(FAILURES[args.case], server, replace(told, port=address.port), processes)
        recovered = await _recovery(seen, failed, restarted=args.case.endswith("again"))
        await asyncio.sleep(args.after_seconds)
        after = counters(await seen.get("/metrics"))
    return figures_of(seen, failed, recovered, {name: value - before.get(name, 0.0) for name, value in after.items()})


@contextlib.asynccontextmanager
async def _running(seen: Witnesses) -> AsyncIterator[None]:
    task = asyncio.create_task(seen.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _fail(how: str, server: Process, again: FailingServer, processes: Processes) -> Process:
    """Bring the failure about; returns the server that serves behind it."""
    if how in ("SIGKILL", "SIGTERM"):
        os.kill(server.pid, getattr(signal, how))
        await asyncio.to_thread(server.wait)
        server = processes.start(serve_and_fail, again)
        await asyncio.to_thread(server.receive)
    elif how == "descriptors":
        server.send("descriptors")
        await asyncio.sleep(_SPENT_S)
        server.send("give back")
    elif how != "full disk":
        server.send(how)
    return server


async def _recovery(seen: Witnesses, failed: float, *, restarted: bool) -> float | None:
    """When audio went on: the first packet behind the longest silence since the failure, once packets have come steadily for a second."""
    give_up = time.perf_counter() + _PATIENCE_S
    while time.perf_counter() < give_up:
        await asyncio.sleep(0.1)
        now = time.perf_counter()
        since = [at for at in seen.packets if at > failed]
        lately = [at for at in since if at > now - 1.0]
        if len(lately) >= 5 and now - failed > 2.0 and (not restarted or any(at > failed for at, _ in seen.errors)):
            return max(itertools.pairwise([failed, *since]), key=lambda pair: pair[1] - pair[0])[1]
    return None


def counters(text: str) -> dict[str, float]:
    """The counters in what `/metrics` says."""
    return {name: float(value) for name, value in _WATCHED.findall(text)}


def figures_of(seen: Witnesses, failed: float, recovered: float | None, changed: dict[str, float]) -> Figures:
    """What was seen from the moment of the failure on; times are seconds since then."""
    words = dict[str, float]()
    lost = sum(count for at, count in seen.lost if at > failed)
    for at, what in seen.errors:
        if at > failed:
            words.setdefault(what, round(at - failed, 2))
    interesting = ("abandoned", "dropped", "refused", "failed", "resumed", "limited")
    return {
        "recovered_s": None if recovered is None else recovered - failed,
        "health": [[round(at - failed, 2), said] for at, said in seen.health if at > failed],
        "gaps": [[round(at - failed, 2), count, reason] for at, count, reason in seen.gaps if at > failed],
        "clients": [[at, what] for what, at in words.items()],
        "counters": {name: value for name, value in changed.items() if value and any(word in name for word in interesting)},
        "lost": lost,
        "failures": ([] if recovered is not None else ["audio did not go on"])
        + ([f"{lost} packets lost that no gap names"] if lost else []),
    }


BENCHMARK = Benchmark(
    name="failures",
    title="Failures",
    question="When something under the server fails, what do health, figures and clients say, and when does audio go on?",
    options=add_options,
    refuse=refuse,
    measure=measure,
    render=render,
    headlines=headlines,
    cases=tuple(FAILURES),
    case=lambda args: str(args.case),
)
