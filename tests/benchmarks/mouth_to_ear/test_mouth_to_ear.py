"""A whole mouth-to-ear run through sound devices: the real programs on PortAudio, with virtual sound cards behind it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from programs import needs

import streamcodec
from benchmarks.mouth_to_ear.benchmark import measure
from benchmarks.mouth_to_ear.virtual_sound import missing_programs


@needs(without="virtual sound cards (pulseaudio, pulseaudio-utils and libasound2-plugins)" if missing_programs() else None)
def test_speech_goes_from_a_virtual_mouth_to_a_virtual_ear_and_stays_as_intelligible_as_offline(
    speech_codec: streamcodec.Codec, speech: npt.NDArray[np.float32]
) -> None:
    assert not missing_programs()
    # A virtual sound card is a program too, and a busy machine may starve it: that says nothing of what is tested here.
    for slack_ms in (150, 300, 600, 1200, 2400):
        run = measure(speech, speech_codec, slack_ms=slack_ms)
        if not run.underruns:
            break
    assert run.lost == 0
    assert run.stoi >= 0.95
    assert 80 < run.delay_ms < 850 + slack_ms
