"""What a clip sounds like later in a stream: what is put before it, and a section that says what its figures say."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.heldout import Clip
from benchmarks.long_streams import benchmark as long_streams
from streamcodec.audio import bundled_clip
from streamcodec.codec import load


def test_what_is_before_a_clip_is_the_rest_of_its_source() -> None:
    clips = [Clip(source, "speech", at, np.full(3, at, np.float32)) for source, at in (("a", 1), ("b", 2), ("a", 3), ("a", 4))]
    assert long_streams.behind(clips, 0, 8).tolist() == [3, 3, 3, 4, 4, 4, 3, 3]
    assert long_streams.behind(clips, 1, 4).tolist() == [2, 2, 2, 2]
    assert len(long_streams.behind(clips, 2, 0)) == 0


def test_a_clip_later_in_a_stream_is_scored_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(long_streams, "_NAMES", ("pesq", "stoi"))  # ViSQOL takes half a minute
    speech, rate = bundled_clip()
    clips = [Clip("bundled", "speech", at * rate, speech[at * rate :][: 2 * rate]) for at in (1, 4)]
    figures = json.loads(json.dumps(long_streams.measure_long_streams("speech-24k", load("speech-24k"), clips, [6.0], [0.0, 2.0])))
    start, later = figures["rows"]
    assert (start["behind_s"], later["behind_s"]) == (0.0, 2.0)
    assert start["change"]["pesq"]["mean"] == 0.0 and later["change"]["pesq"]["mean"] != 0.0
    for name in ("pesq", "stoi"):
        assert later["scores"][name]["mean"] - start["scores"][name]["mean"] == pytest.approx(later["change"][name]["mean"])
        assert later["change"][name]["count"] == 2
    assert later["scores"]["stoi"]["mean"] > 0.85, "another part of the stream was scored"
    text = long_streams.render(figures)
    assert "6 kbps, from the start" in text and f"{later['change']['stoi']['mean']:+.4f}" in text
    long_streams.draw(figures, tmp_path)
    assert (tmp_path / "long_streams.png").read_bytes().startswith(b"\x89PNG")
