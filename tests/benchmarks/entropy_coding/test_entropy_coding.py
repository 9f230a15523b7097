"""The benchmark of entropy coding: messages are read back, engines that differ are told, and a tiny run says what its figures say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from level_steps import integer_step, random_model
from tiny_benchmark import files_of, run_tiny

from benchmarks.entropy_coding import benchmark as entropy_coding
from benchmarks.entropy_coding.benchmark import coded_messages, decoded_messages, levels_digest
from streamcodec.audio import write_audio
from streamcodec.engine.fixed_point import FixedPointEngine
from streamcodec.model.fixed_point import save_fixed_point
from streamcodec.training.data.corpus import Folder, build

CODES = np.random.default_rng(0).integers(0, 64, (3, 20), np.int32)


def test_messages_are_read_back_packet_by_packet() -> None:
    engine = FixedPointEngine(random_model())
    messages = coded_messages(engine, CODES)
    assert len(messages) == 4, "three packets of six frames, and one of two"
    found, seconds = decoded_messages(FixedPointEngine(random_model()), messages, 3, 20)
    np.testing.assert_array_equal(found, CODES)
    assert len(seconds) == 4


def test_engines_that_give_other_levels_have_other_digests() -> None:
    model = random_model()
    digest = levels_digest(FixedPointEngine(model), [CODES], 3)
    assert levels_digest(FixedPointEngine(model, integer_step(model)), [CODES], 3) == digest

    def wrong(indices: Any, history: Any) -> Any:
        levels, after = integer_step(model)(indices, history)
        levels[0, 0, 0] += indices[0, 0] == CODES[0, 10] + 1
        return levels, after

    assert levels_digest(FixedPointEngine(model, wrong), [CODES], 3) != digest


def test_a_tiny_run_writes_a_section_that_its_figures_say(
    tmp_path: Path, model: str, speech: npt.NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entropy_coding, "_encodec_packets", lambda n_q: [0.001 * n_q])  # ten seconds, and another model
    (tmp_path / "voices").mkdir()
    write_audio(tmp_path / "voices" / "talk.wav", speech[:120_000], 24_000)
    build([Folder("voices", tmp_path / "voices", held_out=True)], tmp_path / "corpus")
    save_fixed_point(random_model(32, 1024, behind=24), tmp_path / "lm.safetensors")
    words = ["--clips", "1", "--bandwidth", "1.5", "6"]
    given = ["--model", model, "--language-model", str(tmp_path / "lm.safetensors"), "--corpus", str(tmp_path / "corpus")]
    stands = f"--model {Path(model).name} --language-model lm.safetensors --corpus corpus --clips 1 --bandwidth 1.5 6"
    section = run_tiny("entropy_coding", [*given, *words], tmp_path / "out", stands=stands, here=True)
    assert files_of(tmp_path / "out") == {"entropy_coding.json", "entropy_coding.md"}
    figures = section["figures"]
    assert figures["failures"] == [] and len(figures["engines"]) == 4
    assert [row["kbps"] for row in figures["rows"]] == [1.5, 6]
    for row in figures["rows"]:
        plain, coded = row["file_kbps"]
        assert plain == pytest.approx(row["kbps"], rel=0.01) and coded > 0
        assert row["message_bytes"][0] == pytest.approx(10 * row["kbps"], rel=0.05)
