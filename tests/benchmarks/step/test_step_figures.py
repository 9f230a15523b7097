"""What the section `step` counts, checks and says, on figures made up here: nothing is timed."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import peers
from benchmarks.harness.timing import Candidate
from benchmarks.step import benchmark, candidates, gemm, profile, render, targets
from streamcodec.codec import load
from streamcodec.config import CodecConfig
from streamcodec.model.seanet import build_decoder, build_encoder


def row(who: str, operation: str, batch: int, realtime: float, **labels: Any) -> dict[str, Any]:
    ours = who not in ("encodec", "transformers", "Mimi")
    known = {"engine": "openvino" if ours else "torch", "precision": "fp32", "threads": 1, "kind": "step", "frames": 6}
    ms = 80 * batch / realtime
    found = {"who": who, "ours": ours, "operation": operation, "batch": batch, "realtime": realtime, "ms": {"p50": ms, "p99": 2 * ms}}
    return {**found, "calls": 5, "gmacs": 10.0, "of_peak": 0.5, **known, **labels}


def figures() -> dict[str, Any]:
    operations = ("encode", "decode")
    rows = [row("full size", o, b, 20.0, precision=p) for o in operations for b in (1, 16) for p in ("fp32", "bf16")]
    rows += [row(who, o, b, 5.0) for who in ("encodec", "transformers") for o in operations for b in (1, 16)]
    rows += [row(who, o, 1, 10.0, kind="clip", frames=750) for who in ("full size", "transformers") for o in operations]
    counted = gemm.macs(CodecConfig(), 8)
    ms = {**dict.fromkeys(profile.PARTS, 0.25), "convolutions": 2.0, "lstm": 0.5, "step": 4.0}
    return {
        "bandwidth": 6.0,
        "rounds": 1,
        "clip_s": 10.0,
        "frame_s": 1 / 75,
        "frames": 6,
        "batches": [1, 16],
        "threads": 1,
        "engines": ["OpenVINO"],
        "mimi": None,
        "macs_per_s": {"full size": {o: [w.convolutions, w.lstm, w.search] for o, w in counted.items()}},
        "gemm": [{"engine": "torch", "precision": p, "size": 512, "gmacs": 100.0} for p in ("fp32", "bf16")],
        "peak": {"fp32": {"gmacs": 100.0}, "bf16": {"gmacs": 200.0}},
        "rows": rows,
        "profile": [{**row("full size", o, 1, 20.0), "ms": ms} for o in operations],
        "agreement": {"precision": "fp32", "entries": 480, "differing": 0, "near_ties": 0, "max_error": 1e-7},
        "targets": targets.check(rows),
    }


# The work --------------------------------------------------------------------------------------------------------------------------


def test_the_published_model_multiplies_as_much_as_is_known_of_it() -> None:
    counted = gemm.macs(CodecConfig(), 8)
    assert counted["encode"].convolutions + counted["encode"].lstm == pytest.approx(1.49e9, rel=0.001)
    assert counted["decode"].total == pytest.approx(1.49e9, rel=0.001)
    assert counted["encode"].lstm == counted["decode"].lstm == 75 * 2 * 2 * 4 * 512 * 512
    assert counted["encode"].search == 75 * 8 * 1024 * 128


@pytest.mark.parametrize("operation", ["encode", "decode"])
def test_the_count_of_a_network_is_what_its_convolutions_run(operation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = CodecConfig(num_filters=4, hidden_size=8, codebook_dim=8, num_residual_layers=2, use_conv_shortcut=False)
    network = (build_encoder if operation == "encode" else build_decoder)(config)
    done, conv1d = 0, torch.nn.functional.conv1d

    def counted(x: torch.Tensor, weight: torch.Tensor, *rest: Any) -> torch.Tensor:
        nonlocal done
        y: torch.Tensor = conv1d(x, weight, *rest)
        done += y.shape[-1] * weight.numel()
        return y

    monkeypatch.setattr(torch.nn.functional, "conv1d", counted)
    with torch.no_grad():
        network(torch.zeros(1, 1, 24_000) if operation == "encode" else torch.zeros(1, 8, 75), None, True)
    assert gemm.macs(config, 1)[operation].convolutions == done


def test_every_product_of_the_peak_runs_and_says_what_it_multiplies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gemm, "_SIZES", (32, 64))
    products = gemm.gemm_candidates(["fp32", "bf16"], 1, burst=1, every=1)
    assert {(p.labels["engine"], p.labels["precision"], p.labels["size"]) for p in products} == {
        (e, p, s) for e in ("torch", "openvino") for p in ("fp32", "bf16") for s in (32, 64)
    }
    for product in products:
        product.call()
        assert product.labels["macs"] % product.labels["size"] ** 3 == 0


# The targets -----------------------------------------------------------------------------------------------------------------------


def test_a_target_is_held_to_the_quickest_of_the_references() -> None:
    rows = [row("full size", "encode", 1, 14.0), row("encodec", "encode", 1, 4.0), row("transformers", "encode", 1, 5.0)]
    found = {(t["operation"], t["batch"], t["precision"], t["measure"]): t for t in targets.check(rows)}
    assert found["encode", 1, "fp32", "realtime"]["met"] is True
    assert found["encode", 1, "fp32", "packages_80_ms"]["reached"] == pytest.approx(2.8)
    assert found["encode", 1, "fp32", "packages_80_ms"]["met"] is False


def test_what_was_not_measured_is_neither_met_nor_missed() -> None:
    rows = [
        row("full size", "encode", 1, 99.0, threads=2),
        row("speech-24k", "encode", 1, 99.0),
        row("full size", "encode", 1, 99.0, frames=1),
    ]
    assert all(target["reached"] is None and target["met"] is None for target in targets.check(rows))


# The profile -----------------------------------------------------------------------------------------------------------------------


def test_the_operations_of_a_network_belong_to_the_parts_they_work_for() -> None:
    lstm = ("lstm", ".layers.13/", ".layers.13.")
    assert profile.part_of("Convolution", "net.layers.0.conv/Convolution", lstm) == "convolutions"
    assert profile.part_of("LSTMSequence", "anything", lstm) == "lstm"
    assert profile.part_of("MatMul", "net.layers.13/MatMul", lstm) == "lstm"
    assert profile.part_of("Reorder", "net.layers.13/Transpose_abc_acb", lstm) == "moving"
    assert profile.part_of("Elu", "net.layers.1/Elu", lstm) == "elementwise"
    assert profile.part_of("NobodyKnows", "net", lstm) == "other"


def test_a_profile_accounts_for_the_whole_step() -> None:
    watch = profile.Watch()
    speech = np.zeros(24_000, np.float32)
    way, shape = candidates.EngineSetup("openvino", "fp32", 1), candidates.Shape(2, 6)
    with watch.making():
        codec = load("speech-24k", engine="openvino", threads=1)
        steps = candidates.our_steps("speech-24k", codec, way, speech, shape)
    for step in steps:
        ms = profile.profile(watch, codec, step.labels["operation"], step.call, runs=5)
        assert min(ms[part] for part in ("convolutions", "lstm", "elementwise", "moving", "outside")) > 0
        assert ms["other"] < 0.2 * ms["step"], "an operation that no part knows"
        assert (ms["search"] > 0) == (step.labels["operation"] == "encode")
        assert sum(ms[part] for part in profile.PARTS) >= 0.99 * ms["step"]


def test_a_step_is_split_into_the_peaks_pace_and_what_each_part_takes_beyond_it() -> None:
    made = figures()
    shares = render.excess(made, made["profile"][0])
    min_ms = (1175.1936 + 314.5728) * 0.08 / 100
    assert shares["peak"] * 4 == pytest.approx(min_ms + 0.0629, abs=1e-3)
    assert shares["elementwise"] == pytest.approx(0.25 / 4)
    assert shares["convolutions"] == pytest.approx((2.0 - 1175.1936 * 0.08 / 100) / 4)


# The words -------------------------------------------------------------------------------------------------------------------------


def test_the_section_says_what_is_missing_and_how_to_have_it() -> None:
    made = figures()
    assert "Mimi was not measured here" in render.render(made)
    made["mimi"] = "9.9.9"
    assert "`moshi` 9.9.9" in render.render(made)
    assert "Where the time goes" not in render.render({**made, "profile": []})


def test_lyra_is_refused_with_what_it_lacks_only_where_it_is_asked_for(tmp_path: Path) -> None:
    assert benchmark.refuse(argparse.Namespace(lyra=None)) is None
    assert "soundstream_encoder.tflite" in (benchmark.refuse(argparse.Namespace(lyra=tmp_path)) or "")


def test_lyra_stands_beside_the_smaller_of_our_models_where_it_was_measured() -> None:
    made = figures()
    assert "Lyra" not in render.render(made)
    with pytest.raises(StopIteration):
        next(line for line in render.headlines(made) if "Lyra" in (line.other or ""))
    first = next(row for row in made["rows"] if row["ours"] and row["kind"] == "step" and row["batch"] == 1)
    for operation, ours_ms, their_ms in (("encode", 2.0, 2.5), ("decode", 1.0, 3.0)):
        same = {**first, "operation": operation}
        made["rows"].append({**same, "who": "speech-24k", "ms": {**first["ms"], "p50": ours_ms}})
        lyra_row = {**same, "who": candidates.LYRA, "ours": False, "engine": "tflite", "precision": "int8"}
        made["rows"].append({**lyra_row, "ms": {**first["ms"], "p50": their_ms}})
    assert "Lyra V2, streaming" in render.render(made)
    found = next(line for line in render.headlines(made) if "Lyra" in (line.other or ""))
    assert "speech-24k" in found.what and found.ours == "3.0 ms" and found.other == "5.5 ms (Lyra V2)"


def test_the_words_name_the_largest_parts_in_their_order() -> None:
    made = figures()
    made["profile"][0]["ms"]["between"] = 1.9
    line = next(line for line in render.render(made).splitlines() if line.startswith("- encode"))
    assert line.index("the network between its operations") < line.index("convolutions below")


def test_mimi_streams_where_its_package_is_here() -> None:
    if not peers.has_mimi():
        pytest.skip("moshi is not installed")
    encode, decode = candidates.peer_calls(peers.mimi_peer(2), 1, np.zeros(24_000, np.float32), candidates.Shape(2, 6))
    assert isinstance(encode, Candidate)
    assert [encode.labels["who"], encode.audio_s] == ["Mimi", pytest.approx(0.16)]
    codes, audio = encode.call(), decode.call()
    assert isinstance(codes, torch.Tensor) and isinstance(audio, torch.Tensor)
    assert (codes.shape, audio.shape) == ((2, 8, 1), (2, 1, 1920))
