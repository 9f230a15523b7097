"""What a run of `benchmarks.churn` takes, how its streams come and go, and what must hold in the end."""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import random
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from typing import Any

import numpy as np

from benchmarks.churn.check import FLOAT_WITHIN, EndedStream, Tally, verify
from benchmarks.churn.render import draw, headlines, render
from benchmarks.churn.streams import LiveStream, draw_spec, make_sound, touch
from benchmarks.harness.machine import Observed, allocated_mib, rss_mib
from benchmarks.harness.models import Loading, model_folder, model_name
from benchmarks.harness.processes import Processes
from benchmarks.harness.run import Benchmark
from benchmarks.harness.sections import Figures
from streamcodec.codec import Codec
from streamcodec.scheduler.rows import DecoderRow, EncoderRow
from streamcodec.scheduler.streams import WorkerStream
from streamcodec.scheduler.worker import Calls, Worker

__all__ = ["BENCHMARK", "churn", "failures", "left_behind", "memory"]

_MAX_UNCHECKED = 16
_DRAIN_S = 30.0
_MAX_LIFE_S = 20
_FEWEST_SECONDS = 60


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    add = parser.add_argument
    add("--minutes", type=float, default=10.0)
    add("--streams", type=int, default=12, help="live at most; as many are kept up")
    add("--longest-seconds", type=float, default=20.0, help="of a stream's life; 4 s on average")
    add("--model", default="speech-24k", help="a model, or full: the published full-size architecture with random weights")
    add("--engine", choices=("torch", "openvino"), default="openvino")
    add("--threads", type=int, default=1, help="of the model; the process that checks has one more")
    add("--workers", type=int, default=1, help="steps at a time, which share the threads")
    add("--warm-up-seconds", type=float, default=60.0, help="after which memory must not grow")
    add("--mib-per-minute", type=float, default=1.0, help="that memory in use may grow by, least squares")
    add("--seed", type=int, default=0)


def refuse(args: argparse.Namespace) -> str | None:
    """The sound ends so far behind the last place to begin at."""
    if args.longest_seconds > _MAX_LIFE_S:
        return f"--longest-seconds {args.longest_seconds:g}: expected at most {_MAX_LIFE_S}"
    return None


def measure(args: argparse.Namespace, observed: Observed) -> Figures:
    """Start the process that checks, let streams come and go, and gather what both have seen."""
    with model_folder(args.model) as model, observed:
        figures = _measure(args, model)
    return {**figures, "failures": failures(figures)}


def _measure(args: argparse.Namespace, model: str) -> Figures:
    jobs: Any = multiprocessing.get_context("spawn").Queue()
    with Processes() as processes, closing(jobs):
        checker = processes.start(verify, jobs, Loading(model, args.engine))
        codec = Loading(model, args.engine, threads=args.threads, workers=args.workers)()
        checker.receive()
        told = churn(codec, jobs, checker.pipe, args)
        jobs.put(None)
        tally: Tally | None = None
        while tally is None:  # before it come the acknowledgements of the last jobs
            tally = checker.receive()
    told["left"] |= left_behind()
    told["failures_seen"] += tally.failures[:20]
    return {
        "model": model_name(args.model),
        "engine": codec.engine.name,
        "seed": args.seed,
        "mib_per_minute_allowed": args.mib_per_minute,
        **told,
        **{key: value for key, value in asdict(tally).items() if key != "failures"},
    }


def churn(codec: Codec, jobs: Any, acknowledged: Any, args: Any) -> Figures:
    """Keep up to `args.streams` streams alive for `args.minutes`, then let all end; says what was counted, and what is left of it.

    Who is over goes into `jobs`; `acknowledged` gets an item for each that was checked, and nobody joins while too many wait for that.
    """
    calls: deque[Calls] = deque()
    worker = Worker(codec.engine, calls.append)
    crowd = _Crowd(codec, worker, calls, random.Random(args.seed), args.longest_seconds)
    course: dict[str, list[float]] = {"seconds": [], "rss_mib": [], "allocated_mib": [], "live": []}
    worker.start()
    touch(codec, worker, args.streams, until_full=60 * args.minutes > args.warm_up_seconds)
    begun = now = time.perf_counter()
    stop, unchecked = begun + 60 * args.minutes, 0
    while now < stop or (crowd.live and now < stop + args.longest_seconds + _DRAIN_S):
        if now < stop and len(crowd.live) < args.streams and unchecked < _MAX_UNCHECKED:
            crowd.join(now)
        for job in crowd.tick(now):
            jobs.put(job)
            unchecked += 1
        while acknowledged.poll():
            acknowledged.recv()
            unchecked -= 1
        if now - begun >= len(course["seconds"]):
            rss = rss_mib()
            values = {"seconds": now - begun, "rss_mib": rss, "allocated_mib": allocated_mib() or rss, "live": len(crowd.live)}
            for name, value in values.items():
                course[name].append(round(value, 2))
        time.sleep(crowd.rng.uniform(0.005, 0.02))
        now = time.perf_counter()
    crowd.failed += [f"{stream.spec}: did not end" for stream in crowd.live]
    crowd.live.clear()
    waiting = len(worker._batcher)
    worker.stop()
    counts, stats = crowd.counts, worker.stats
    return {
        "seconds": now - begun,
        "streams": counts["encode"] + counts["decode"],
        "counts": dict(counts),
        "live_at_most": args.streams,
        "steps": stats.steps,
        "rows_per_step": stats.rows / max(1, stats.steps),
        "busy_share": stats.busy_s / (now - begun),
        "course": course,
        "memory": memory(course, args.warm_up_seconds, 60 * args.minutes),
        "resident": memory(course, args.warm_up_seconds, 60 * args.minutes, "rss_mib"),
        "left": {"waiting in the batcher": waiting},
        "failures_seen": crowd.failed[:20],
    }


