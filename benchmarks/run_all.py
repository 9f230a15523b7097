"""Measure every benchmark anew and write the report: `make bench`, unattended, within 90 minutes on an idle machine with two processors.

`make bench-long` (`--long`) measures what somebody asked for at greater length: five hours. It says at its start what it is going to run
and how long that takes, and at its end, in RESULTS.md too, how long each took and what changed since the last time.

What is measured is stored at once, and a run that was stopped goes on with `--resume`: what is stored of this commit, these weights, this
engine code and this processor is not measured again. Where a benchmark fails, its section stays as it was, and the others go on. Programs
of low priority that belong to the same user are paused meanwhile.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, replace
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from threading import Event
from typing import Any

from benchmarks import report
from benchmarks.harness.changes import changes
from benchmarks.harness.machine import describe_machine
from benchmarks.harness.provenance import commit, repository
from benchmarks.harness.run import RESULTS, command_of, commands_of
from benchmarks.harness.sections import runs_of
from benchmarks.harness.unattended import Quiet, run_to_end
from benchmarks.plan import (
    FAILED,
    HELD_OUT,
    LONG,
    MEASURED,
    SHORT,
    Planned,
    Provenance,
    Took,
    ended,
    expected_s,
    left,
    processor_of,
    seconds_of,
    told,
    with_lyra,
)
from streamcodec.cli.process import ending_by_signals
from streamcodec.output_file import write_text
from streamcodec.processors import available_processors

__all__ = ["Running", "main"]

_ROOT = Path(__file__).parents[1]
_MOST_LANES = 2  # each has the machine's memory to share with the others
_PATIENCE, _PATIENCE_S = 3, 300.0  # a command that takes so many times what is expected, and so much more, hangs

Call = Callable[[Sequence[str], Path, float, Event], int | None]


def main(argv: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; 1 where a benchmark failed."""
    parser = _parser()
    asked = parser.parse_args(argv)
    names = list(dict.fromkeys(planned.benchmark for planned in (LONG if asked.long else SHORT)))
    if unknown := set(asked.benchmark) - set(names):
        parser.error(f"{', '.join(sorted(unknown))}: expected some of {', '.join(names)}")
    plan = [planned for planned in (LONG if asked.long else SHORT) if not asked.benchmark or planned.benchmark in asked.benchmark]
    machine = describe_machine(1)
    state = Provenance(commit(), repository(), processor_of(machine))
    running = Running(
        RESULTS, state, longer=() if asked.long else with_lyra(LONG, asked.lyra), lanes=min(_MOST_LANES, available_processors())
    )
    todo = running.todo(with_lyra(plan, asked.lyra), resume=asked.resume)
    print(running.announcement(todo), file=sys.stderr, flush=True)
    if asked.plan:
        return 0
    with ending_by_signals():
        try:
            with Quiet() as quiet:
                if any(HELD_OUT[1] in words for _, words in todo) and not (_ROOT / HELD_OUT[1]).exists():
                    # Where there is none, the benchmarks that need it say so.
                    subprocess.run([sys.executable, "-m", "benchmarks.heldout", HELD_OUT[1]], cwd=_ROOT, check=False)
                running.run(todo, before_each=quiet.look)
        finally:
            print(running.summary(todo), flush=True)
            print(report.write(RESULTS, repository()).relative_to(_ROOT), flush=True)
    return 1 if any(took.ended == FAILED for took in running.took.values()) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run_all", description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("benchmark", nargs="*", help="these alone, by name (default: all)")
    add("--long", action="store_true", help="what takes long, at its whole length, and nothing else")
    add("--resume", action="store_true", help="leave out what is stored of this commit, these weights, this engine and this processor")
    add("--lyra", metavar="FOLDER", help="with Lyra V2's three .tflite files, a peer in two of the benchmarks")
    add("--plan", action="store_true", help="only say what would be run, and how long that takes")
    return parser


