"""All benchmarks in one go: what is run, what is replaced, what stays, and what a stop leaves."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from benchmarks import report, run_all
from benchmarks.harness.provenance import repository
from benchmarks.harness.run import RESULTS, commands_of
from benchmarks.plan import Planned, Provenance
from benchmarks.run_all import Running

Run = dict[str, Any]


class Commands:
    """Stands for the programs: what each measures comes from `figures`; what it says of its status from `status`."""

    def __init__(self, status: Mapping[str, int | None] | None = None, only: Mapping[str, Sequence[str]] | None = None) -> None:
        self.ran: list[list[str]] = []
        self._status = status or {}
        self._only = only or {}
        self._count = 0

    def __call__(self, command: Sequence[str], *_: Any) -> int | None:
        name, words, out = command[2].removeprefix("benchmarks."), list(command[3:-2]), Path(command[-1])
        self.ran.append([name, *words])
        self._count += 1
        stored = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
        runs = commands_of(report.benchmark(name), words)
        file = out / f"{name}.json"
        for case in self._only.get(name, runs):
            again = {**(stored["cases"][case] if "cases" in stored else stored), "command": runs[case], "nth": self._count}
            if "cases" not in stored:
                file.write_text(json.dumps(again), encoding="utf-8")
                continue
            known = json.loads(file.read_text(encoding="utf-8"))["cases"] if file.exists() else {}
            file.write_text(json.dumps({"title": stored["title"], "cases": {**known, case: again}}), encoding="utf-8")
        return self._status.get(name, 0)


def running(results: Path, call: Callable[..., int | None], *, longer: Sequence[Planned] = ()) -> Running:
    return Running(results, Provenance("abc", repository(), "A processor"), longer=longer, lanes=2, call=call)


def go(results: Path, call: Callable[..., int | None], *plan: Planned) -> Running:
    found = running(results, call)
    found.run(found.todo(plan, resume=False))
    return found


def copied(folder: Path, *names: str) -> None:
    for name in names:
        (folder / f"{name}.json").write_bytes((RESULTS / f"{name}.json").read_bytes())


def test_a_section_is_replaced_when_it_was_measured_and_stays_where_that_failed(tmp_path: Path) -> None:
    copied(tmp_path, "seams", "load")
    earlier = [{"benchmark": "load", "what": "of last time"}]
    (tmp_path / report.CHANGES).write_text(json.dumps(earlier), encoding="utf-8")
    commands = Commands(status={"load": 1}, only={"load": ()})
    found = go(tmp_path, commands, Planned("load", 10), Planned("seams", 10, ("--seconds", "1")))
    assert commands.ran == [["load"], ["seams", "--seconds", "1"]], "one that fails does not end the others"
    assert report.stored(tmp_path)["seams"]["command"] == "python -m benchmarks.seams --seconds 1"
    assert (tmp_path / "load.json").read_bytes() == (RESULTS / "load.json").read_bytes()
    assert {each.benchmark: each.ended for each in found.took.values()} == {"load": "failed", "seams": "measured"}
    assert "failed: python -m benchmarks.load" in found.summary(found.todo([Planned("load", 10)], resume=False))
    changed = report.stored_changes(tmp_path)
    assert changed[0] == earlier[0], "what did not run keeps what its last run changed"
    assert {change["benchmark"] for change in changed[1:]} == {"seams"}


def test_what_is_wrong_with_one_does_not_end_the_others(tmp_path: Path) -> None:
    class Breaking(Commands):
        def __call__(self, command: Sequence[str], *how: Any) -> int | None:
            if command[2] == "benchmarks.load":
                raise OSError("no such program")
            return super().__call__(command, *how)

    found = go(tmp_path, Breaking(), Planned("load", 10), Planned("seams", 10))
    assert [each.ended for each in found.took.values()] == ["failed", "measured"]


def test_figures_whose_checks_failed_are_stored_and_told(tmp_path: Path) -> None:
    found = go(tmp_path, Commands(status={"seams": 1}), Planned("seams", 10))
    assert report.stored(tmp_path)["seams"]["nth"] == 1
    assert [each.ended for each in report.stored_took(tmp_path)] == ["measured, with checks that failed"]
    assert found.took["python -m benchmarks.seams"] == report.stored_took(tmp_path)[0]


def test_cases_that_were_measured_are_stored_where_others_failed_and_those_that_no_plan_has_go(tmp_path: Path) -> None:
    copied(tmp_path, "failures")
    section = report.stored(tmp_path)["failures"]
    first, second, *_ = section["cases"]
    section["cases"]["of another time"] = section["cases"][first]
    (tmp_path / "failures.json").write_text(json.dumps(section), encoding="utf-8")
    found = go(tmp_path, Commands(status={"failures": 1}, only={"failures": (first,)}), Planned("failures", 10, ("--all",)))
    after = report.stored(tmp_path)["failures"]["cases"]
    assert after[first]["nth"] == 1 and after[second] == section["cases"][second]
    assert "of another time" not in after
    assert [each.ended for each in found.took.values()] == ["failed"]
    told = [change["what"] for change in report.stored_changes(tmp_path)]
    assert told == [f"{first}: audio goes on after"], "of those that were measured alone"


def test_a_stop_keeps_what_was_measured_and_lets_nothing_more_begin(tmp_path: Path) -> None:
    class Stopped(Commands):
        def __call__(self, command: Sequence[str], *how: Any) -> int | None:
            super().__call__(command, *how)
            if command[2] == "benchmarks.load":
                raise KeyboardInterrupt
            return 0

    commands = Stopped()
    found = running(tmp_path, commands)
    todo = found.todo([Planned("seams", 10), Planned("load", 10), Planned("batches", 10)], resume=False)
    with pytest.raises(KeyboardInterrupt):
        found.run(todo)
    assert [name for name, *_ in commands.ran] == ["seams", "load"]
    assert list(report.stored(tmp_path)) == ["seams"]
    assert "not run: python -m benchmarks.batches" in found.summary(todo)


def test_a_stop_ends_what_runs_side_by_side_and_takes_over_what_it_has(tmp_path: Path) -> None:
    begun = Event()

    class Slow(Commands):
        def __call__(self, command: Sequence[str], *how: Any) -> int | None:
            if command[2] == "benchmarks.seams":
                assert begun.wait(60)
                raise SystemExit(143)
            super().__call__(command, *how)
            begun.set()
            stop: Event = how[-1]
            assert stop.wait(60), "nobody was told to stop"
            return None

    found = running(tmp_path, Slow())
    with pytest.raises(SystemExit):
        found.run(found.todo([Planned("seams", 10, timed=False), Planned("dtx", 10, timed=False)], resume=False))
    assert list(report.stored(tmp_path)) == ["dtx"]
    assert [(each.benchmark, each.ended) for each in found.took.values()] == [("dtx", "failed")]


def test_commands_whose_figures_hang_on_time_run_alone(tmp_path: Path) -> None:
    here: set[str] = set()

    class Watched(Commands):
        def __call__(self, command: Sequence[str], *how: Any) -> int | None:
            here.add(command[2])
            assert command[2] != "benchmarks.load" or here == {command[2]}
            try:
                return super().__call__(command, *how)
            finally:
                here.remove(command[2])

    looked: list[str] = []
    found = running(tmp_path, Watched())
    plan = [Planned("seams", 10, timed=False), Planned("dtx", 10, timed=False), Planned("load", 10), Planned("late_join", 10, timed=False)]
    found.run(found.todo(plan, resume=False), before_each=lambda: looked.append(",".join(sorted(here))))
    assert set(report.stored(tmp_path)) == {"seams", "dtx", "load", "late_join"}
    assert looked == ["", "", ""], "programs of low priority that came meanwhile are looked for where nothing runs"


def test_it_says_at_its_start_what_it_runs_and_how_long_that_takes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run_all.main(["--plan", "seams", "late_join"]) == 0
    told = capsys.readouterr().err
    assert "  python -m benchmarks.seams\n" in told and "| late_join | " in told and "2 commands, some " in told
    assert running(tmp_path, Commands()).announcement([]) == "nothing is left to measure"


def test_a_benchmark_that_is_not_known_is_refused_with_those_that_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run_all.main(["steps"])
    told = capsys.readouterr().err
    assert "steps: expected some of " in told and "seams, step, load, " in told