class _Crowd:
    """The live streams and what became of the others; results are taken on this thread, in `tick`."""

    def __init__(self, codec: Codec, worker: Worker, calls: deque[Calls], rng: random.Random, longest_s: float) -> None:
        self.rng = rng
        self.live: list[LiveStream] = []
        self.counts: Counter[str] = Counter()
        self.failed: list[str] = []
        self._worker = worker
        self._calls = calls
        self._longest_s = longest_s
        self._config = codec.config
        self._sound = make_sound(codec.sample_rate, longest_s)
        self._codes = codec.encode(self._sound, bandwidth=max(codec.config.target_bandwidths))

    def join(self, now: float) -> None:
        """Open one more stream."""
        spec = draw_spec(self.rng, self._config, self._longest_s)
        self.live.append(LiveStream(spec, self._worker, now, self._sound, self._codes))

    def tick(self, now: float) -> list[EndedStream]:
        """Feed all that is due, take what came out, and return the jobs of those who are over."""
        for stream in self.live:
            if not stream.left:
                stream.tick(now)
        while self._calls:
            for sink, result in self._calls.popleft():
                sink(result)
        jobs = []
        for stream in [stream for stream in self.live if stream.over or stream.error is not None]:
            self.live.remove(stream)
            spec = stream.spec
            self.counts.update({spec.kind: 1, "flushed" if spec.flush else "closed": 1, "restarts": len(spec.restarts_s)})
            if stream.error is not None:
                self.failed.append(f"{spec}: {type(stream.error).__name__}: {stream.error}")
            else:
                jobs.append(stream.job())
        return jobs


def left_behind() -> dict[str, int]:
    """How many streams and rows there still are in this process.

    No other thread may run Python meanwhile: one that makes a tuple from an iterator would fail where this finds the unfinished tuple.
    """
    gc.collect()
    found = Counter(type(thing) for thing in gc.get_objects())
    return {kind.__name__: found[kind] for kind in (WorkerStream, EncoderRow, DecoderRow)}


def memory(course: Mapping[str, Sequence[float]], warm_up_s: float, end_s: float, series: str = "allocated_mib") -> Figures:
    """A series of `course` from the end of the warm-up until streams stop coming: first, last, and slope; None where that is too short."""
    seconds, held = np.array(course["seconds"]), np.array(course[series])
    chosen = (seconds >= warm_up_s) & (seconds <= end_s)
    if chosen.sum() < _FEWEST_SECONDS:
        return {"from_s": None, "start_mib": held[0], "end_mib": held[-1], "mib_per_minute": None}
    return {
        "from_s": warm_up_s,
        "start_mib": float(held[chosen][0]),
        "end_mib": float(held[chosen][-1]),
        "mib_per_minute": slope_per_minute(seconds[chosen], held[chosen]),
    }


def slope_per_minute(seconds: Sequence[float] | np.ndarray[Any, Any], values: Sequence[float] | np.ndarray[Any, Any]) -> float:
    """By how much `values` grow in a minute, by least squares."""
    return 60 * float(np.polyfit(np.asarray(seconds, np.float64), np.asarray(values, np.float64), 1)[0])


def failures(figures: Figures) -> list[str]:
    """What is wrong, in words."""
    found = list(figures["failures_seen"])
    slope = figures["memory"]["mib_per_minute"]
    if not figures["entries"] or not figures["samples"]:
        found.append("nothing was compared")
    if not figures["max_error"] <= FLOAT_WITHIN:
        found.append(f"decoded audio is off by {figures['max_error']:.1e}, expected {FLOAT_WITHIN:g} at most")
    if slope is not None and slope > figures["mib_per_minute_allowed"]:
        found.append(f"memory in use grows by {slope:.2f} MiB a minute, expected {figures['mib_per_minute_allowed']:g} at most")
    found += [f"{count} of {what} left" for what, count in figures["left"].items() if count]
    return found


BENCHMARK = Benchmark(
    name="churn",
    title="Streams that come and go",
    question="Does each of many streams that come and go get what it would get alone, and is nothing left behind?",
    options=add_options,
    refuse=refuse,
    measure=measure,
    render=render,
    draw=draw,
    headlines=headlines,
    case=lambda args: str(args.engine),
)
