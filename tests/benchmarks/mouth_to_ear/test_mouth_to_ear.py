"""A whole mouth-to-ear run through sound devices: the real programs on PortAudio, with virtual sound cards behind it."""

from __future__ import annotations

import os

import numpy as np
import numpy.typing as npt
import pytest

import streamcodec
from benchmarks.mouth_to_ear.benchmark import measure
from benchmarks.mouth_to_ear.virtual_sound import missing_programs


@pytest.mark.skipif(
    bool(missing_programs()) and not os.environ.get("CI"),
    reason="virtual sound cards need pulseaudio, pulseaudio-utils and libasound2-plugins; where CI is set this is a failure",
)
def test_speech_goes_from_a_virtual_mouth_to_a_virtual_ear_and_stays_as_intelligible_as_offline(
    speech_codec: streamcodec.Codec, speech: npt.NDArray[np.float32]
) -> None:
    assert not missing_programs()
    run = measure(speech, speech_codec, slack_ms=150)
    if run.underruns:
        # A virtual sound card is a program too, and a busy machine may starve it: that says nothing of what is tested here.
        run = measure(speech, speech_codec, slack_ms=300)
    assert run.lost == 0
    assert run.stoi >= 0.95
    assert 80 < run.delay_ms < 1000
