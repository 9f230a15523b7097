"""Programs that end in time or are ended with all that they started, and programs of low priority that pause."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread

import psutil
import pytest

from benchmarks.harness.unattended import Quiet, run_to_end

WAITS = [sys.executable, "-c", "import sys; sys.stdin.read()"]
# A program that starts another, says which, and waits for it.
STARTS_ONE = (
    "import subprocess, sys, pathlib; p = subprocess.Popen(['sleep', '600']); pathlib.Path(sys.argv[1]).write_text(str(p.pid)); p.wait()"
)


def until(holds: Callable[[], bool]) -> None:
    """Wait for what the system does in its own time."""
    while not holds():
        time.sleep(0.01)


def test_a_program_that_ends_tells_its_status_and_runs_where_it_should(tmp_path: Path) -> None:
    script = "import pathlib, sys; pathlib.Path('here').touch(); print('dropped'); sys.exit(3)"
    assert run_to_end([sys.executable, "-c", script], tmp_path, 600, Event()) == 3
    assert (tmp_path / "here").exists()


def test_one_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    assert run_to_end([sys.executable, "-c", "import time; time.sleep(600)"], tmp_path, 0, Event()) is None


@pytest.mark.skipif(os.name != "posix", reason="sleep is a program of POSIX")
def test_one_that_is_stopped_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    told, stop, status = tmp_path / "pid", Event(), list[int | None]()
    thread = Thread(target=lambda: status.append(run_to_end([sys.executable, "-c", STARTS_ONE, str(told)], tmp_path, 600, stop)))
    thread.start()
    until(lambda: told.exists() and bool(told.read_text()))
    stop.set()
    thread.join()
    assert status == [None]
    until(lambda: not psutil.pid_exists(int(told.read_text())) or psutil.Process(int(told.read_text())).status() == psutil.STATUS_ZOMBIE)


@pytest.mark.skipif(os.name != "posix", reason="priorities of POSIX")
def test_programs_of_low_priority_pause_and_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        subprocess.Popen(WAITS, stdin=subprocess.PIPE) as low,
        subprocess.Popen(WAITS, stdin=subprocess.PIPE) as later,
        subprocess.Popen(WAITS, stdin=subprocess.PIPE) as usual,
    ):
        low_process, later_process, usual_process = (psutil.Process(each.pid) for each in (low, later, usual))
        monkeypatch.setattr(psutil, "process_iter", lambda: iter([low_process, later_process, usual_process, psutil.Process()]))
        try:
            low_process.nice(19)
            with pytest.raises(RuntimeError, match="a benchmark fails"), Quiet() as quiet:
                assert quiet.stopped == [low_process]
                until(lambda: low_process.status() == psutil.STATUS_STOPPED)
                later_process.nice(19)
                quiet.look()
                assert quiet.stopped == [low_process, later_process]
                assert usual_process.status() != psutil.STATUS_STOPPED
                raise RuntimeError("a benchmark fails")
            until(lambda: psutil.STATUS_STOPPED not in (low_process.status(), later_process.status()))
        finally:
            for each in (low, later, usual):
                each.communicate(b"")
