"""The command compares and times a batch of clips with both sides; no test looks at how long anything took."""

from __future__ import annotations

import re

import pytest
import torch

from benchmarks.batches import compare


def test_both_sides_code_a_batch_alike_and_are_timed(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        compare.main(["--model", model, "--clips", "3", "--seconds", "0.1", "0.3", "--rounds", "1", "--sides", "torch", "transformers"])
        == 0
    )
    told = capsys.readouterr().out
    rows = re.findall(r"^\| (encode|decode) \| (torch|transformers) \|(.*)\|$", told, re.M)
    assert [(call, side) for call, side, _ in rows] == [(c, s) for c in ("encode", "decode") for s in ("torch", "transformers")]
    assert all(float(cell) > 0 for *_, cells in rows for cell in cells.split("|"))


def test_what_differs_is_told(model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    load = compare._load

    def damaged(folder: object, side: str) -> object:
        loaded = load(folder, side)  # type: ignore[arg-type]
        if side == "transformers":
            with torch.no_grad():
                loaded.encoder.layers[0].conv.bias.add_(0.5)
                loaded.decoder.layers[-1].conv.bias.add_(0.5)
        return loaded

    monkeypatch.setattr(compare, "_load", damaged)
    assert (
        compare.main(["--model", model, "--clips", "2", "--seconds", "0.1", "0.2", "--rounds", "1", "--sides", "torch", "transformers"])
        == 1
    )
    told = capsys.readouterr().out
    assert "torch, clip 1: " in told and "torch: samples differ by" in told
