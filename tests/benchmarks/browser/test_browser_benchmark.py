"""The benchmark of the page: tiny runs in a real browser, and what its figures say. No test looks at how long anything took."""

from __future__ import annotations

import json
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_models import FEW_LAYERS, save_made_up_model
from programs import needs
from tiny_benchmark import files_of, run_tiny

from benchmarks.browser import delay
from benchmarks.browser.benchmark import BENCHMARK
from benchmarks.browser.installs import closure
from benchmarks.browser.start import kind_of, loud
from benchmarks.browser.steps import BOTH, summary
from benchmarks.harness.browser import missing_for_browser
from benchmarks.harness.run import main
from benchmarks.mouth_to_ear.benchmark import MouthToEar

needs_browser = needs("taskset", without=" and ".join(missing_for_browser()) or None)
CASES = {
    "steps": ["--minutes", "0.05"],
    "start": ["--starts", "1"],
    "installs": ["--starts", "1"],
}


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_made_up_model(tmp_path_factory.mktemp("model"), **FEW_LAYERS)


def ran(case: str, model: Path | None, out: Path) -> dict[str, Any]:
    """The figures of a tiny run of one case, with the embedded model where no other is named."""
    words = ["--case", case, *CASES[case]]
    given, stands = ([*words, "--model", str(model)], [*words, "--model", model.name]) if model is not None else (words, words)
    section = run_tiny("browser", given, out, stands=" ".join(stands), here=True)
    figures: dict[str, Any] = section["cases"][case]["figures"]
    return figures


@needs_browser
def test_the_codec_s_steps_are_timed_in_a_browser(tiny_model: Path, tmp_path: Path) -> None:
    figures = ran("steps", tiny_model, tmp_path)
    assert files_of(tmp_path) == {"browser.json", "browser.md", "browser.png"}
    steps = ("encode", "decode", "decode high", BOTH)
    assert {(row["signal"], row["step"]) for row in figures["rows"]} == {(s, step) for s in ("speech", "silence") for step in steps}
    assert all(0 < row["all"]["p50"] <= row["all"]["max"] for row in figures["rows"])
    assert figures["memory"] and all(look["private_mib"] > 10 for look in figures["memory"])
    assert min(figures["heap_mib"].values()) > 10, "the weights are kept in there"


@needs_browser
def test_what_is_downloaded_is_counted_and_the_first_sound_is_found(tiny_model: Path, tmp_path: Path) -> None:
    figures = ran("start", tiny_model, tmp_path)
    assert [link["link"] for link in figures["links"]] == ["loopback", "10 Mbit/s"]
    for link in figures["links"]:
        [start] = link["starts"]
        assert 0 < start["ready"] < start["playing"] and start["ready"] < start["sound"]
    weight = {user: {one["kind"]: one["bytes"] for one in files} for user, files in figures["weight"].items()}
    for user in ("listen", "talk"):
        assert 2e6 < weight[user]["ONNX Runtime"] < 4e6, "as it is sent, compressed"
        assert weight[user]["the model's weights"] > 100_000 and weight[user]["the page and its scripts"] > 10_000


def test_listeners_with_and_without_torch_are_started_and_what_they_install_is_added_up(tmp_path: Path) -> None:
    figures = ran("installs", None, tmp_path)
    assert files_of(tmp_path) == {"browser.json", "browser.md"}
    light, heavy = figures["rows"]
    assert (light["extra"], heavy["extra"]) == ("play", "codec")
    assert 10e6 < light["bytes"] < heavy["bytes"] / 2
    assert "torch" in [one["package"] for one in heavy["largest"]]
    assert all(row["start_s"] > 0 and row["peak_mib"] > 0 for row in (light, heavy))


def test_what_a_package_takes_is_found_as_its_extras_and_markers_say() -> None:
    found = closure("streamcodec", "play")
    assert {"numpy", "onnxruntime", "websockets", "typer", "rich", "msgpack"} <= set(found)
    assert not {"torch", "openvino", "numba", "pytest", "huggingface-hub"} & set(found)
    assert {"torch", "sympy", "openvino"} <= set(closure("streamcodec", "codec"))
    assert found["numpy"].version == distribution("numpy").version


