"""The runner on a made-up benchmark: what is stored, told and drawn, and what ends a command with an error."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.harness.machine import Observed
from benchmarks.harness.run import Benchmark, command_of, commands_of, main, models_of
from benchmarks.harness.sections import Figures
from streamcodec.errors import InputError


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--x", type=int, default=0)
    parser.add_argument("--wrong", nargs="*", default=[])


def measure(args: argparse.Namespace, observed: Observed) -> Figures:
    with observed:
        if args.x < 0:
            raise InputError(f"x is {args.x}, expected 0 or more")
    return {"x": args.x, "failures": args.wrong}


def draw(figures: Figures, folder: Path) -> None:
    (folder / "some.png").write_text(json.dumps(figures), encoding="utf-8")


SOME = Benchmark(
    name="some", title="Title", question="How much?", options=add_options, measure=measure, render=lambda f: f"told: {f}", draw=draw
)


def section(out: Path) -> Figures:
    loaded: Figures = json.loads((out / "some.json").read_text(encoding="utf-8"))
    return loaded


def test_a_run_is_stored_with_its_command_machine_weights_and_code(tmp_path: Path) -> None:
    assert main(SOME, ["--x", "3", "--out", str(tmp_path)]) == 0
    ran = section(tmp_path)
    assert ran["figures"] == {"x": 3, "failures": []}
    assert ran["command"] == "python -m benchmarks.some --x 3"
    assert ran["machine"]["cores"] >= 1 and ran["machine"]["cpu"] and ran["machine"]["ram_gib"] > 0
    assert set(ran["machine"]["packages"]) >= {"numpy", "torch"}
    assert len(ran["machine"]["models"]["speech-24k"]) == 32
    assert len(ran["engine"]) == 12 and "commit" in ran
    assert ran["run"]["wall_s"] >= 0 and ran["run"]["other_cores"] >= 0
    text = (tmp_path / "some.md").read_text(encoding="utf-8")
    assert text.startswith("## Title\n\ntold: {'x': 3, 'failures': []}\n\n<sub>`python -m benchmarks.some --x 3`")
    assert json.loads((tmp_path / "some.png").read_text(encoding="utf-8"))["x"] == 3


def test_checks_that_failed_end_the_command_with_an_error_and_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(SOME, ["--wrong", "a hole", "a knot", "--out", str(tmp_path)]) == 1
    assert capsys.readouterr().err == "a hole\na knot\n"
    assert section(tmp_path)["figures"]["failures"] == ["a hole", "a knot"]


def test_bad_input_is_told_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(SOME, ["--x", "-1", "--out", str(tmp_path)])
    assert "error: x is -1, expected 0 or more" in capsys.readouterr().err
    assert not (tmp_path / "some.json").exists()


def test_a_machine_that_lacks_something_says_so_and_measures_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refusing = replace(SOME, refuse=lambda args: "no sound here" if args.x else None)
    assert main(refusing, ["--x", "1", "--out", str(tmp_path)]) == 1
    assert capsys.readouterr().err == "no sound here\n"
    assert not list(tmp_path.iterdir())


def test_a_benchmark_that_was_not_observed_is_not_stored(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="did not enter"):
        main(replace(SOME, measure=lambda _args, _observed: {}), ["--out", str(tmp_path)])


def test_a_case_takes_the_place_of_its_namesake_and_the_others_stay(tmp_path: Path) -> None:
    named = replace(SOME, case=lambda args: f"x {args.x}", render=lambda cases: " ".join(f"{n}={c['x']}" for n, c in cases.items()))
    for words in (["--x", "1"], ["--x", "2"], ["--x", "3", "--case", "x 1"]):
        assert main(named, [*words, "--out", str(tmp_path)]) == 0
    text = (tmp_path / "some.md").read_text(encoding="utf-8")
    assert "x 1=3 x 2=2" in text
    assert section(tmp_path)["cases"]["x 1"]["command"] == "python -m benchmarks.some --x 3 --case 'x 1'"
    assert text.count("x 1: `python") == text.count("x 2: `python") == 1
    assert text.count("thread(s) per model") == 1, "one machine is described once"


def test_listed_cases_are_run_one_by_one_each_with_its_own_command(tmp_path: Path) -> None:
    listed = replace(SOME, cases=("one", "two", "three"), case=lambda args: str(args.case), render=str)
    assert main(listed, ["--case", "two", "one", "--x", "5", "--out", str(tmp_path)]) == 0
    assert {name: ran["command"] for name, ran in section(tmp_path)["cases"].items()} == {
        name: f"python -m benchmarks.some --case {name} --x 5" for name in ("one", "two")
    }
    assert main(listed, ["--all", "--out", str(tmp_path)]) == 0
    assert list(section(tmp_path)["cases"]) == ["one", "three", "two"]
    with pytest.raises(SystemExit):
        main(listed, ["--out", str(tmp_path)])


def test_a_case_that_fails_does_not_end_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def some_fail(args: argparse.Namespace, observed: Observed) -> Figures:
        if args.case == "two":
            raise RuntimeError("no server")
        return measure(args, observed)

    listed = replace(SOME, measure=some_fail, cases=("one", "two", "three"), case=lambda args: str(args.case), render=str)
    assert main(listed, ["--all", "--out", str(tmp_path)]) == 1
    assert list(section(tmp_path)["cases"]) == ["one", "three"]
    assert "two was not measured: RuntimeError: no server" in capsys.readouterr().err
    with pytest.raises(RuntimeError, match="no server"):
        main(listed, ["--case", "two", "--out", str(tmp_path)])


def test_a_figure_belongs_to_the_weights_of_the_models_that_take_part() -> None:
    embedded = {"speech-24k": "f" * 32, "other": "e" * 32}
    assert models_of(SOME, argparse.Namespace(), embedded) == embedded
    assert models_of(SOME, argparse.Namespace(model="speech-24k"), embedded) == {"speech-24k": "f" * 32}
    assert models_of(SOME, argparse.Namespace(model=["full", "other"]), embedded) == {"other": "e" * 32}
    assert models_of(SOME, argparse.Namespace(model="full"), embedded) == {}
    assert models_of(replace(SOME, embedded=False), argparse.Namespace(), embedded) == {}


def test_the_runs_that_words_ask_for_are_told_before_they_are_made() -> None:
    assert commands_of(SOME, ["--x", "3"]) == {"": "python -m benchmarks.some --x 3"}
    named = replace(SOME, case=lambda args: f"x {args.x}")
    assert commands_of(named, ["--x", "3"]) == {"x 3": "python -m benchmarks.some --x 3"}
    listed = replace(SOME, cases=("one", "two"), case=lambda args: str(args.case))
    assert commands_of(listed, ["--all", "--x", "3"]) == {name: f"python -m benchmarks.some --case {name} --x 3" for name in ("one", "two")}


def test_a_command_is_told_without_where_its_files_lie() -> None:
    words = ["some/where/voice.wav", "--out", "else/where", "--bandwidth", "6"]
    assert command_of("seams", words) == "python -m benchmarks.seams voice.wav --bandwidth 6"
