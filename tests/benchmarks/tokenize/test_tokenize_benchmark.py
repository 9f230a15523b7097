"""The benchmark of a folder: files of any length in all, and a tiny run in which everybody does every file."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_benchmark import files_of, run_tiny

from benchmarks.tokenize import benchmark as tokenize
from streamcodec.audio import read_audio


def test_the_folder_is_as_long_as_is_asked_for(tmp_path: Path) -> None:
    files = tokenize.make_files(tmp_path / "a", 31.5, seed=1)
    lengths = [read_audio(file)[0].shape[1] for file in files]
    assert sum(lengths) == round(31.5 * 24_000) and len(set(lengths)) == len(lengths) > 1
    again = tokenize.make_files(tmp_path / "b", 31.5, seed=1)
    assert [file.read_bytes() for file in again] == [file.read_bytes() for file in files]


@pytest.fixture
def short_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenize, "_SECONDS", (0.3, 0.9))


@pytest.mark.usefixtures("short_files")
def test_a_tiny_run_writes_a_section_that_its_figures_say(tmp_path: Path) -> None:
    section = run_tiny("tokenize", ["--minutes", "0.05", "--threads", "2", "--batch", "2"], tmp_path, here=True)
    assert files_of(tmp_path) == {"tokenize.json", "tokenize.md"}
    figures = section["figures"]
    assert figures["failures"] == [] and figures["seconds"] == pytest.approx(3.0)
    assert [row["who"] for row in figures["rows"]] == ["streamcodec", "streamcodec", "transformers", "transformers", "encodec"]
    assert all(row["s"] > 0 for row in figures["rows"]) and figures["entries"] > 1000
    [headline] = tokenize.headlines(figures)
    assert headline.ours.endswith(" s") and headline.other is not None and "streamcodec" not in headline.other


@pytest.mark.usefixtures("short_files")
def test_files_that_were_left_out_are_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tiny_benchmark import in_one_process

    from benchmarks.harness.run import main

    run = tokenize.tokenize
    monkeypatch.setattr(tokenize, "tokenize", lambda codec, jobs, *more, **options: run(codec, jobs[:1], *more, **options))
    with in_one_process():
        assert main(tokenize.BENCHMARK, ["--minutes", "0.03", "--threads", "1", "--batch", "2", "--out", str(tmp_path)]) == 1
