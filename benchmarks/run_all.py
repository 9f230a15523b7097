"""Measure every benchmark anew and write the report: `make bench`, unattended, in some two hours on an idle machine.

A benchmark's stored section is replaced once all of its runs are done; where one fails, the old section stays and the others go on.
Programs of low priority that belong to the same user are paused meanwhile. RESULTS.md then says what each of them changed when it ran last.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from benchmarks import report
from benchmarks.harness.changes import changes
from benchmarks.harness.provenance import repository
from benchmarks.harness.run import RESULTS
from streamcodec.output_file import write_text

__all__ = ["PLAN", "main", "paused", "run"]

_ROOT = Path(__file__).parents[1]
_CAPACITY = ("--threads", "2", "--workers", "2", "--precision", "auto", "--grow-seconds", "4", "--minutes", "2")
_SOCKETS = (*_CAPACITY, "--way", "websocket")
_HELD_OUT = ("--corpus", "corpus")
_LOW_PRIORITY = 10

PLAN: tuple[tuple[str, tuple[tuple[str, ...], ...]], ...] = (
    ("seams", ((),)),
    ("step", ((),)),
    ("load", (("--threads", "2", "--workers", "2"),)),
    ("latency", (("--all", "--minutes", "2"),)),
    ("mouth_to_ear", ((),)),
    ("browser", (("--all", "--minutes", "2"),)),
    (
        "capacity",
        (
            (*_SOCKETS, "--case", "WebSockets, speech-24k"),
            (*_SOCKETS, "--case", "WebSockets, speech-24k, 2 processes", "--processes", "2"),
            (*_SOCKETS, "--case", "WebSockets, speech-24k, 13 ms packets", "--packet-frames", "1", "--from", "5", "--step", "5"),
            (*_SOCKETS, "--case", "WebSockets, full size", "--model", "full"),
            (*_CAPACITY, "--case", "in process, speech-24k"),
        ),
    ),
    ("relay", ((), *(("--listeners", *words) for words in (("300",), ("1500",), ("900",), ("900", "--processes", "2"))))),
    ("churn", (("--engine", "openvino", "--minutes", "5"), ("--engine", "torch", "--minutes", "2"))),
    ("attacks", (("--all", "--before-seconds", "2", "--seconds", "4"),)),
    ("failures", (("--all",),)),
    ("cluster", (("--all", "--cut-seconds", "1", "10", "60", "--minutes", "15"),)),
    ("cluster_simulation", ((),)),
    ("cluster_growth", ((),)),
    ("soak", (("--minutes", "60"),)),
    ("chunks", ((),)),
    ("tokenize", ((),)),
    ("batches", ((),)),
    ("parity", ((),)),
    ("entropy_coding", ((*_HELD_OUT, "--clips", "12"),)),
    ("late_join", (_HELD_OUT,)),
    ("dtx", (_HELD_OUT,)),
    ("long_streams", ((*_HELD_OUT, "--clips", "24"),)),
    ("precision", ((*_HELD_OUT, "--clips", "24"),)),
    ("quality", (_HELD_OUT,)),
)
"""Of each benchmark, what its commands take; where a machine cannot run one, its section stays as it was."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; 1 where a benchmark failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run_all", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("benchmark", nargs="*", help="these alone, by name (default: all)")
    asked = parser.parse_args(argv).benchmark
    if unknown := set(asked) - {name for name, _ in PLAN}:
        parser.error(f"{', '.join(sorted(unknown))}: expected some of {', '.join(name for name, _ in PLAN)}")
    plan = [(name, commands) for name, commands in PLAN if not asked or name in asked]
    if any(_HELD_OUT[1] in words for _, commands in plan for words in commands) and not (_ROOT / _HELD_OUT[1]).exists():
        subprocess.run([sys.executable, "-m", "benchmarks.heldout", _HELD_OUT[1]], cwd=_ROOT, check=True)
    with paused():
        failed = run(plan, RESULTS)
    print(report.write(RESULTS, repository()).relative_to(_ROOT))
    for name in failed:
        print(f"{name} failed: its section stays as it was", file=sys.stderr)
    return 1 if failed else 0


def run(plan: Sequence[tuple[str, Sequence[Sequence[str]]]], results: Path) -> list[str]:
    """Run the plan's benchmarks into `results` and store what changed there; return the names of those that failed."""
    before, failed = report.stored(results), []
    for name, commands in plan:
        with tempfile.TemporaryDirectory() as fresh:
            for words in commands:
                command = [sys.executable, "-m", f"benchmarks.{name}", *words]
                print(f"running {name} {' '.join(words)}".rstrip(), file=sys.stderr)
                done = subprocess.run([*command, "--out", fresh], cwd=_ROOT, stdout=subprocess.DEVNULL, check=False)
                if done.returncode:
                    failed.append(name)
                    break
            else:
                for file in Path(fresh).iterdir():
                    shutil.copy(file, results)
    ran = {name: section for name, section in report.stored(results).items() if name in {n for n, _ in plan} - set(failed)}
    file = results / report.CHANGES
    earlier = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
    found = [change for change in earlier if change["benchmark"] not in ran]
    found += [change for name in ran for change in changes(before.get(name), ran[name], report.benchmark(name))]
    write_text(file, json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    return failed


@contextmanager
def paused() -> Iterator[list[psutil.Process]]:
    """Stop this user's other programs of low priority inside a `with`: they would share caches and processors with what is measured."""
    stopped: list[psutil.Process] = []
    me = psutil.Process()
    try:
        for process in psutil.process_iter():
            try:
                if _of_low_priority(process, me):
                    process.suspend()
                    stopped.append(process)
            except psutil.Error:  # it has ended meanwhile, or is not ours to look at
                continue
        yield stopped
    finally:
        for process in stopped:
            try:
                process.resume()
            except psutil.NoSuchProcess:
                continue


def _of_low_priority(process: psutil.Process, me: psutil.Process) -> bool:
    """Whether this is a running program of our user's at low priority; threads of the kernel have no command line."""
    return bool(
        process.uids().real == me.uids().real
        and process.nice() >= _LOW_PRIORITY
        and process.status() not in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE)
        and process.cmdline()
    )


if __name__ == "__main__":
    sys.exit(main())
