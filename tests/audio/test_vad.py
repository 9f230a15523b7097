"""A packet is quiet if all its parts are, and long enough after the last loud part, for any sizes of the blocks."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamcodec.audio import SILENCE_DB, SilenceDetector
from streamcodec.audio.dsp.vad import QuietPackets, SilenceState
from streamcodec.config import CodecConfig
from streamcodec.errors import InputError, SnapshotError

RATE = 24_000
PACKET = 1_920


def level(db, samples, rate=RATE):
    """A tone whose RMS is `db` dBFS over any 10 ms."""
    return (math.sqrt(2) * 10 ** (db / 20) * np.sin(2 * np.pi * 200 * np.arange(samples) / rate)).astype(np.float32)


def decisions(detector, *parts):
    """The decisions about all whole packets of `parts`."""
    sound = np.concatenate(parts)
    detector.feed(sound)
    return [detector.next_is_quiet() for _ in range(len(sound) // PACKET)]


@pytest.mark.parametrize("threshold", [-120.0, SILENCE_DB, -30, 0])
def test_what_is_below_the_threshold_is_quiet_and_what_is_not_is_loud(threshold):
    detector = SilenceDetector(PACKET, threshold, hangover_s=0)
    assert decisions(detector, level(threshold - 0.1, PACKET), level(threshold + 0.1, PACKET)) == [True, False]


def test_a_stream_that_begins_in_silence_is_quiet_at_once():
    assert decisions(SilenceDetector(PACKET), np.zeros(2 * PACKET, np.float32)) == [True, True]


def test_a_word_s_soft_end_is_loud_for_the_hangover():
    detector = SilenceDetector(PACKET, hangover_s=0.3)
    assert decisions(detector, level(-20, PACKET), level(-60, 6 * PACKET)) == [False] * 4 + [False, True, True]
    detector = SilenceDetector(PACKET, hangover_s=0.27)
    # The hangover counts from the last part that was loud: here the second of four.
    assert decisions(detector, level(-20, 960), level(-60, 960 + 5 * PACKET)) == [False] * 4 + [True, True]


def test_a_hangover_begins_anew_with_each_loud_part():
    detector = SilenceDetector(PACKET, hangover_s=0.1)
    quiet, loud = level(-60, PACKET), level(-20, PACKET)
    assert decisions(detector, loud, quiet, quiet, quiet, loud, quiet, quiet, quiet) == [False] * 3 + [True] + [False] * 3 + [True]


@pytest.mark.parametrize("at", [0, 479, 960, 1900])
def test_a_click_that_would_drown_in_a_whole_packet_makes_it_loud(at):
    packet = np.zeros(PACKET, np.float32)
    packet[at] = 0.1
    assert 20 * np.log10(np.sqrt(np.mean(packet**2))) < -50
    assert decisions(SilenceDetector(PACKET), packet) == [False]


@pytest.mark.parametrize("frames", range(1, 26))
def test_parts_of_any_packet_are_10_to_20_ms_long(frames):
    size = 320 * frames
    edges = SilenceDetector(size)._edges
    lengths = np.diff([*edges, size]) / RATE
    assert edges[0] == 0
    assert 0.01 <= lengths.min() <= lengths.max() <= 0.02 + 1 / RATE


def test_a_packet_shorter_than_a_part_is_one():
    assert list(SilenceDetector(100)._edges) == [0]


def test_the_last_packet_is_judged_by_what_there_is_of_it():
    detector = SilenceDetector(PACKET, hangover_s=0)
    for rest, quiet in ((level(-60, 700), True), (level(-20, 50), False), (level(-20, 700), False)):
        detector.feed(level(-60, PACKET))
        detector.feed(rest)
        assert [detector.next_is_quiet(), detector.next_is_quiet()] == [True, quiet]
        detector.reset()


def test_a_new_run_is_independent_of_the_last_one():
    detector = SilenceDetector(PACKET)
    detector.feed(level(-20, PACKET + 500))
    detector.reset()
    assert decisions(detector, np.zeros(PACKET, np.float32)) == [True]
    with pytest.raises(InputError, match="before any of its samples was fed"):
        detector.next_is_quiet()


@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38])
def test_nan_infinity_and_absurd_values_are_loud(value):
    packet = np.zeros(PACKET, np.float32)
    packet[100] = value
    assert decisions(SilenceDetector(PACKET), packet) == [False]


def test_a_caller_may_reuse_its_block():
    detector = SilenceDetector(PACKET)
    block = np.zeros(PACKET - 1, np.float32)
    detector.feed(block)
    block[:] = 1
    detector.feed(np.zeros(1, np.float32))
    assert detector.next_is_quiet()


@given(
    st.lists(st.tuples(st.integers(0, 3_000), st.sampled_from([-90.0, -51.0, -50.0, -49.0, -20.0])), max_size=12),
    st.lists(st.tuples(st.integers(0, 5_000), st.integers(0, 3)), max_size=12),
)
def test_the_decisions_do_not_depend_on_the_block_sizes(parts, blocks):
    """... nor on when the caller asks: after each whole packet, or for all at the end."""
    rng = np.random.default_rng(len(parts))
    sound = np.concatenate([np.zeros(0), *(10 ** (db / 20) * rng.normal(size=size) for size, db in parts)]).astype(np.float32)
    at_once = SilenceDetector(PACKET, hangover_s=0.1)
    at_once.feed(sound)
    packets = -(-len(sound) // PACKET)
    expected = [at_once.next_is_quiet() for _ in range(packets)]
    blockwise, at, found = SilenceDetector(PACKET, hangover_s=0.1), 0, []
    for size, asks in [*blocks, (len(sound), 0)]:
        blockwise.feed(sound[at : at + size])
        at = min(at + size, len(sound))
        found += [blockwise.next_is_quiet() for _ in range(min(asks, at // PACKET - len(found)))]
    found += [blockwise.next_is_quiet() for _ in range(packets - len(found))]
    assert found == expected


@pytest.mark.parametrize(
    ("options", "culprit"),
    [
        ({"packet_samples": 0}, "packet_samples is 0"),
        ({"rate": 0}, "rate 0"),
        ({"threshold_db": math.nan}, "threshold_db is nan"),
        ({"threshold_db": "-50"}, "threshold_db is '-50'"),
        ({"hangover_s": -1}, "hangover_s -1"),
    ],
)
def test_invalid_arguments_are_refused_by_name(options, culprit):
    with pytest.raises(InputError, match=f"{culprit}.*, expected"):
        SilenceDetector(**{"packet_samples": PACKET, **options})


@given(st.lists(st.tuples(st.integers(0, 3_000), st.sampled_from([-80.0, -20.0])), max_size=20))
def test_a_detector_that_goes_on_from_another_s_state_after_each_block_decides_the_same(parts):
    stays, found, fed = SilenceDetector(PACKET, hangover_s=0.1), [], 0
    for size, db in parts:
        stays.feed(level(db, size))
        fed += size
    expected = [stays.next_is_quiet() for _ in range(fed // PACKET)]
    moves, fed = SilenceDetector(PACKET, hangover_s=0.1), 0
    for size, db in parts:
        moves.feed(level(db, size))
        fed += size
        saved, moves = moves.snapshot(), SilenceDetector(PACKET, hangover_s=0.1)
        moves.restore(saved)
        if fed // PACKET > len(found):
            found.append(moves.next_is_quiet())
    found += [moves.next_is_quiet() for _ in range(fed // PACKET - len(found))]
    assert found == expected


def test_a_detector_s_state_that_does_not_fit_is_refused():
    nothing = np.zeros(0, np.float32)
    for saved in (
        SilenceState((), np.zeros(PACKET, np.float32), 0.0),
        SilenceState((), nothing, math.nan),
        SilenceState((), nothing, -1.0),
    ):
        with pytest.raises(SnapshotError, match="detector of silence"):
            SilenceDetector(PACKET).restore(saved)
    for threshold, saved in ((None, SilenceState((), nothing, 0.0)), (-50.0, None)):
        with pytest.raises(SnapshotError, match="with this threshold"):
            QuietPackets(CodecConfig(), 6, threshold).restore(saved)
