"""The benchmark of batches: a tiny run of a mono and of a stereo model, and that what differs fails it; no test looks at any time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from made_up_models import small_model, stereo_model
from tiny_benchmark import files_of, run_tiny

from benchmarks.batches import benchmark as batches
from benchmarks.harness.run import main

TINY = ["--clips", "3", "--seconds", "0.1", "0.3", "--rounds", "1", "--engine", "torch"]


def test_both_sides_code_a_batch_alike_and_are_timed(tmp_path: Path) -> None:
    folders = [small_model(), stereo_model()]
    stands = " ".join([*TINY, "--model", *(Path(folder).name for folder in folders)])
    section = run_tiny("batches", [*TINY, "--model", *folders], tmp_path, stands=stands, here=True)
    assert files_of(tmp_path) == {"batches.json", "batches.md"}
    figures = section["figures"]
    assert figures["failures"] == []
    assert [(one["rate"], one["channels"]) for one in figures["models"]] == [(24_000, 1), (48_000, 2)]
    for one in figures["models"]:
        [tally] = one["parity"]
        assert tally["clips"] == 3 and tally["entries"] > 100 and tally["audio"] <= 1e-4 < tally["peak"]
        sides = [(call, side) for call in ("encode", "decode") for side in ("torch", "transformers")]
        assert [(row["call"], row["side"]) for row in one["rows"]] == sides
        assert all(row["median_ms"] >= row["least_ms"] > 0 < row["times_real_time"] for row in one["rows"])
    found = batches.headlines(figures)
    assert len(found) == 4 and all("(torch)" in headline.ours and "`transformers`" in str(headline.other) for headline in found)


def test_what_differs_fails_the_command_and_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = batches.transformers_checkpoint

    def damaged(folder: Path) -> Any:
        loaded = load(folder)
        with torch.no_grad():
            loaded.encoder.layers[0].conv.bias.add_(0.5)
            loaded.decoder.layers[-1].conv.bias.add_(0.5)
        return loaded

    monkeypatch.setattr(batches, "transformers_checkpoint", damaged)
    assert main(batches.BENCHMARK, [*TINY, "--model", small_model(), "--out", str(tmp_path)]) == 1
    failures = json.loads((tmp_path / "batches.json").read_text(encoding="utf-8"))["figures"]["failures"]
    told = " ".join(failures)
    assert "torch, clip 1 of the batch, chunk 0: " in told and "torch, clip 1 of the batch: samples differ by" in told
