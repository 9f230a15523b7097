"""Processes of a benchmark: asked, answered, and ended, also where one of them fails."""

from __future__ import annotations

import subprocess
import sys
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from benchmarks.harness.machine import allocated_mib, rss_mib, usage
from benchmarks.harness.processes import Processes, run_loop

ROOT = Path(__file__).parents[3]


def answer(pipe: Connection, first: int) -> None:
    pipe.send(first)
    while (asked := pipe.recv()) != "stop":
        pipe.send(asked + 1)


def die(pipe: Connection) -> None:
    pipe.recv()
    sys.exit(7)


def test_a_process_answers_until_it_is_told_to_stop() -> None:
    with Processes() as processes:
        one = processes.start(answer, 5)
        assert one.receive() == 5
        assert one.ask(41) == 42
    assert not one.alive


def test_a_process_that_dies_is_told_with_its_exit_code_and_the_others_are_ended() -> None:
    with Processes() as processes:
        other, dying = processes.start(answer, 0), processes.start(die)
        with pytest.raises(RuntimeError, match="exit code 7"):
            dying.ask("anything")
    assert not other.alive and not dying.alive


def test_an_error_ends_every_process() -> None:
    with pytest.raises(KeyError), Processes() as processes:
        waiting = processes.start(die)
        raise KeyError
    assert not waiting.alive


def test_a_loop_returns_what_its_coroutine_does() -> None:
    async def work() -> int:
        return 3

    assert run_loop(work()) == 3


def test_what_a_process_holds_grows_with_what_it_allocates() -> None:
    before = allocated_mib()
    if before is None:
        pytest.skip("this C library does not count what is allocated")
    kept = bytearray(64 << 20)
    after = allocated_mib()
    assert after is not None and after - before > 60
    assert len(kept) and rss_mib() > 1
    assert set(usage()) == {"cpu_s", "loop_s", "at", "peak_mib", "rss_mib"}


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts a program's own peak")
def test_a_programs_peak_is_its_own_and_not_that_of_the_program_that_started_it() -> None:
    kept = b"x" * (256 << 20)
    command = [sys.executable, "-c", "from benchmarks.harness.peak import peak_mib; print(peak_mib())"]
    peak = float(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)
    assert 5 < peak < len(kept) / 2**20