class Running:
    """A plan on its way into the folder `results`, and what became of each command by now; `call` runs one to its end."""

    def __init__(self, results: Path, state: Provenance, *, longer: Sequence[Planned], lanes: int, call: Call = run_to_end) -> None:
        self.took: dict[str, Took] = {}
        self._results = results
        self._state = state
        self._longer = longer
        self._lanes = lanes
        self._call = call
        self._stop = Event()
        self._earlier = report.stored_took(results)
        self._before = report.stored(results)

    def todo(self, plan: Sequence[Planned], *, resume: bool) -> list[tuple[Planned, tuple[str, ...]]]:
        """What is to be run of the plan: each command with the words that are left of it."""
        found = []
        for planned in plan:
            benchmark, section = report.benchmark(planned.benchmark), self._before.get(planned.benchmark)
            words = left(planned, benchmark, section, self._state, self._longer, resume=resume)
            if words is not None:
                found.append((planned, words))
        return found

    def announcement(self, todo: Sequence[tuple[Planned, Sequence[str]]]) -> str:
        """What is going to be run, and how long all of it takes; commands of which only a part is left count as a whole."""
        if not todo:
            return "nothing is left to measure"
        plan = [planned for planned, _ in todo]
        minutes = expected_s(plan, self._earlier, self._lanes) / 60
        commands = "\n".join(f"  {planned.command}" for planned in plan)
        aside = f"; those without a clock run {self._lanes} at a time" if self._lanes > 1 else ""
        return f"{commands}\n{told(plan, self._earlier)}\n{len(plan)} commands, some {minutes:.0f} minutes{aside}"

    def summary(self, todo: Sequence[tuple[Planned, Sequence[str]]]) -> str:
        """What each benchmark took beside what was expected, and which commands failed or were not come to."""
        plan = [planned for planned, _ in todo]
        lines = [told(plan, self._earlier, self.took)] if plan else []
        lines += [f"{took.ended}: {took.command}" for took in self.took.values() if took.ended != MEASURED]
        lines += [f"not run: {planned.command}" for planned in plan if planned.command not in self.took]
        return "\n".join(lines)

    def run(self, todo: Sequence[tuple[Planned, Sequence[str]]], before_each: Callable[[], None] = lambda: None) -> None:
        """Run all of it: commands whose figures hang on time alone, the others some at a time."""
        for timed, group in groupby(todo, key=lambda one: one[0].timed):
            if timed:
                for one in group:
                    before_each()
                    self._run_some([one], 1)
            else:
                before_each()
                self._run_some(list(group), self._lanes)

    def _run_some(self, todo: Sequence[tuple[Planned, Sequence[str]]], lanes: int) -> None:
        with ThreadPoolExecutor(lanes) as pool:
            waiting = {pool.submit(self._one, planned, words): planned for planned, words in todo}
            try:
                for future in as_completed(list(waiting)):
                    planned = waiting.pop(future)
                    try:
                        self._keep(planned, *future.result())
                    except Exception:  # whatever is wrong with one, such as figures that its headlines do not know: the others go on
                        traceback.print_exc()
                        self.took[planned.command] = Took(planned.benchmark, planned.command, 0.0, FAILED)
            except BaseException:
                self._stop.set()
                # What a command had measured before it was stopped is measured.
                for future, planned in waiting.items():
                    if not future.cancel():
                        self._keep(planned, *future.result())
                raise

    def _one(self, planned: Planned, words: Sequence[str]) -> tuple[Path, set[str], int | None, Took]:
        """Run one command into a folder of its own, which begins with the stored cases that the plans still have.

        Returns the folder, the cases that were asked for, the exit status and how it went.
        """
        name = planned.benchmark
        fresh, kept = Path(tempfile.mkdtemp(prefix=f"{name}-")), self._kept(name)
        if kept is not None:
            write_text(fresh / f"{name}.json", json.dumps(kept))
        print(f"running {name} {' '.join(words)}".rstrip(), file=sys.stderr, flush=True)
        when, begun = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"), time.perf_counter()
        command = [sys.executable, "-m", f"benchmarks.{name}", *words, "--out", str(fresh)]
        status = self._call(command, _ROOT, _PATIENCE * seconds_of(planned, self._earlier) + _PATIENCE_S, self._stop)
        took = Took(
            name, command_of(name, words), round(time.perf_counter() - begun, 1), FAILED, when, self._state.commit, self._state.processor
        )
        return fresh, set(commands_of(report.benchmark(name), words)), status, took

    def _kept(self, name: str) -> dict[str, Any] | None:
        section = report.stored(self._results, [name]).get(name)
        if section is None or "cases" not in section:
            return None
        benchmark = report.benchmark(name)
        commands = [planned for planned in (*SHORT, *LONG) if planned.benchmark == name]
        due = {case for planned in commands for case in commands_of(benchmark, planned.words)}
        return {**section, "cases": {case: ran for case, ran in section["cases"].items() if case in due}}

    def _keep(self, planned: Planned, fresh: Path, asked: set[str], status: int | None, took: Took) -> None:
        """Take over what a command measured, also where it ended badly behind that, and note how it went."""
        name = planned.benchmark
        before, after = (report.stored(folder, [name]).get(name) for folder in (self._results, fresh))
        known = {} if before is None else runs_of(before)
        measured = {} if after is None else {case: ran for case, ran in runs_of(after).items() if case in asked and ran != known.get(case)}
        if measured and after is not None:
            for file in sorted(fresh.iterdir()):
                shutil.copy(file, self._results)
            self._note_changes(name, after, set(measured))
        shutil.rmtree(fresh)
        took = replace(took, ended=ended(status, asked, set(measured)))
        self.took[planned.command] = took
        entries = [each for each in report.stored_took(self._results) if each.command != took.command]
        write_text(self._results / report.TOOK, json.dumps([asdict(each) for each in (*entries, took)], indent=1) + "\n")

    def _note_changes(self, name: str, after: Mapping[str, Any], measured: set[str]) -> None:
        found = changes(self._before.get(name), after, report.benchmark(name), measured)
        new = {change["what"] for change in found}
        kept = [change for change in report.stored_changes(self._results) if change["benchmark"] != name or change["what"] not in new]
        write_text(self._results / report.CHANGES, json.dumps([*kept, *found], indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    sys.exit(main())
