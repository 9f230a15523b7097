"""The churn benchmark: a tiny run with all of its checks, and that each check fails where it should."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_benchmark import files_of, run_tiny

from benchmarks.churn import benchmark as churn
from benchmarks.churn.check import EndedStream, RunOf, Tally, check
from benchmarks.churn.streams import PACKET_FRAMES, draw_spec
from benchmarks.harness.parity import rule_of
from streamcodec.audio import bundled_clip
from streamcodec.codec import Codec
from streamcodec.scheduler.rows import EncoderRow


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_a_tiny_churn_passes_its_checks_and_tells_what_its_json_says(engine: str, model: str, tmp_path: Path) -> None:
    tiny = ["--minutes", "0.03", "--streams", "4", "--longest-seconds", "1", "--engine", engine, "--model"]
    section = run_tiny("churn", [*tiny, model], tmp_path, stands=" ".join([*tiny, Path(model).name]), here=True)
    assert files_of(tmp_path) == {"churn.json", "churn.md", "churn.png"}
    figures = section["cases"][engine]["figures"]
    assert figures["failures"] == []
    assert figures["streams"] >= 4
    assert figures["entries"] > 0 and figures["samples"] > 0
    assert figures["max_error"] <= 1e-4
    assert set(figures["left"].values()) == {0}


def test_streams_are_of_all_sorts_and_the_seed_decides(codec: Codec) -> None:
    def drawn(seed: int) -> list[Any]:
        rng = random.Random(seed)
        return [draw_spec(rng, codec.config, 20.0) for _ in range(300)]

    specs = drawn(1)
    assert specs == drawn(1) != drawn(2)
    assert {(spec.kind, spec.start, spec.flush) for spec in specs} == {
        (kind, start, flush) for kind in ("encode", "decode") for start in ("exact", "primed") for flush in (True, False)
    }
    assert {spec.n_q for spec in specs} == {2, 4, 8, 16, 32}
    assert {spec.packet_frames for spec in specs} == set(PACKET_FRAMES)
    assert {len(spec.restarts_s) for spec in specs} == {0, 1, 2}
    assert max(spec.life_s for spec in specs) <= 20.0


@pytest.mark.parametrize("start", ["exact", "primed"])
def test_a_stream_that_is_right_passes_and_one_that_is_not_is_found(codec: Codec, start: Any) -> None:
    clip = bundled_clip()[0][:20_001]
    encoder = codec.stream_encoder(6.0, start=start)
    codes = np.concatenate([*encoder.feed(clip), *encoder.flush()], axis=1)
    decoder = codec.stream_decoder(6.0, start=start)
    audio = np.concatenate([decoder.feed(codes), decoder.flush()])

    def tally(kind: str, fed: Any, out: Any, *, ended: bool = True) -> Tally:
        found = Tally()
        check(codec, rule_of(codec), EndedStream(kind, 8, start, [RunOf(fed, out, ended)]), found)
        return found

    right = tally("encode", clip, codes)
    assert (right.failures, right.entries) == ([], codes.size)
    assert right.differing <= 8 * right.near_ties, "a near-tie changes the entries of its own frame"
    assert tally("decode", codes, audio).max_error < 1e-4
    wrong = codes.copy()
    wrong[3, 40] = (wrong[3, 40] + 1) % 1024
    [told] = tally("encode", clip, wrong).failures
    assert f"encode, n_q 8, {start}" in told and "frame 40, level 3" in told
    assert tally("decode", codes, np.roll(audio, 1)).max_error > 1e-4
    assert tally("encode", clip, codes[:, :-1]).failures, "a flush must bring out all"
    assert tally("decode", codes, audio[:-320]).failures
    assert not tally("encode", clip, codes[:, :-1], ended=False).failures, "a stream cut off owes only what it gave"
    assert tally("encode", clip[:3200], codes, ended=False).failures, "nothing comes of what was not fed"


def figures(**changed: Any) -> dict[str, Any]:
    sound = {
        "failures_seen": [],
        "entries": 1_000_000,
        "differing": 100,
        "near_ties": 20,
        "samples": 1,
        "max_error": 1e-6,
        "memory": {"mib_per_minute": 0.1},
        "mib_per_minute_allowed": 1.0,
        "left": {"EncoderRow": 0},
    }
    return {**sound, **changed}


def test_each_check_fails_where_it_should() -> None:
    assert churn.failures(figures()) == []
    assert churn.failures(figures(memory={"mib_per_minute": None})) == []
    for wrong in (
        {"failures_seen": ["a stream did not end"]},
        {"entries": 0, "differing": 0},
        {"samples": 0},
        {"max_error": 2e-4},
        {"max_error": float("nan")},
        {"memory": {"mib_per_minute": 1.5}},
        {"left": {"EncoderRow": 1}},
    ):
        assert len(churn.failures(figures(**wrong))) == 1, wrong


def test_memory_is_watched_behind_the_warm_up_only() -> None:
    seconds = [float(at) for at in range(200)]
    rss = [100.0 + (at if at < 60 else 60 + (at - 60) / 30) for at in range(200)]
    found = churn.memory({"seconds": seconds, "allocated_mib": rss}, 60.0, 180.0)
    assert found["mib_per_minute"] == pytest.approx(2.0)
    assert (found["start_mib"], found["end_mib"]) == (160.0, 164.0)
    assert churn.memory({"seconds": seconds[:70], "allocated_mib": rss[:70]}, 60.0, 180.0)["mib_per_minute"] is None


def test_a_row_that_somebody_keeps_is_counted(codec: Codec) -> None:
    before = churn.left_behind()["EncoderRow"]
    kept = EncoderRow(codec.engine, n_q=8, packet_frames=6, start="exact")
    assert churn.left_behind()["EncoderRow"] == before + 1
    del kept
    assert churn.left_behind()["EncoderRow"] == before
