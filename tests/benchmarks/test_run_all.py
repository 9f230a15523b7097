"""All benchmarks in one go: what is run, what is replaced, what stays, and what pauses meanwhile."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from benchmarks import report, run_all
from benchmarks.harness.run import RESULTS, _parser


def until(holds: Callable[[], bool]) -> None:
    """Wait for what the system does in its own time."""
    while not holds():
        time.sleep(0.01)


def test_every_benchmark_is_in_the_plan_but_for_what_needs_a_device_and_every_command_is_one_that_it_takes() -> None:
    assert {name for name, _ in run_all.PLAN} == set(report.BENCHMARKS) - {"accelerator"}
    for name, commands in run_all.PLAN:
        for words in commands:
            assert _parser(report.benchmark(name)).parse_args([*words, "--out", "out"])


def test_a_section_is_replaced_when_all_of_its_runs_are_done_and_stays_where_one_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("seams", "load"):
        (tmp_path / f"{name}.json").write_bytes((RESULTS / f"{name}.json").read_bytes())
    again = json.loads((RESULTS / "seams.json").read_text(encoding="utf-8"))
    again["title"] = "measured anew"
    earlier = [{"benchmark": "load", "what": "of last time"}, {"benchmark": "seams", "what": "to be replaced"}]
    (tmp_path / report.CHANGES).write_text(json.dumps(earlier), encoding="utf-8")
    asked: list[list[str]] = []

    def measure(command: list[str], **_: object) -> subprocess.CompletedProcess[bytes]:
        asked.append(command[2:-2])
        name, out = command[2].removeprefix("benchmarks."), Path(command[-1])
        (out / f"{name}.json").write_text(json.dumps(again), encoding="utf-8")
        return subprocess.CompletedProcess(command, int("--fails" in command))

    monkeypatch.setattr(subprocess, "run", measure)
    failed = run_all.run([("seams", ((), ("--seconds", "1"))), ("load", ((), ("--fails",)))], tmp_path)
    assert failed == ["load"]
    assert asked == [["benchmarks.seams"], ["benchmarks.seams", "--seconds", "1"], ["benchmarks.load"], ["benchmarks.load", "--fails"]]
    assert report.stored(tmp_path)["seams"]["title"] == "measured anew"
    assert (tmp_path / "load.json").read_bytes() == (RESULTS / "load.json").read_bytes()
    changed = report.stored_changes(tmp_path)
    assert {change["benchmark"] for change in changed} == {"load", "seams"}, "what did not run keeps what its last run changed"
    assert "to be replaced" not in [change["what"] for change in changed]


def test_a_benchmark_that_is_not_known_is_refused_with_those_that_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run_all.main(["steps"])
    assert "steps: expected some of seams, step, load, " in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix", reason="priorities of POSIX")
def test_programs_of_low_priority_pause_and_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    with (
        subprocess.Popen(waits, stdin=subprocess.PIPE) as low,
        subprocess.Popen(waits, stdin=subprocess.PIPE) as usual,
    ):
        low_process, usual_process = psutil.Process(low.pid), psutil.Process(usual.pid)
        monkeypatch.setattr(psutil, "process_iter", lambda: iter([low_process, usual_process, psutil.Process()]))
        try:
            low_process.nice(19)
            with pytest.raises(RuntimeError, match="a benchmark fails"), run_all.paused() as stopped:
                assert stopped == [low_process]
                until(lambda: low_process.status() == psutil.STATUS_STOPPED)
                assert usual_process.status() != psutil.STATUS_STOPPED
                raise RuntimeError("a benchmark fails")
            until(lambda: low_process.status() != psutil.STATUS_STOPPED)
        finally:
            low.communicate(b"")
            usual.communicate(b"")
