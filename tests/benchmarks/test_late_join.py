"""The late-join benchmark: what it measures on real codes, and a tiny run."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks import common, late_join
from benchmarks.late_join import join_errors
from streamcodec.codec import Codec

ROOT = Path(__file__).parents[2]
TINY = ["--joins", "2", "--history-ms", "0", "160"]


def test_a_late_listener_is_nearer_the_more_history_it_has(speech_codec: Codec, speech: npt.NDArray[np.float32]) -> None:
    found = join_errors(speech_codec, speech, 6.0, 6, (0, 80, 1000), joins=4, seed=0)
    assert found.shape == (4, 3, 2)
    means = np.nanmean(found, axis=0)
    assert means[0, 0] < means[1, 0] < means[2, 0]
    assert means[0, 0] < means[0, 1], "the error is at the beginning"


@pytest.mark.parametrize(("quiet", "counted"), [(0.0, True), (1.0, False)])
def test_joins_into_what_is_quiet_do_not_count(
    quiet: float, counted: bool, speech_codec: Codec, speech: npt.NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(late_join, "_QUIET", quiet)
    found = join_errors(speech_codec, speech[:60_000], 6.0, 6, (0,), joins=2, seed=0)
    assert (np.isfinite(found) == counted).all()


def test_a_sound_that_is_too_short_is_refused(speech_codec: Codec) -> None:
    with pytest.raises(ValueError, match="the sound is 12 packets long"):
        join_errors(speech_codec, np.zeros(24_000, np.float32), 6.0, 6, (1000,), joins=1, seed=0)


def test_a_tiny_run_writes_a_section_that_its_figures_say(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.late_join", *TINY, "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"late_join.json", "late_join.md", "late_join.png"}
    section = json.loads((tmp_path / "late_join.json").read_text(encoding="utf-8"))
    text = (tmp_path / "late_join.md").read_text(encoding="utf-8")
    assert common.fragment(section, importlib.import_module("benchmarks.late_join").render) == text
    assert " ".join(TINY) in text
    assert [row["history_ms"] for row in section["figures"]["rows"]] == [0, 160]
