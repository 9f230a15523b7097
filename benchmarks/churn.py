"""Streams join and leave a worker at random for minutes, and each gets what it would get alone; memory stays flat, nothing is left behind.

Encoders and decoders of all bandwidths and packet sizes, in real time, with flushes, abrupt ends and fresh starts. A second process encodes
and decodes the same input in one call each. Ends with an error where a code or a sample is not the same, or something remains.
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import random
import sys
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.capacity import Loading, model_folder
from benchmarks.churn_check import FLOAT_WITHIN, Job, Tally, verify
from benchmarks.churn_streams import LiveStream, draw_spec, make_sound, touch
from benchmarks.common import Figures, Observed, allocated_mib, argument_parser, rss_mib, table, write_section
from benchmarks.parity import told
from benchmarks.processes import finish, receive
from streamcodec.codec import Codec
from streamcodec.scheduler.rows import DecoderRow, EncoderRow
from streamcodec.scheduler.worker import Calls, Worker, WorkerStream

__all__ = ["churn", "failures", "left_behind", "main", "memory", "render"]

_MAX_UNCHECKED = 16
_DRAIN_S = 30.0
_FEWEST_SECONDS = 60


def main(argv: Sequence[str] | None = None) -> int:
    """Run, check, and write one case of the section `churn`; 1 if a check failed."""
    import torch

    parser = argument_parser(__doc__)
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
    add("--case", help="name in the section; a case of the same name is replaced (default: engine)")
    args = parser.parse_args(argv)
    if args.longest_seconds > 20:
        parser.error("--longest-seconds: at most 20, the sound has no more behind the last place to begin at")
    torch.set_num_threads(args.threads)
    with model_folder(args.model) as model, Observed() as observed:
        figures = measure(args, model)
    figures["failures"] = failures(figures)
    path = write_section(
        args.out,
        "churn",
        "Streams that come and go",
        figures,
        observed,
        render,
        threads=args.threads,
        argv=argv,
        case=args.case or args.engine,
    )
    cases = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["cases"]
    draw({name: case["figures"] for name, case in cases.items()}, path.with_suffix(".png"))
    print(path.read_text(encoding="utf-8"))
    for failure in figures["failures"]:
        print(failure, file=sys.stderr)
    return 1 if figures["failures"] else 0


def measure(args: Any, model: str) -> Figures:
    """Start the process that checks, let streams come and go, and gather what both have seen."""
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    jobs: Any = spawn.Queue()
    checker = spawn.Process(target=verify, args=(jobs, there, Loading(model, args.engine, "fp32", 1, 1)))
    checker.start()
    try:
        codec = Loading(model, args.engine, "fp32", args.threads, args.workers)()
        receive(here, checker)
        told = churn(codec, jobs, here, args)
        jobs.put(None)
        tally: Tally | None = None
        while tally is None:  # before it come the acknowledgements of the last jobs
            tally = receive(here, checker)
    finally:
        jobs.close()
        finish(checker)
    told["failures_seen"] += tally.failures[:20]
    return {
        "model": "full size" if args.model == "full" else args.model,
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
        "left": {**left_behind(), "waiting in the batcher": waiting},
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

    def tick(self, now: float) -> list[Job]:
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
    """How many streams and rows there still are in this process."""
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


# Telling -----------------------------------------------------------------------------------------------------------------------------


def render(cases: Mapping[str, Figures]) -> str:
    """The section's text; `cases` are the figures of each case by its name."""
    rows: list[tuple[str, list[object]]] = [
        ("time", [f"{case['seconds'] / 60:.1f} min" for case in cases.values()]),
        ("streams, encoders", [case["counts"].get("encode", 0) for case in cases.values()]),
        ("streams, decoders", [case["counts"].get("decode", 0) for case in cases.values()]),
        ("of them flushed / cut off", [f"{c['counts'].get('flushed', 0)} / {c['counts'].get('closed', 0)}" for c in cases.values()]),
        ("fresh starts meanwhile", [case["counts"].get("restarts", 0) for case in cases.values()]),
        ("entries of codes compared", [f"{case['entries']:,}" for case in cases.values()]),
        ("of them differ from encoding alone", [told(case["differing"], case["near_ties"]) for case in cases.values()]),
        ("seconds of decoded audio compared", [f"{case['samples'] / 24_000:,.0f}" for case in cases.values()]),
        (f"largest error of it (at most {FLOAT_WITHIN:g})", [f"{case['max_error']:.1e}" for case in cases.values()]),
        ("memory in use behind the warm-up, MiB", [_memory(case["memory"]) for case in cases.values()]),
        ("its slope, MiB a minute", [_slope(case) for case in cases.values()]),
        ("resident memory, MiB: with freed blocks that glibc keeps", [_memory(case["resident"]) for case in cases.values()]),
        ("streams, rows and waiting steps left at the end", [sum(case["left"].values()) for case in cases.values()]),
        ("streams per step, mean", [f"{case['rows_per_step']:.2f}" for case in cases.values()]),
    ]
    wrong = [f"{name}: {failure}" for name, case in cases.items() for failure in case["failures"]]
    verdict = "**Every check passed.**" if not wrong else f"**{len(wrong)} checks failed**, the first: {wrong[0]}."
    case = next(iter(cases.values()))
    return "\n\n".join(
        [
            f"`{case['model']}`, one worker in process and in real time, with up to {case['live_at_most']} streams: encoders and "
            "decoders of all five bandwidths, in packets of 1, 2, 3, 6 and 25 frames, from exact and primed starts, each for a random "
            "while. What came out of each run is compared with encoding or decoding the same input in one call, in a process of its own. "
            f"Each engine is compared with itself. {verdict}",
            table(["", *cases], [[label, *values] for label, values in rows]),
            "![Memory and live streams over time](churn.png)\n",
        ]
    )


def _memory(memory: Figures) -> str:
    return f"{memory['start_mib']:.0f} to {memory['end_mib']:.0f}"


def _slope(case: Figures) -> str:
    slope = case["memory"]["mib_per_minute"]
    return "too short to say" if slope is None else f"{slope:.2f} (at most {case['mib_per_minute_allowed']:g})"


def draw(cases: Mapping[str, Figures], path: Path) -> None:
    """Memory, in use and resident, and live streams over time."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 5.4), dpi=110, layout="constrained")
    memory_axes, live_axes = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    for (name, case), colour in zip(cases.items(), cycle(f"C{i}" for i in range(10)), strict=False):
        course = case["course"]
        memory_axes.plot(course["seconds"], course["rss_mib"], color=colour, lw=0.8, alpha=0.6, label=f"{name}, resident")
        memory_axes.plot(course["seconds"], course["allocated_mib"], color=colour, lw=1.4, label=f"{name}, in use")
        live_axes.plot(course["seconds"], course["live"], color=colour, lw=0.8)
        if case["memory"]["from_s"] is not None:
            memory_axes.axvline(case["memory"]["from_s"], color="0.8", lw=0.8, zorder=0)
    memory_axes.set(title="memory of the worker's process; watched from the line on", ylabel="MiB")
    memory_axes.set_ylim(bottom=0)
    memory_axes.legend(fontsize=8, frameon=False)
    live_axes.set(ylabel="live streams", xlabel="s")
    live_axes.set_ylim(bottom=0)
    for axes in (memory_axes, live_axes):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


if __name__ == "__main__":
    sys.exit(main())
