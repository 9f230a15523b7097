"""Of a run of quiet packets few are sent, never one too few for who waits for a sign of life, and nothing else is ever left out."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamcodec.protocol import QUIET_EVERY_S, SILENCE, DtxFilter, Gap, PauseMemory, PayloadLayout


def sent(packets, duration_s=0.08):
    """Which of the packets are sent: "." is quiet, "#" is not, "|" begins a run."""
    thinner, numbers, number = DtxFilter(), [], 0
    for packet in packets:
        if packet == "|":
            thinner.restart()
            continue
        if not thinner.leaves_out(packet == ".", duration_s):
            numbers.append(number)
        number += 1
    return numbers


def test_of_a_run_the_first_is_sent_and_then_one_every_0_8_s():
    assert sent("##" + 25 * "." + "##") == [0, 1, 2, 12, 22, 27, 28]


def test_each_run_begins_with_one_that_is_sent():
    assert sent("#..#..|..#") == [0, 1, 3, 4, 6, 8]


@pytest.mark.parametrize("frames", range(1, 26))
def test_whatever_the_packet_one_is_sent_in_time(frames):
    duration_s = frames / 75
    numbers = sent(400 * ".", duration_s)
    intervals = [(b - a) * duration_s for a, b in pairwise(numbers)]
    assert len(set(numbers)) == len(numbers) and min(intervals) == pytest.approx(max(intervals))
    assert QUIET_EVERY_S - duration_s < max(intervals) <= QUIET_EVERY_S + 1e-6


@given(st.text("#.|", max_size=200))
def test_nothing_but_quiet_packets_is_left_out(packets):
    plain = packets.replace("|", "")
    kept = set(sent(packets))
    assert all(i in kept for i, packet in enumerate(plain) if packet == "#")
    assert all(i in kept for i, packet in enumerate(plain) if packet == "." and (i == 0 or plain[i - 1] == "#"))


@pytest.mark.parametrize(
    ("n_q", "most", "bits", "quiet"),
    [(1, 8, 10, True), (2, 8, 10, False), (1, 1, 10, False), (0, 8, 10, False), (8, 8, 10, False), (2, 8, 6, True), (2, 2, 6, False)],
)
def test_a_packet_with_as_few_codebooks_as_can_be_packed_stands_for_silence_where_more_are_possible(n_q, most, bits, quiet):
    assert PayloadLayout(bits).is_quiet(n_q, most) is quiet
    assert not PayloadLayout(bits, chunked=True).is_quiet(n_q, most)


@pytest.mark.parametrize(
    ("first", "second", "both"),
    [(SILENCE, SILENCE, SILENCE), (SILENCE, "uplink", "uplink"), ("uplink", SILENCE, "uplink"), ("overload", "uplink", "uplink")],
)
def test_a_gap_of_silence_and_of_a_loss_in_one_place_is_a_loss(first, second, both):
    joined = Gap(first_seq=3, count=2, reason=first).joined(Gap(first_seq=5, count=4, reason=second))
    assert joined == Gap(first_seq=3, count=6, reason=both)


def test_behind_a_quiet_packet_the_last_ones_stand_for_those_that_were_left_out():
    pause = PauseMemory()
    assert pause.packet("loud", False) == []
    assert [pause.packet(name, True) for name in "ab"] == [[], []]
    pause.gap(4, SILENCE)
    again = pause.packet("c", True)
    assert len(again) == 4 and set(again) == set("abc")
    pause.gap(1_000_000, SILENCE)
    again = pause.packet("d", True)
    assert len(again) == 10 and set(again) == set("abcd")


@pytest.mark.parametrize("reason", ["overload", "uplink"])
def test_nothing_stands_for_what_was_lost_and_nothing_is_done_before_speech(reason):
    pause = PauseMemory()
    pause.packet("a", True)
    pause.gap(3, reason)
    assert pause.packet("b", True) == []
    pause.gap(3, SILENCE)
    assert pause.packet("loud", False) == []
    assert pause.packet("c", True) == []
