"""A whole mouth-to-ear run through sound devices: the real programs on PortAudio, with virtual sound cards behind it."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from programs import needs

import streamcodec
from benchmarks.mouth_to_ear.benchmark import MouthToEar, measure
from benchmarks.mouth_to_ear.virtual_sound import missing_programs

PRESSURE = Path("/proc/pressure/cpu")


def waited_s() -> float:
    """For how long programs of this machine have waited for a processor since it started, as Linux counts; 0 where it does not."""
    return int(PRESSURE.read_text().split("total=")[1].split()[0]) / 1e6 if PRESSURE.exists() else 0.0


def good(run: MouthToEar, slack_ms: float) -> bool:
    """Whether nothing was lost and one and a half of the four seconds, which hold pauses, came out as the offline codec makes them."""
    return run.lost == 0 and run.intact_s >= 1.5 and 80 < run.delay_ms < 850 + slack_ms


@needs(without="virtual sound cards (pulseaudio, pulseaudio-utils and libasound2-plugins)" if missing_programs() else None)
def test_speech_goes_from_a_virtual_mouth_to_a_virtual_ear_and_comes_out_as_the_offline_codec_makes_it(
    speech_codec: streamcodec.Codec, speech: npt.NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not missing_programs()
    monkeypatch.setenv("STREAMCODEC_ENGINE", "openvino")  # half a core is enough for the programs then
    runs, starved = [], True
    for slack_ms in (400, 2400):
        begun, waited = time.monotonic(), waited_s()
        runs.append(measure(speech[:96_000], speech_codec, slack_ms=slack_ms))
        if good(runs[-1], slack_ms):
            return
        starved = starved and waited_s() - waited > 0.25 * (time.monotonic() - begun)
    # Virtual sound cards are programs too. Where programs waited for a processor, what they dropped says nothing of what is tested here.
    if starved:
        pytest.skip(f"this machine is too busy for virtual sound cards, which play in real time: {runs}")
    raise AssertionError(f"nothing whole was heard in any of {runs}")
