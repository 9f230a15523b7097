"""The accelerator's benchmark, rehearsed on the CPU: parity, steps and live streams, and a device that is not there."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_benchmark import files_of, run_tiny

from benchmarks.accelerator.benchmark import BENCHMARK
from benchmarks.harness.run import main

TINY = [
    *("--device", "cpu", "--seconds", "0.5", "--batch", "1", "3", "--rounds", "1"),
    *("--from", "1", "--step", "1", "--most", "1", "--grow-seconds", "0.2", "--hold-seconds", "0.2", "--model"),
]


def test_a_rehearsal_checks_parity_times_steps_and_runs_live_streams(model: str, tmp_path: Path) -> None:
    section = run_tiny("accelerator", [*TINY, model], tmp_path, stands=" ".join([*TINY, Path(model).name]), here=True)
    assert files_of(tmp_path) == {"accelerator.json", "accelerator.md"}
    figures = section["figures"]
    assert figures["failures"] == []
    models = {"full size", Path(model).name}
    assert {(row["model"], row["start"]) for row in figures["parity"]} == {
        (name, start) for name in models for start in ("exact", "primed")
    }
    assert all(row["entries"] > 0 and row["differing"] <= 8 * row["near_ties"] for row in figures["parity"])
    shapes = {(row["who"], row["operation"], row["batch"]) for row in figures["steps"]}
    assert shapes == {(who, what, n) for who in (*models, "transformers") for what in ("encode", "decode") for n in (1, 3)}
    assert all(case["hold"]["packets"] > 0 and case["never_came"] == 0 for case in figures["live"])


@pytest.mark.parametrize("device", ["cuda:99", "nowhere"])
def test_a_device_that_is_not_there_is_said_in_one_line(device: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(BENCHMARK, ["--device", device, "--out", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"--device {device}: torch cannot use it here: ") and len(said.splitlines()) == 1
    assert not list(tmp_path.iterdir())
