"""The benchmark of parity: the clips that it takes, a tiny run, and that whatever is wrong fails it and is named."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from reference_models import FEW, SMALL
from tiny_benchmark import files_of, run_tiny

from benchmarks.harness.run import main
from benchmarks.parity import benchmark as parity
from benchmarks.parity import compare
from benchmarks.peers.random_models import transformers_model
from benchmarks.peers.references import Reference, TransformersReference
from streamcodec.codec import Chunk, Codec
from streamcodec.published import PUBLISHED
from streamcodec.types import Samples

SMALL_OF = {
    "encodec_24khz": {**FEW, "codebook_size": 64, "target_bandwidths": [7.2, 14.4]},
    "encodec_32khz": SMALL["32 kHz"],
    "encodec_48khz": SMALL["48 kHz"],
}


@pytest.fixture
def small_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """`transformers`' models have few channels and short chunks."""

    def small(package: str, name: str) -> Reference:
        assert package == "transformers"
        return TransformersReference(transformers_model(**SMALL_OF[name]))

    monkeypatch.setattr(parity, "reference_of", small)


def test_clips_end_around_every_seam_and_the_highest_bandwidth_has_all_of_them() -> None:
    stereo = PUBLISHED["encodec_48khz"]
    lengths = {kbps: set(compare.lengths_at(stereo, kbps)) for kbps in stereo.target_bandwidths}
    assert lengths[24.0] >= {1, 2, 319, 320, 321, 47_519, 47_520, 47_521, 47_999, 48_000, 48_001, 144_000}
    assert all(kbps == 24.0 or each < lengths[24.0] for kbps, each in lengths.items())
    assert all(each >= {1, 2, 319, 320, 321, 47_521, 48_001, 144_000} for each in lengths.values())
    assert set(compare.lengths_at(PUBLISHED["encodec_24khz"], 24.0)) >= {72_000, 95_999, 96_000, 96_001}
    assert set(compare.lengths_at(PUBLISHED["encodec_32khz"], 2.2)) >= {1, 639, 640, 641, 96_000}


@pytest.mark.usefixtures("small_models")
def test_a_tiny_run_compares_every_model_engine_and_bandwidth(tmp_path: Path) -> None:
    words = ["--package", "transformers", "--lengths", "1", "1201", "--batch-seconds", "0.06"]
    section = run_tiny("parity", words, tmp_path, here=True)
    assert files_of(tmp_path) == {"parity.json", "parity.md"}
    figures = section["figures"]
    assert figures["failures"] == []
    found = {(row["model"], row["what"], row["engine"], row["kbps"]) for row in figures["rows"]}
    assert found == {
        (model, what, engine, kbps)
        for model, values in SMALL_OF.items()
        for what in ("clips", "batch")
        for engine in ("torch", "openvino", "onnx")
        for kbps in values["target_bandwidths"]
    }
    assert len(found) == len(figures["rows"])
    for row in figures["rows"]:
        assert row["clips"] == (2 if row["what"] == "clips" else 4)
        assert row["entries"] > 30 and row["near_ties"] is not None and row["audio"] <= 1e-4 < row["peak"]
        assert (row["scales"] is not None) == (row["model"] == "encodec_48khz")
    [headline] = parity.headlines(figures)
    assert f"of {sum(row['entries'] for row in figures['rows']):,}" in headline.ours and "24, 32, 48 kHz" in headline.what


def test_the_package_encodec_takes_part_with_its_own_checkpoint(tmp_path: Path) -> None:
    words = ["--model", "encodec_24khz", "--package", "encodec", "--engine", "torch", "--lengths", "321"]
    section = run_tiny("parity", words, tmp_path, here=True)
    rows = section["figures"]["rows"]
    assert [(row["package"], row["what"], row["kbps"]) for row in rows] == [("encodec", "clips", kbps) for kbps in (1.5, 3, 6, 12, 24)]
    assert [row["entries"] for row in rows] == [4, 8, 16, 32, 64]


def _other_code(encoded: Any) -> list[Chunk]:
    first, *rest = encoded
    codes = first.codes.copy()
    codes[-1, 3] ^= 1
    return [Chunk(codes, first.scale), *rest]


def _other_scale(encoded: Any) -> list[Chunk]:
    first, *rest = encoded
    return [Chunk(first.codes, first.scale * 1.0001), *rest]


def _louder(codec: Codec, chunks: Sequence[Chunk]) -> Samples:
    return np.concatenate([codec.decode(list(chunks))[:, :-1], np.ones((2, 1), np.float32)], axis=1)


def _shorter(codec: Codec, chunks: Sequence[Chunk]) -> Samples:
    return np.asarray(codec.decode(list(chunks)))[:, 1:]


def _no_scale(encoded: Any) -> list[Chunk]:
    first, *rest = encoded
    return [Chunk(first.codes, float("nan")), *rest]


@pytest.mark.usefixtures("small_models")
@pytest.mark.parametrize(
    ("place", "wrong", "words"),
    [
        ("as_chunks", _other_code, "not by a near-tie: frame 3"),
        ("as_chunks", _other_scale, "scales differ by 1.0e-04"),
        ("as_chunks", _no_scale, "scales differ by nan"),
        ("as_chunks", lambda encoded: encoded[:1], "1 chunks and 2 expected ones"),
        ("decode_clip", _louder, "samples differ by"),
        ("decode_clip", _shorter, "audio [2, 1239], expected [2, 1240]"),
    ],
)
def test_what_is_wrong_with_a_clip_fails_the_command_and_is_named(
    place: str, wrong: Any, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, place, wrong)
    asked = ["--model", "encodec_48khz", "--package", "transformers", "--engine", "torch", "--lengths", "1201", "--batch-seconds", "0.01"]
    assert main(parity.BENCHMARK, [*asked, "--out", str(tmp_path)]) == 1
    failures = json.loads((tmp_path / "parity.json").read_text(encoding="utf-8"))["figures"]["failures"]
    assert len(failures) == 2, "at each bandwidth, and not in batches"
    assert all("encodec_48khz, transformers, clips" in failure and "a clip of 1201 samples" in failure for failure in failures)
    assert all(words in failure for failure in failures)


@pytest.mark.usefixtures("small_models")
def test_what_is_wrong_with_a_batch_fails_the_command_and_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encode = compare.EncodecModel.encode

    def with_another_code(model: Any, values: torch.Tensor, *more: Any) -> Any:
        encoded = encode(model, values, *more)
        encoded.audio_codes[0, 2, -1, 3] ^= 1
        return encoded

    monkeypatch.setattr(compare.EncodecModel, "encode", with_another_code)
    asked = ["--model", "encodec_32khz", "--package", "transformers", "--engine", "torch", "--lengths", "40", "--batch-seconds", "0.03"]
    assert main(parity.BENCHMARK, [*asked, "--out", str(tmp_path)]) == 1
    [failure] = json.loads((tmp_path / "parity.json").read_text(encoding="utf-8"))["figures"]["failures"]
    assert "encodec_32khz, transformers, batch, 19.2, torch, clip 2 of the batch, chunk 0" in failure and "near-tie" in failure
