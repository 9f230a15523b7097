"""What is made of what was seen around a failure, and a run of the benchmark in a tiny setting. No test looks at how long anything took."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest
from made_up_models import small_model
from tiny_benchmark import run_tiny

from benchmarks.failures.benchmark import FAILURES, counters, figures_of
from benchmarks.failures.clients import Witnesses
from benchmarks.failures.render import headlines, render

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the failures are brought about as Linux does it")


def seen() -> Witnesses:
    return Witnesses(
        1,
        "f",
        packets=[9.0, 12.5],
        gaps=[(9.5, 1, "before"), (12.25, 3, "internal")],
        errors=[(8.0, "publisher: before"), (11.0, "publisher: gone"), (11.5, "publisher: gone")],
        lost=[(9.0, 5)],
        health=[(7.0, "200 ok"), (10.5, "503 it hangs"), (12.5, "200 ok")],
    )


def test_only_what_comes_behind_the_failure_counts_and_the_same_words_are_told_once() -> None:
    found = figures_of(seen(), 10.0, 12.5, {"engine_steps_abandoned_total": 1.0, "engine_steps_total": 70.0, "refused_total": 0.0})
    assert found["recovered_s"] == 2.5 and not found["failures"]
    assert found["health"] == [[0.5, "503 it hangs"], [2.5, "200 ok"]]
    assert found["gaps"] == [[2.25, 3, "internal"]]
    assert found["clients"] == [[1.0, "publisher: gone"]]
    assert found["counters"] == {"engine_steps_abandoned_total": 1.0}


def test_audio_that_does_not_go_on_is_a_failure_and_the_section_says_so() -> None:
    good, bad = figures_of(seen(), 10.0, 12.5, {}), figures_of(seen(), 10.0, None, {})
    assert bad["failures"] == ["audio did not go on"]
    text = render({"one": good, "other": bad})
    assert "| one | 2.50 s |" in text and "| other | never |" in text and "other: audio did not go on" in text
    assert [headline.ours for headline in headlines({"one": good, "other": bad})] == ["2.50 s", "never"]


def test_packets_that_nobody_names_are_a_failure() -> None:
    witness = seen()
    witness._count(11.0, 7, 7)
    witness._count(11.0, None, 9)
    assert figures_of(witness, 10.0, 12.5, {})["failures"] == []
    witness._count(11.0, 7, 9)
    assert figures_of(witness, 10.0, 12.5, {})["failures"] == ["2 packets lost that no gap names"]


def test_counters_are_read_with_their_labels() -> None:
    text = '# HELP x\nstreamcodec_a_total 3.0\nstreamcodec_b_total{limit="host"} 1.0\nstreamcodec_publishers 2.0\nother_total 1.0\n'
    assert counters(text) == {"a_total": 3.0, 'b_total{limit="host"}': 1.0}


def test_a_thread_that_dies_is_survived(tmp_path: Path) -> None:
    name = "the engine's thread dies"
    assert name in FAILURES
    words, others = ["--case", name, "--model"], ["--engine", "torch", "--after-seconds", "0.1"]
    stands = shlex.join([*words, Path(small_model()).name, *others])
    section = run_tiny("failures", [*words, small_model(), *others], tmp_path, stands=stands)
    figures = section["cases"][name]["figures"]
    assert figures["recovered_s"] is not None and figures["gaps"]
