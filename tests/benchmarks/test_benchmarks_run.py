"""Each benchmark runs in a tiny setting, as its users run it, and tells what its JSON says. No test looks at how long anything took."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import common, load, report
from benchmarks.load_check import unlike

ROOT = Path(__file__).parents[2]

# Nothing takes so long but what hangs.
TIMEOUT_S = 1200

TINY = {
    "seams": ["--bandwidth", "6", "--seconds", "1"],
    "step": [
        *("--rounds", "1", "--clip-seconds", "0.32", "--batch", "1", "2", "--more-batches", "3", "--packet-frames", "6", "1"),
        *("--precision", "fp32", "--threads", "1", "2", "--peers", "encodec", "transformers", "--profile-runs", "1"),
    ],
    "load": ["--publishers", "5", "--listeners", "11", "--seconds", "2", "--fast"],
}
PICTURES = {"seams": {"seams.png"}, "step": {"step.png", "step_batches.png"}, "load": set()}


@pytest.fixture(scope="module", params=TINY)
def ran(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A benchmark's name, and the folder of its section."""
    name, out = request.param, tmp_path_factory.mktemp("results")
    command = [sys.executable, "-m", f"benchmarks.{name}", *TINY[name], "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 0, done.stderr
    return name, out


def section(out: Path, name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((out / f"{name}.json").read_text(encoding="utf-8"))
    return loaded


def test_a_benchmark_writes_its_section_and_its_pictures(ran: tuple[str, Path]) -> None:
    name, out = ran
    pictures = PICTURES[name]
    assert {path.name for path in out.iterdir()} == {f"{name}.json", f"{name}.md", *pictures}
    text = (out / f"{name}.md").read_text(encoding="utf-8")
    for picture in pictures:
        assert (out / picture).read_bytes().startswith(b"\x89PNG")
        assert f"]({picture})" in text
    assert " ".join(TINY[name]) in text, "the command stands beside its figures"
    assert str(out) not in text + json.dumps(section(out, name)), "where somebody's files lie is nobody's business"


def test_every_figure_of_a_section_comes_from_its_json(ran: tuple[str, Path]) -> None:
    name, out = ran
    module = importlib.import_module(f"benchmarks.{name}")
    assert common.fragment(section(out, name), module.render) == (out / f"{name}.md").read_text(encoding="utf-8")


def test_the_figures_say_what_the_section_is_for(ran: tuple[str, Path]) -> None:
    name, out = ran
    figures = section(out, name)["figures"]
    if name == "seams":
        found = {row["way"]: row for row in figures["rows"]}
        assert found["naive"]["codes_equal"] < 0.9 < 0.999 <= found["stream, exact"]["codes_equal"]
        assert found["naive"]["snr_db"] < 30
        assert found["naive"]["seam_jump"] > 2 * found["stream, exact"]["seam_jump"]
        assert figures["package"]["codes_equal"] >= 0.99
    elif name == "step":
        kinds = {(row["who"], row["operation"], row["kind"]) for row in figures["rows"]}
        who = ("speech-24k", "full size", "encodec", "transformers")
        assert kinds == {(w, o, k) for w in who for o in ("encode", "decode") for k in ("step", "clip")}
        assert figures["agreement"]["codes_equal"] >= 0.99
        steps = {(row["engine"], row["batch"], row["frames"], row["threads"]) for row in figures["rows"] if row["kind"] == "step"}
        assert {("openvino", 2, 6, 1), ("openvino", 3, 6, 1), ("openvino", 1, 1, 1), ("openvino", 2, 6, 2), ("torch", 2, 6, 1)} <= steps
        assert {(row["operation"], row["batch"]) for row in figures["profile"]} == {(o, b) for o in ("encode", "decode") for b in (1, 2)}
        assert all(row["ms"]["convolutions"] > 0 < row["ms"]["lstm"] for row in figures["profile"])
        assert all(row["gmacs"] > 0 for row in figures["gemm"])
    else:
        assert figures["failures"] == []
        assert figures["packets"] == 11 * 25
        assert figures["lost"] == figures["dropped"] == 0


@pytest.mark.parametrize(
    ("frames", "flipped", "wrong"),
    [(375, [7, 99, 200], False), (375, [7, 99, 200, 300], True), (4500, range(0, 4500, 800), False), (4500, range(0, 4500, 500), True)],
)
def test_load_forgives_near_ties_and_no_more(frames: int, flipped: Sequence[int], wrong: bool) -> None:
    """A near-tie at the third of eight codebooks takes the other five with it."""
    expected = np.random.default_rng(0).integers(0, 1024, (8, frames))
    codes = expected.copy()
    codes[2:, list(flipped)] += 1
    assert unlike(codes, expected) == wrong


def test_the_load_s_picture_is_drawn_from_its_figures(tmp_path: Path) -> None:
    load.draw(section(ROOT / "benchmarks" / "results", "load")["figures"], tmp_path / "load.png")
    assert (tmp_path / "load.png").read_bytes().startswith(b"\x89PNG")


def test_the_report_joins_the_sections(tmp_path: Path) -> None:
    results = tmp_path / "results"
    results.mkdir()
    for name in ("zebra", "step", "seams"):
        (results / f"{name}.md").write_text(f"## {name}\n\n![a picture]({name}.png)\n", encoding="utf-8")
    text = report.join(results)
    assert text.index("## seams") < text.index("## step") < text.index("## zebra")
    assert "![a picture](results/step.png)" in text


def test_the_report_in_the_repository_is_what_its_sections_say() -> None:
    written = ROOT / "benchmarks" / "RESULTS.md"
    assert written.read_text(encoding="utf-8") == report.join(ROOT / "benchmarks" / "results")


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks" / "results").glob("*.json")), ids=lambda path: path.stem)
def test_a_section_in_the_repository_is_what_its_figures_say(path: Path) -> None:
    module = importlib.import_module(f"benchmarks.{path.stem}")
    assert common.fragment(section(path.parent, path.stem), module.render) == path.with_suffix(".md").read_text(encoding="utf-8")


def test_a_command_is_told_without_where_its_files_lie() -> None:
    argv = ["some/where/voice.wav", "--out", "else/where", "--bandwidth", "6"]
    assert common._command("seams", argv) == "python -m benchmarks.seams voice.wav --bandwidth 6"


def test_candidates_take_turns_and_every_call_is_counted() -> None:
    calls: list[str] = []
    often = common.Candidate(lambda: calls.append("often"), 1.0, burst=2)
    seldom = common.Candidate(lambda: calls.append("seldom"), 1.0, burst=1, every=3)
    times = common.alternate([often, seldom], rounds=4, warm_up=0)
    assert [len(seconds) for seconds in times] == [8, 2]
    assert calls[1:] == ["often", "often", "seldom", "often", "often", "often", "often", "seldom", "often", "often"]