def test_minutes_are_told_apart_and_both_steps_are_added_packet_by_packet() -> None:
    # Three minutes of packets of two signals: the second is twice as slow, and the last minute is slower than the first.
    count = 2250
    when = np.arange(count) * 80.0
    slow = np.where(when >= 120_000, 3.0, 1.0) * np.where(np.arange(count) % 2, 2.0, 1.0)
    times = np.stack([10 * slow, 5 * slow, 6 * slow], axis=1)
    found = {
        "steps": ["encode", "decode", "decode high"],
        "signals": ["speech", "silence"],
        "count": count,
        "times": [*times.reshape(-1), 0.0, 0.0, 0.0],
        "when": [*when, 0.0],
        "late": 1,
        "packet_ms": 80,
        "loaded_ms": {},
    }
    figures = summary(found, 180.0)
    rows = {(row["signal"], row["step"]): row for row in figures["rows"]}
    assert rows["speech", BOTH]["first"]["p50"] == 15 and rows["speech", BOTH]["last"]["p50"] == 45
    assert rows["silence", BOTH]["first"]["p99"] == 30 and rows["silence", "decode high"]["last"]["p50"] == 36
    assert rows["speech", BOTH]["first"]["packets"] == 375
    [speech, _] = figures["series"]
    assert len(speech["minutes"]) == 18 and speech["p50"][0] == 15 and speech["p50"][-1] == 45
    assert speech["minutes"][0] == pytest.approx(1 / 12)


def test_only_packets_that_are_not_silent_are_published() -> None:
    packets = np.stack([np.full(4, 0.5), np.zeros(4), np.full(4, -0.1)]).astype(np.float32)
    np.testing.assert_array_equal(loud(np.append(packets.reshape(-1), 1.0).astype(np.float32), 4), packets[[0, 2]].reshape(-1))


def test_files_are_of_a_kind() -> None:
    paths = ("/", "/main-1.js", "/onnxruntime-1.wasm", "/model/1/decoder.weights", "/model/1/decoder-8.onnx", "/model/manifest.json")
    model = "the model's graphs, states and manifest"
    assert [kind_of(path) for path in paths] == [*["the page and its scripts"] * 2, "ONNX Runtime", "the model's weights", model, model]


def test_mouth_to_ear_is_told_beside_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stages = {
        "sound server, microphone": 18.0,
        "packet": 80.0,
        "queue, encode, network": 16.0,
        "decode": 4.0,
        "playout": 42.0,
        "speaker, as it says": 10.0,
        "sound server, speaker": -10.0,
    }
    measured = MouthToEar(6, 160.0, 165.0, 0.999, 20.0, 0.8, 0, 0, stages)
    kept = {who: {"heap_mib": 50.0, "private_mib": 200.0} for who in ("talker", "listener")}
    same = {"worst_delay_ms": 310.0, "correlation": 0.8, "stoi": 0.99, "intact_s": 20.0, "lost": 1, "underruns": 2}

    async def pages(*_: object) -> dict[str, Any]:
        shown = delay._stages(300.0, 80.0, 30.0, 10.0, 60.0)
        return {"way": delay.PAGES, "delay_ms": 300.0, **same, "stages_ms": shown, "memory": {"before": kept, "after": kept}}

    monkeypatch.setattr(delay, "measure", lambda *_, **__: measured)
    monkeypatch.setattr(delay, "_page_to_page", pages)
    monkeypatch.setattr("benchmarks.browser.benchmark.missing_for_browser", list)
    monkeypatch.setattr("benchmarks.browser.benchmark.missing_programs", list)
    assert main(BENCHMARK, ["--case", "mouth-to-ear", "--out", str(tmp_path)]) == 0
    figures = json.loads((tmp_path / "browser.json").read_text(encoding="utf-8"))["cases"]["mouth-to-ear"]["figures"]
    left = [run["stages_ms"]["sound server, microphone and speaker"] for run in figures["runs"]]
    assert left == pytest.approx([8.0, 120.0])
    [headline] = BENCHMARK.headlines({"mouth-to-ear": figures})
    assert (headline.ours, headline.other) == ("300 ms", "160 ms (Python to Python)")
    assert "| Python to Python | 160 | 165 | 0.999 | 0.8 | 0 | 0 |" in (tmp_path / "browser.md").read_text(encoding="utf-8")


def test_a_machine_that_lacks_something_is_told_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("benchmarks.browser.benchmark.missing_for_browser", lambda: ["a Chromium"])
    monkeypatch.setattr("benchmarks.browser.benchmark.missing_programs", lambda: ["pulseaudio"])
    monkeypatch.setattr("benchmarks.browser.benchmark.taskset_is_missing", lambda: True)
    for words, told in ((["--all"], "a Chromium, taskset, pulseaudio"), (["--case", "mouth-to-ear"], "a Chromium, pulseaudio")):
        assert main(BENCHMARK, [*words, "--out", str(tmp_path)]) == 1
        assert f"missing: {told}\n" == capsys.readouterr().err
    assert not list(tmp_path.iterdir())
