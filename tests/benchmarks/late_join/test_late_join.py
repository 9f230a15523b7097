"""The late-join benchmark: what it measures on real codes, and a tiny run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from tiny_benchmark import files_of, run_tiny

from benchmarks.late_join import benchmark as late_join
from benchmarks.late_join.benchmark import join_errors
from streamcodec.codec import Codec

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
    section = run_tiny("late_join", TINY, tmp_path, here=True)
    assert files_of(tmp_path) == {"late_join.json", "late_join.md", "late_join.png"}
    assert [row["history_ms"] for row in section["figures"]["rows"]] == [0, 160]
