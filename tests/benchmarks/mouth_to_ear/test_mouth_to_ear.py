"""A whole mouth-to-ear run through sound devices: the real programs on PortAudio, with virtual sound cards behind it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from programs import needs

import streamcodec
from benchmarks.mouth_to_ear.benchmark import MouthToEar, measure
from benchmarks.mouth_to_ear.virtual_sound import missing_programs


def good(run: MouthToEar, slack_ms: float) -> bool:
    """Whether nothing was lost and half of the four seconds, with a pause or two in them, came out as the offline codec makes them."""
    return run.lost == 0 and run.intact_s >= 2.0 and 80 < run.delay_ms < 850 + slack_ms


@needs(without="virtual sound cards (pulseaudio, pulseaudio-utils and libasound2-plugins)" if missing_programs() else None)
def test_speech_goes_from_a_virtual_mouth_to_a_virtual_ear_and_comes_out_as_the_offline_codec_makes_it(
    speech_codec: streamcodec.Codec, speech: npt.NDArray[np.float32]
) -> None:
    assert not missing_programs()
    # Virtual sound cards are programs too: a busy machine starves them now and then, which says nothing of what is tested here.
    runs = []
    for slack_ms in (400, 1200, 2400):
        runs.append(measure(speech[:96_000], speech_codec, slack_ms=slack_ms))
        if good(runs[-1], slack_ms):
            return
    raise AssertionError(f"nothing whole was heard in any of {runs}")
