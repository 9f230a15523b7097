"""Each benchmark runs in a tiny setting, as its users run it, and tells what its JSON says. No test looks at how long anything took."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_benchmark import files_of, run_tiny

from benchmarks import report
from benchmarks.harness.run import RESULTS
from benchmarks.load.render import draw

TINY = {
    "seams": ["--bandwidth", "6", "--seconds", "1"],
    "step": [
        *("--rounds", "1", "--clip-seconds", "0.32", "--batch", "1", "2", "--more-batches", "3", "--packet-frames", "6", "1"),
        *("--precision", "fp32", "--threads", "1", "2", "--peers", "encodec", "transformers", "--profile-runs", "3"),
    ],
    "load": ["--publishers", "5", "--listeners", "11", "--seconds", "2", "--fast"],
}
PICTURES = {"seams": {"seams.png"}, "step": {"step.png", "step_batches.png"}, "load": set()}


@pytest.fixture(scope="module", params=TINY)
def ran(request: pytest.FixtureRequest, model: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, dict[str, Any]]:
    """A benchmark's name, the folder of its section, and the section."""
    name, out = request.param, tmp_path_factory.mktemp("results")
    if name == "seams":  # heard on real speech
        return name, out, run_tiny(name, TINY[name], out, here=True)
    # The load as its users run it: a command, and processes of its own.
    words = [*TINY[name], "--model"]
    return name, out, run_tiny(name, [*words, model], out, stands=" ".join([*words, Path(model).name]), here=name != "load")


def test_a_benchmark_writes_its_section_and_its_pictures(ran: tuple[str, Path, dict[str, Any]]) -> None:
    name, out, _ = ran
    assert files_of(out) == {f"{name}.json", f"{name}.md", *PICTURES[name]}
    text = (out / f"{name}.md").read_text(encoding="utf-8")
    for picture in PICTURES[name]:
        assert (out / picture).read_bytes().startswith(b"\x89PNG")
        assert f"]({picture})" in text


def test_the_figures_say_what_the_section_is_for(ran: tuple[str, Path, dict[str, Any]], model: str) -> None:
    name, _, section = ran
    figures = section["figures"]
    if name == "seams":
        found = {row["way"]: row for row in figures["rows"]}
        assert found["naive"]["differing"] > 0.1 * found["naive"]["entries"]
        assert found["stream, exact"]["differing"] <= 8 * found["stream, exact"]["near_ties"]
        assert found["naive"]["snr_db"] < 30
        assert found["naive"]["seam_jump"] > 2 * found["stream, exact"]["seam_jump"]
        assert figures["package"]["differing"] <= 8 * figures["package"]["near_ties"]
    elif name == "step":
        kinds = {(row["who"], row["operation"], row["kind"]) for row in figures["rows"]}
        who = (Path(model).name, "full size", "encodec", "transformers")
        assert kinds == {(w, o, k) for w in who for o in ("encode", "decode") for k in ("step", "clip")}
        assert figures["agreement"]["differing"] <= 8 * figures["agreement"]["near_ties"]
        steps = {(row["engine"], row["batch"], row["frames"], row["threads"]) for row in figures["rows"] if row["kind"] == "step"}
        assert {("openvino", 2, 6, 1), ("openvino", 3, 6, 1), ("openvino", 1, 1, 1), ("openvino", 2, 6, 2)} <= steps
        assert {("torch", 2, 6, 1), ("onnx", 2, 6, 1)} <= steps
        assert {(row["operation"], row["batch"]) for row in figures["profile"]} == {(o, b) for o in ("encode", "decode") for b in (1, 2)}
        assert all(row["ms"]["convolutions"] > 0 < row["ms"]["lstm"] for row in figures["profile"])
        assert all(row["gmacs"] > 0 for row in figures["gemm"])
    else:
        assert figures["failures"] == []
        assert figures["packets"] == 11 * 25
        assert figures["lost"] == figures["dropped"] == 0


def test_the_load_s_picture_is_drawn_from_its_figures(tmp_path: Path) -> None:
    draw(report.stored(RESULTS)["load"]["figures"], tmp_path)
    assert (tmp_path / "load.png").read_bytes().startswith(b"\x89PNG")
