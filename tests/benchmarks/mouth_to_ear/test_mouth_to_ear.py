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
from benchmarks.mouth_to_ear.hearing import delays
from benchmarks.mouth_to_ear.stalls import Stalls, of_stalls
from benchmarks.mouth_to_ear.virtual_sound import RATE, missing_programs

PRESSURE = Path("/proc/pressure/cpu")


def waited_s() -> float:
    """For how long programs of this machine have waited for a processor since it started, as Linux counts; 0 where it does not."""
    return int(PRESSURE.read_text().split("total=")[1].split()[0]) / 1e6 if PRESSURE.exists() else 0.0


def good(run: MouthToEar, slack_ms: float) -> bool:
    """Whether nothing was lost and one and a half of the four seconds, which hold pauses, came out as the offline codec makes them."""
    return run.lost == 0 and run.intact_s >= 1.5 and 80 < run.delay_ms < 850 + slack_ms


def heard_later(told: npt.NDArray[np.float32], *delays_s: float) -> npt.NDArray[np.float32]:
    """`told` in as many equal parts as there are delays, each part heard so much later."""
    heard = np.zeros(len(told) + RATE, np.float32)
    for part, delay_s in zip(np.array_split(np.arange(len(told)), len(delays_s)), delays_s, strict=True):
        heard[part + round(delay_s * RATE)] = told[part]
    return heard


@pytest.mark.parametrize("offset_s", [-0.3, 0.0, 0.2])
def test_the_delay_of_each_ten_seconds_is_found_also_of_a_clip_that_repeats(speech: npt.NDArray[np.float32], offset_s: float) -> None:
    told = np.resize(np.repeat(speech[:72_000], 2), 30 * RATE)  # three seconds, ten times
    heard = heard_later(told, 0.1, 0.14, 0.09)
    # The second recording began `offset_s` after the first one.
    recorded = heard[round(offset_s * RATE) :] if offset_s > 0 else np.pad(heard, (round(-offset_s * RATE), 0))
    found = delays(told, recorded, offset_s, latest_s=1.0)
    assert [delay for delay, _ in found] == pytest.approx([0.1, 0.14, 0.09], abs=1e-3)
    assert min(correlation for _, correlation in found) > 0.9


def test_a_pause_has_no_delay() -> None:
    assert delays(np.zeros(10 * RATE, np.float32), np.zeros(10 * RATE, np.float32), 0.0, 1.0) == []


def test_what_comes_during_a_stall_of_the_machine_or_right_after_it_is_one_of_it() -> None:
    stalls = [(10.0, 0.04), (20.0, 0.02)]  # their ends and their lengths
    assert of_stalls([9.95, 9.97, 10.1, 10.3, 20.19, 20.21], stalls) == 3
    assert of_stalls([10.0], []) == 0


def test_stalls_are_told_with_their_ends_and_lengths_or_not_at_all() -> None:
    begun = time.monotonic()
    with Stalls() as stalls:
        time.sleep(0.2)
    over = time.monotonic()
    # None where this user may not ask for a real-time priority.
    assert stalls.found is None or all(begun < end_s < over and 0.01 <= length_s < over - begun for end_s, length_s in stalls.found)


@needs(without="virtual sound cards (pulseaudio, pulseaudio-utils and libasound2-plugins)" if missing_programs() else None)
def test_speech_goes_from_a_virtual_mouth_to_a_virtual_ear_and_comes_out_as_the_offline_codec_makes_it(
    speech_codec: streamcodec.Codec, speech: npt.NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not missing_programs()
    monkeypatch.setenv("STREAMCODEC_ENGINE", "openvino")  # half a core is enough for the programs then
    runs, starved = [], True
    for slack_ms in (400, 2400):
        begun, waited = time.monotonic(), waited_s()
        runs.append(measure(speech[:96_000], speech_codec, slack_ms=slack_ms, serve=["--capacity", "off"]))
        if good(runs[-1], slack_ms):
            return
        starved = starved and waited_s() - waited > 0.25 * (time.monotonic() - begun)
    # Virtual sound cards are programs too. Where programs waited for a processor, what they dropped says nothing of what is tested here.
    if starved:
        pytest.skip(f"this machine is too busy for virtual sound cards, which play in real time: {runs}")
    raise AssertionError(f"nothing whole was heard in any of {runs}")
