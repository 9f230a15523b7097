"""The report in the repository is what its JSON says, and opens with the rows and the picture that it promises."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks import report
from benchmarks.harness.changes import changes
from benchmarks.harness.provenance import Repository, repository
from benchmarks.harness.run import RESULTS
from benchmarks.harness.sections import render_section

WRITTEN = RESULTS.with_name("RESULTS.md")


@pytest.fixture(scope="module")
def compared_with() -> Repository:
    """What the report in the repository was compared with when it was written."""
    return Repository.parse(WRITTEN.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def sections() -> dict[str, dict[str, Any]]:
    return report.stored(RESULTS)


def test_the_report_is_what_the_stored_figures_say(sections: dict[str, dict[str, Any]], compared_with: Repository) -> None:
    assert WRITTEN.read_text(encoding="utf-8") == report.render_report(
        sections, compared_with, report.stored_changes(RESULTS), report.stored_took(RESULTS)
    ), "python -m benchmarks.report"


@pytest.mark.parametrize("name", report.stored(RESULTS))
def test_a_section_is_what_its_stored_figures_say(name: str, sections: dict[str, dict[str, Any]], compared_with: Repository) -> None:
    text = (RESULTS / f"{name}.md").read_text(encoding="utf-8")
    assert text == render_section(sections[name], report.benchmark(name).render, compared_with), "python -m benchmarks.report"
    for picture in re.findall(r"!\[[^\]]*\]\(([^)]*)\)", text):
        assert (RESULTS / picture).read_bytes().startswith(b"\x89PNG")


def test_the_report_was_written_for_the_weights_that_are_embedded(compared_with: Repository) -> None:
    assert compared_with.models == repository().models, "the weights have changed: python -m benchmarks.report"


def test_the_report_opens_with_twelve_rows_and_one_picture(sections: dict[str, dict[str, Any]], compared_with: Repository) -> None:
    text = report.render_report(sections, compared_with)
    opening, _, _ = text.partition("\n## ")
    rows = [line for line in opening.splitlines() if line.startswith("| [")]
    assert len(rows) == len(report.HEADLINES) == 12
    assert len(re.findall(r"!\[", text)) == 1
    for row, (name, _) in zip(rows, report.HEADLINES, strict=True):
        assert f"](results/{name}.md)" in row and f"`python -m benchmarks.{name}" in row
    for target in re.findall(r"\]\(([^)]+)\)", text):
        assert (WRITTEN.parent / target).exists(), target


def test_what_is_outdated_is_marked_and_what_is_not_is_not(sections: dict[str, dict[str, Any]], compared_with: Repository) -> None:
    fresh = {"seams": {**sections["seams"], "engine": compared_with.engine}}
    fresh["seams"]["machine"] = {**fresh["seams"]["machine"], "models": dict(compared_with.models)}
    assert "\N{DAGGER}" not in report.render_report(fresh, compared_with)
    assert "\N{DAGGER}" in report.render_report(fresh, Repository(compared_with.models, "0" * 12))


def test_every_benchmark_can_be_run_by_its_name() -> None:
    packages = {path.parent.name for path in Path(report.__file__).parent.glob("*/benchmark.py")}
    assert packages == set(report.BENCHMARKS)
    for name in packages:
        declared = report.benchmark(name)
        assert declared.name == name and declared.question.endswith("?")
        assert (Path(report.__file__).parent / name / "__main__.py").is_file()


def test_writing_twice_writes_the_same(tmp_path: Path, sections: dict[str, dict[str, Any]], compared_with: Repository) -> None:
    results = tmp_path / "results"
    results.mkdir()
    (results / "seams.json").write_bytes((RESULTS / "seams.json").read_bytes())
    assert report.write(results, compared_with).read_text(encoding="utf-8") == report.render_report(
        {"seams": sections["seams"]}, compared_with
    )
    assert (results / "seams.md").read_bytes() == (RESULTS / "seams.md").read_bytes()


def test_a_benchmark_that_was_not_run_yet_is_named_with_its_command(compared_with: Repository) -> None:
    text = report.render_report({}, compared_with)
    assert all(f"Not measured yet: `python -m benchmarks.{name}`" in text for name in report.BENCHMARKS)


def test_changes_stand_beside_what_was_said_before(sections: dict[str, dict[str, Any]], compared_with: Repository) -> None:
    seams = report.benchmark("seams")
    before = {**sections["seams"], "machine": {**sections["seams"]["machine"], "cpu": "another"}}
    [same, *_] = changes(sections["seams"], sections["seams"], seams)
    [other, *_] = changes(before, sections["seams"], seams)
    [new, *_] = changes(None, sections["seams"], seams)
    text = report.render_report(sections, compared_with, [same, other, new])
    rows = text.split("## Changes")[1].split("|--:|\n")[1].splitlines()[:3]
    ours = same["after"]
    assert [row.split(" | ")[1:] for row in rows] == [[ours, f"{ours} |"], [f"{ours} (on {other['on']})", f"{ours} |"], ["-", f"{ours} |"]]
    assert other["on"].startswith("another ")
