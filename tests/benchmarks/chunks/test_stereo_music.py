"""The benchmark of stereo music: its sound, and a tiny run of a model of few channels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from made_up_models import small_model, stereo_model
from tiny_benchmark import files_of, run_tiny

from benchmarks.chunks import benchmark as chunks
from benchmarks.harness.clips import ClipTruth
from benchmarks.harness.music import music
from benchmarks.harness.run import main
from streamcodec.codec import Chunk
from streamcodec.model.near_ties import Comparison


def test_the_music_is_stereo_and_the_same_each_time() -> None:
    sound = music(2, 24_000)
    assert sound.shape == (2, 24_000) and 0.05 < np.abs(sound).max() < 1
    assert not np.array_equal(sound[0], sound[1]) and np.array_equal(sound, music(2, 24_000))
    assert not np.array_equal(sound, music(2, 24_000, seed=1))


def test_a_tiny_run_writes_a_section_that_its_figures_say(tmp_path: Path) -> None:
    words = ["--bandwidth", "38.4", "--seconds", "1"]
    stands = " ".join(["--model", Path(stereo_model()).name, *words])
    section = run_tiny("chunks", ["--model", stereo_model(), *words], tmp_path, stands=stands)
    assert files_of(tmp_path) == {"chunks.json", "chunks.md"}
    figures = section["figures"]
    [row] = figures["rows"]
    assert figures["failures"] == [] and figures["chunk_ms"] == pytest.approx(100)
    assert row["packets"] == 12 and row["entries"] > 1000 and row["apart"] <= 1e-4
    assert row["decoded_ms"]["p50"] > row["received_ms"]["p50"] > 100
    [headline] = chunks.headlines(figures)
    assert headline.ours.endswith(" ms") and "38.4 kbps" in headline.what


def test_codes_that_are_not_the_whole_clips_are_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compare = ClipTruth.compare

    def with_other_codes(truth: ClipTruth, found: Sequence[Chunk], expected: Sequence[Chunk]) -> list[Comparison]:
        return compare(truth, [Chunk(chunk.codes ^ 1, chunk.scale) for chunk in found], expected)

    monkeypatch.setattr(ClipTruth, "compare", with_other_codes)
    words = ["--model", stereo_model(), "--bandwidth", "38.4", "--seconds", "0.5", "--out", str(tmp_path)]
    assert main(chunks.BENCHMARK, words) == 1
    [failure] = json.loads((tmp_path / "chunks.json").read_text(encoding="utf-8"))["figures"]["failures"]
    assert "38.4 kbps" in failure and "near-tie" in failure


def test_a_model_that_codes_frames_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(chunks.BENCHMARK, ["--model", small_model(), "--out", str(tmp_path)])
    assert "does not code chunks" in capsys.readouterr().err
