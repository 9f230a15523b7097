"""What a run of `benchmarks.soak` takes, its two processes, and what must hold in the end."""

from __future__ import annotations

import argparse
import re
import sys
import time
import urllib.request
from collections.abc import Sequence

import psutil

from benchmarks.attacks.streams import OrdinaryStreams
from benchmarks.churn.benchmark import slope_per_minute
from benchmarks.harness.machine import Observed
from benchmarks.harness.models import Loading
from benchmarks.harness.processes import Address, Processes, Serving, serve
from benchmarks.harness.run import Benchmark
from benchmarks.harness.sections import Figures
from benchmarks.soak.crowd import CrowdLog, CrowdPlan, crowd
from benchmarks.soak.render import draw, headlines, render

__all__ = ["BENCHMARK", "failures"]

_LOOK_EVERY_S = 1.0
_DRAIN_S = 15.0  # a lost connection's stream is kept for 10 s
_MORE = 4  # a client of the package that looks, a thread that reads a pipe: a few descriptors and threads come and go
_FEWEST_S = 600.0  # a slope over less says nothing
_COLUMNS = ("seconds", "rss_mib", "descriptors", "threads")


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    add = parser.add_argument
    add("--minutes", type=float, default=3.0, help="60 for the section")
    add("--share", type=float, default=0.7, help="of the publishers that the server says it has room for")
    add("--streams", type=int, help="so many instead")
    add("--mean-life-seconds", type=float, default=60.0, help="of a stream")
    add("--warm-up-seconds", type=float, default=60.0, help="after which nothing must grow")
    add("--mib-per-minute", type=float, default=0.2, help="that resident memory may grow by, least squares, in runs of ten minutes or more")
    add("--model", default="speech-24k")
    add("--engine", choices=("auto", "torch", "openvino"), default="auto")
    add("--threads", type=int, default=1)
    add("--workers", type=int, default=1)


def measure(args: argparse.Namespace, observed: Observed) -> Figures:
    """Keep the streams up beside a server with default limits, and look at its process every second."""
    with observed, Processes() as processes:
        server = processes.start(serve, Serving(Loading(args.model, args.engine, threads=args.threads, workers=args.workers)))
        address: Address = server.receive()
        room = room_of(address.port)
        streams = args.streams or max(1, int(args.share * room))
        print(f"room for {room} publishers: {streams} streams for {args.minutes:g} min", file=sys.stderr, flush=True)
        process = psutil.Process(server.pid)
        idle = named(look(process, time.perf_counter()))
        clients = processes.start(crowd, CrowdPlan(OrdinaryStreams(address.url, address.fingerprint, streams), args.mean_life_seconds))
        clients.receive()
        before = server.ask("usage")
        begun = time.perf_counter()
        course = []
        while time.perf_counter() < begun + 60 * args.minutes:
            course.append(look(process, begun))
            time.sleep(_LOOK_EVERY_S)
        after = server.ask("usage")
        log: CrowdLog = clients.ask("stop")
        left = settle(process, begun, idle)
    figures = {
        "model": args.model,
        "minutes": args.minutes,
        "room": room,
        "streams_at_a_time": streams,
        "mean_life_s": args.mean_life_seconds,
        "warm_up_s": min(args.warm_up_seconds, 30 * args.minutes),
        "mib_per_minute_allowed": args.mib_per_minute,
        "idle": idle,
        "left": left,
        "course": {name: [row[at] for row in course] for at, name in enumerate(_COLUMNS)},
        "cores": (after["cpu_s"] - before["cpu_s"]) / (after["at"] - before["at"]),
        **vars(log),
    }
    figures["growth"] = growth(figures)
    return {**figures, "failures": failures(figures)}


def room_of(port: int) -> int:
    """For how many publishers a server on this machine says that it has room; 0 where it does not know."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        text = answer.read().decode()
    found = re.search(r"^streamcodec_capacity_publishers (\S+)$", text, re.MULTILINE)
    return int(float(found[1])) if found else 0


def look(process: psutil.Process, begun: float) -> tuple[float, float, int, int]:
    """Seconds since `begun`, resident memory (MiB), open descriptors, threads."""
    with process.oneshot():
        return time.perf_counter() - begun, process.memory_info().rss / 2**20, process.num_fds(), process.num_threads()


def named(looked: Sequence[float]) -> Figures:
    """What `look` saw, by name."""
    return dict(zip(_COLUMNS, looked, strict=True))


def settle(process: psutil.Process, begun: float, idle: Figures) -> Figures:
    """What the server is left with: as soon as that is about what it was `idle` with, or after the time for which it keeps streams."""
    give_up = time.perf_counter() + _DRAIN_S
    while grown(left := named(look(process, begun)), idle) and time.perf_counter() < give_up:
        time.sleep(0.1)
    return left


def grown(left: Figures, idle: Figures) -> list[str]:
    """Of descriptors and threads, those of which there are clearly more than when nobody had come."""
    return [name for name in ("descriptors", "threads") if left[name] > idle[name] + _MORE]


def growth(figures: Figures) -> Figures:
    """Of memory, descriptors and threads: means of the first and the last tenth behind the warm-up, and memory's slope if it is long."""
    course = figures["course"]
    first = next((at for at, seconds in enumerate(course["seconds"]) if seconds >= figures["warm_up_s"]), 0)
    tenth = max(1, (len(course["seconds"]) - first) // 10)

    def ends(values: Sequence[float]) -> list[float]:
        return [sum(values[first : first + tenth]) / tenth, sum(values[-tenth:]) / tenth]

    long = course["seconds"][-1] - course["seconds"][first] >= _FEWEST_S
    slope = slope_per_minute(course["seconds"][first:], course["rss_mib"][first:]) if long else None
    return {**{name: ends(course[name]) for name in _COLUMNS[1:]}, "mib_per_minute": slope}


def failures(figures: Figures) -> list[str]:
    """What is wrong, in words."""
    first = figures["first"]
    found = [f"{count} x {what}" + (f", first: {first[what]}" if first.get(what) else "") for what, count in figures["errors"].items()]
    if figures["lost"] or figures["told"]:
        found.append(f"{figures['lost']} packets lost, {figures['told']} named by gaps, expected none")
    if not figures["packets"]:
        found.append("no packet came")
    slope = figures["growth"]["mib_per_minute"]
    if slope is not None and slope > figures["mib_per_minute_allowed"]:
        found.append(f"memory grows by {slope:.2f} MiB a minute, expected {figures['mib_per_minute_allowed']:g} at most")
    left, idle = figures["left"], figures["idle"]
    return found + [f"{left[name]} {name} at the end, {idle[name]} before anybody came" for name in grown(left, idle)]


BENCHMARK = Benchmark(
    name="soak",
    title="Left running",
    question="Does a server that is left running at 70% of its room, with clients that come and go, lose a packet or grow?",
    options=add_options,
    measure=measure,
    render=render,
    draw=draw,
    headlines=headlines,
)
