"""Whether a stored figure is of the weights and the code that the repository holds."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from benchmarks.harness.provenance import Repository, commit, engine_checksum, outdated, repository
from benchmarks.harness.sections import render_section

NOW = Repository({"speech-24k": "a" * 32}, "0123456789ab")


def ran(**changed: Any) -> dict[str, Any]:
    """A stored run of what the repository holds now."""
    machine = {"cpu": "x", "instructions": [], "cores": 2, "ram_gib": 4, "system": "s", "python": "3", "packages": {}, "threads": 1}
    run = {"when": "2026-01-01 00:00 UTC", "wall_s": 1.0, "own_cores": 1.0}
    made = {"command": "c", "run": run, "machine": {**machine, "models": {"speech-24k": "a" * 32}}, "engine": NOW.engine, "figures": {}}
    made["machine"] |= changed.pop("machine", {})
    return {**made, **changed}


def test_what_was_measured_with_what_is_here_is_not_outdated() -> None:
    assert outdated(ran(), NOW) == []


def test_other_weights_and_other_code_are_told_by_their_digits() -> None:
    assert outdated(ran(machine={"models": {"speech-24k": "b" * 32}}), NOW) == ["other weights of `speech-24k` (bbbbbbbb, now aaaaaaaa)"]
    assert outdated(ran(engine="ba9876543210"), NOW) == ["other engine code (ba9876543210, now 0123456789ab)"]


def test_a_run_that_did_not_say_what_it_used_is_older_than_what_does() -> None:
    old = ran()
    del old["engine"], old["machine"]["models"]
    assert [reason.split(",")[0] for reason in outdated(old, NOW)] == ["earlier weights", "earlier engine code"]


def test_a_section_says_at_its_top_which_cases_are_outdated() -> None:
    section = {"title": "T", "cases": {"new": ran(), "old": ran(engine="ba9876543210")}}
    top = render_section(section, lambda _: "told", NOW).split("\n\n")[1]
    assert top == "> **Outdated: measured with other engine code (ba9876543210, now 0123456789ab) (old).**"
    assert render_section({"title": "T", **ran()}, lambda _: "told", NOW).split("\n\n")[1] == "told"


def test_the_checksum_follows_the_engines_sources_and_no_others(tmp_path: Path) -> None:
    for file, text in (("model/layers.py", "x = 1"), ("config.py", "y = 1"), ("server/app.py", "z = 1")):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(text)
    first = engine_checksum(tmp_path)
    (tmp_path / "server" / "app.py").write_text("z = 2")
    assert engine_checksum(tmp_path) == first
    (tmp_path / "model" / "layers.py").write_text("x = 2")
    assert engine_checksum(tmp_path) != first


def test_what_the_repository_holds_is_told_and_read_back() -> None:
    now = repository()
    assert set(now.models) == {"speech-24k"}
    assert Repository.parse(f"some text\n<!-- compared with {now} -->\n") == now
    with pytest.raises(ValueError, match="names no weights"):
        Repository.parse("some text")


def test_the_commit_is_told_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert commit(tmp_path) is None
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
    for words in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "--allow-empty", "-m", "m"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    found = commit(tmp_path)
    assert found is not None and len(found) >= 7


def test_a_changed_source_marks_the_commit_and_a_report_that_was_written_does_not(tmp_path: Path) -> None:
    for file in ("benchmarks/results/step.json", "benchmarks/RESULTS.md", "engine.py"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("1")
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
    for words in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "-m", "m"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    clean = commit(tmp_path)
    (tmp_path / "benchmarks/results/step.json").write_text("2")
    (tmp_path / "benchmarks/RESULTS.md").write_text("2")
    assert commit(tmp_path) == clean
    (tmp_path / "engine.py").write_text("2")
    assert commit(tmp_path) == f"{clean}-dirty"
