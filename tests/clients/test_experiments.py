"""The experiments run from their first cell to their last, and find what they are there to show."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from parity import assert_same_codes

from streamcodec.audio import read_audio

SCRIPT = Path(__file__).parents[2] / "clients" / "experiments.py"
WRITTEN = {"original", "decoded", "first-1", "first-2", "first-4", "first-8", "only-2", "only-3", "only-4"}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, speech_codec: Any) -> tuple[Path, dict[str, Any]]:
    """The folder that they wrote to, and all that the cells left."""
    del speech_codec  # only loaded
    out = tmp_path_factory.mktemp("experiments") / "new"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(SCRIPT), "--seconds", "1.5", "--out", str(out), "--an-editor-s-own"])
        return out, runpy.run_path(str(SCRIPT))


def test_every_sound_and_picture_is_written(ran: tuple[Path, dict[str, Any]]) -> None:
    out, names = ran
    sounds = {f"{name}.wav" for name in (*WRITTEN, "streamed-naive", "streamed-stateful")}
    assert {path.name for path in out.iterdir()} == {*sounds, "codebooks.png", "seams.png"}
    for picture in ("codebooks.png", "seams.png"):
        assert (out / picture).read_bytes().startswith(b"\x89PNG")
    for name in sounds:
        samples, rate = read_audio(out / name)
        assert rate == 24_000 and samples.shape[1] in (len(names["audio"]), len(names["naive"]))


def test_the_steps_are_those_of_the_model(ran: tuple[Path, dict[str, Any]]) -> None:
    names = ran[1]
    assert_same_codes(names["model"], names["codes"], names["at_once"], names["audio"])
    np.testing.assert_allclose(names["decoded"][0, 0].numpy(), names["whole"], atol=1e-4)
    assert all(after < before for before, after in zip(names["energy"], names["energy"][1:], strict=False))


def test_more_codebooks_come_closer_and_a_late_one_alone_says_little(ran: tuple[Path, dict[str, Any]]) -> None:
    names = ran[1]
    prefixes = [names["distance_db"](names["heard"][f"first {count}"], names["audio"]) for count in (1, 2, 4, 8)]
    assert prefixes == sorted(prefixes) and prefixes[-1] > prefixes[0] + 3
    assert names["distance_db"](names["heard"]["only 4"], names["audio"]) < prefixes[0] - 3


def test_only_a_stream_with_a_state_is_the_whole_clip(ran: tuple[Path, dict[str, Any]]) -> None:
    names = ran[1]
    codec, codes = names["codec"], np.concatenate(names["packets"], axis=1)
    clip = names["audio"][: len(names["naive"])]
    assert_same_codes(codec, codes, codec.encode(clip, bandwidth=6.0), clip)
    np.testing.assert_allclose(names["stateful"], codec.decode(codes), atol=1e-4)
    assert names["distance_db"](names["naive"], names["clip"]) < 25
    assert names["jumps"]["naive"] > 2 * names["jumps"]["stateful"]


def test_the_script_is_in_cells() -> None:
    cells = re.findall(r"^# %% (.+)$", SCRIPT.read_text(encoding="utf-8"), re.M)
    assert len(cells) == 6
