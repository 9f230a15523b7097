"""How many live publishers this machine holds with the 99th percentile of packet lateness under 40 ms, and what happens beyond.

A packet falls due when its last sample is captured. It is late by the time from there until its codes are out: in process, until the worker
has handed them to the stream's sink; through WebSockets, until a listener in the load's process, on the same cores, has parsed the message.
One run grows the load until packets are late or dropped, holds a count, puts half as much again on top, and goes back to three quarters.

The cases in the results are these, each with `--precision bf16 --threads 2 --workers 2 --grow-seconds 4`:

    --way inprocess --model full --from 50 --step 20 --hold 70
    --way inprocess --from 200 --step 40 --hold 200
    --way websocket --model full --from 35 --step 15 --hold 50
    --way websocket --from 80 --step 20 --hold 100
    --way websocket --from 40 --step 20 --hold 50 --pcm-listeners 50 --minutes 2 --case "..."
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.capacity_inprocess import InProcess
from benchmarks.capacity_phases import Course, Run, Way, run_admission, run_phases
from benchmarks.capacity_report import draw, render
from benchmarks.capacity_websocket import ThroughWebSockets
from benchmarks.capacity_wire import WireLoad
from benchmarks.common import Figures, Observed, argument_parser, write_section
from streamcodec.codec import Codec, load

__all__ = ["Loading", "main", "model_folder", "render"]

_HOP_S = 1 / 75


@dataclass(frozen=True)
class Loading:
    """How to load the codec; a server's process is told this."""

    model: str
    engine: Any
    precision: Any
    threads: int
    workers: int

    def __call__(self) -> Codec:
        return load(self.model, engine=self.engine, precision=self.precision, threads=self.threads, workers=self.workers)


@contextmanager
def model_folder(name: str) -> Iterator[str]:
    """What `load` takes for `name`: for "full", a folder with the published architecture and random weights, else `name` itself."""
    if name != "full":
        yield name
        return
    from benchmarks.peers import transformers_peer

    with tempfile.TemporaryDirectory() as folder:
        transformers_peer().save(Path(folder))
        yield folder


def main(argv: Sequence[str] | None = None) -> int:
    """Measure one case and write it into the section `capacity`; 1 if something failed, however late packets were."""
    import torch

    parser = argument_parser(__doc__)
    add = parser.add_argument
    add("--way", choices=("inprocess", "websocket"), default="inprocess")
    add("--model", default="speech-24k", help="a model, or full: the published full-size architecture with random weights")
    add("--engine", choices=("auto", "torch", "openvino"), default="auto")
    add("--precision", choices=("auto", "fp32", "bf16"), default="fp32")
    add("--threads", type=int, default=2, help="of the model, all together")
    add("--workers", type=int, default=1, help="steps at a time, which share the threads")
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
    add("--case", help="name in the section; a case of the same name is replaced (default: way, model, precision)")
    args = parser.parse_args(argv)
    if args.block_ms is not None and not 0 < args.block_ms <= 1000 * args.packet_frames * _HOP_S:
        parser.error("--block-ms: at most a packet")
    torch.set_num_threads(args.threads)
    course = Course(
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
    with model_folder(args.model) as model, Observed() as observed:
        figures = measure(args, Loading(model, args.engine, args.precision, args.threads, args.workers), course)
    title = "How many live publishers one machine holds"
    path = write_section(
        args.out, "capacity", title, figures, observed, render, threads=args.threads, argv=argv, case=args.case or _case_name(figures)
    )
    cases = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["cases"]
    draw({name: case["figures"] for name, case in cases.items()}, path.with_suffix(".png"))
    print(path.read_text(encoding="utf-8"))
    for failure in figures["failures"]:
        print(failure, file=sys.stderr)
    return 1 if figures["failures"] else 0


def measure(args: Any, loading: Loading, course: Course) -> Figures:
    """Run one case: all phases and, through WebSockets, 150% of what was held at a server that may refuse."""
    told = {
        "way": "in process" if args.way == "inprocess" else "WebSockets",
        "model": "full size" if args.model == "full" else args.model,
        "precision": args.precision,
        "threads": args.threads,
        "workers": args.workers,
        "packet_ms": 1000 * args.packet_frames * _HOP_S,
        "block_ms": args.block_ms or 1000 * args.packet_frames * _HOP_S,
        "kbps": args.bandwidth,
        "pcm_listeners": args.pcm_listeners if args.way == "websocket" else 0,
    }
    if args.way == "inprocess":
        way: Way = InProcess(loading(), args.packet_frames, args.bandwidth, joins_per_s=course.joins_per_s, seed=args.seed)
        return {**told, **_finished(Run(way), lambda run: run_phases(run, course))}

    def plan(url: str, fingerprint: str) -> WireLoad:
        block_s = told["block_ms"] / 1000
        return WireLoad(url, fingerprint, args.packet_frames, args.bandwidth, block_s, args.pcm_listeners, args.joins_per_second, args.seed)

    figures = _finished(Run(ThroughWebSockets(loading, plan, admission=False)), lambda run: run_phases(run, course))
    streams = figures["overload"]["streams"]
    print(f"{streams} for {course.overload_s:g} s at a server that may refuse", file=sys.stderr)
    admitted = _finished(
        Run(ThroughWebSockets(loading, plan, admission=True)),
        lambda run: run_admission(run, streams, course.overload_s, course.joins_per_s),
    )
    return {**told, **figures, "admission": admitted, "failures": figures["failures"] + admitted["failures"]}


def _finished(run: Run, course: Any) -> Figures:
    try:
        run.way.start()
        figures: Figures = course(run)
    finally:
        run.way.stop()
    return figures


def _case_name(figures: Figures) -> str:
    pcm = f", {figures['pcm_listeners']} PCM listeners" if figures["pcm_listeners"] else ""
    return f"{figures['way']}, {figures['model']}, {figures['precision']}{pcm}"


if __name__ == "__main__":
    sys.exit(main())
