"""The benchmark of silence: its talks and rooms, its measures on sounds whose answer is known, and a tiny run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from tiny_benchmark import files_of, run_tiny

from benchmarks.dtx import render as dtx
from benchmarks.dtx.figures import figures_of, spectral_distance
from benchmarks.dtx.talks import Sent, noise, send, talk, utterances, wire_bytes
from streamcodec.codec import Codec

TINY = ["--noise-db", "-55", "--bandwidth", "3", "--seconds", "5"]
RATE = 24_000
PACKET = 1_920

Samples = npt.NDArray[np.float32]


def sounding(packets: str) -> Sent:
    """A talk of noise that arrives as it was, of quiet (".") and other ("#") packets."""
    rng = np.random.default_rng(0)
    level = np.repeat([0.001 if packet == "." else 0.1 for packet in packets], PACKET)
    sound = (level * rng.standard_normal(len(level))).astype(np.float32)
    quiet = np.array([packet == "." for packet in packets])
    sizes = np.stack([np.full(len(packets), 60), np.where(quiet, 8, 60)])
    return Sent(sound, sound, sound, quiet, ~quiet, sizes, sizes + 12, sizes + 54, PACKET, RATE)


# Talks -------------------------------------------------------------------------------------------------------------------------------


def test_a_talk_is_its_utterances_and_silence_behind_each(speech: Samples) -> None:
    clips = utterances(speech, RATE)
    np.testing.assert_array_equal(np.concatenate(clips), speech)
    assert 3 <= len(clips) <= 5
    sound = talk(clips, RATE, seed=0)
    silent = len(sound) - len(speech)
    assert 0.6 * len(clips) <= silent / RATE <= 10 * len(clips)
    assert not sound[-round(0.6 * RATE) :].any()
    np.testing.assert_array_equal(sound, talk(clips, RATE, seed=0))
    assert len(sound) != len(talk(clips, RATE, seed=1))


def test_a_room_has_its_level_and_as_much_power_in_each_octave() -> None:
    room = noise(20 * RATE, RATE, -55.0, seed=1)
    assert 10 * np.log10(np.mean(room.astype(np.float64) ** 2)) == pytest.approx(-55, abs=0.01)
    power = np.abs(np.fft.rfft(room)) ** 2
    frequency = np.fft.rfftfreq(len(room), 1 / RATE)
    octaves = [power[(frequency >= low) & (frequency < 2 * low)].sum() for low in (40, 80, 160, 1280, 5120)]
    assert max(octaves) / min(octaves) < 1.5
    assert not np.array_equal(room, noise(20 * RATE, RATE, -55.0, seed=2))


def test_what_is_sent_is_thinned_in_the_pauses_only(codec: Codec, speech: Samples) -> None:
    sound = talk([speech[24_000:48_000], speech[48_000:72_000]], RATE, seed=0)
    sent = send(codec, sound, 6.0, 6, -50.0)
    assert len(sent.every) == len(sent.fewer) == len(sound)
    first, _ = sent.pauses[0]
    np.testing.assert_array_equal(sent.every[: first * PACKET], sent.fewer[: first * PACKET])
    assert (sent.every[first * PACKET :] != sent.fewer[first * PACKET :]).any()
    assert not sound[: -1 * PACKET][np.repeat(sent.quiet, PACKET)[: len(sound) - PACKET]].any()
    assert set(sent.payload[0][:-1]) == {60}
    np.testing.assert_array_equal(sent.payload[1][:-1] == 60, ~sent.quiet[:-1])
    np.testing.assert_array_equal(sent.payload[1][:-1] > 0, sent.sent[:-1])
    overhead = sent.message - sent.payload
    assert ((overhead[0] > 5) & (overhead[0] <= 20)).all()
    # Where packets were left out there is a gap, at the last place.
    behind = np.flatnonzero(~sent.sent & np.append(sent.sent[1:], True))
    assert ((sent.message[1][behind] > 35) & (sent.message[1][behind] < 50)).all()
    assert sent.message[1][~sent.sent].sum() == sent.message[1][behind].sum()
    np.testing.assert_array_equal(sent.wire[sent.message > 0], sent.message[sent.message > 0] + 42)
    assert all(sent.sent[first] and not sent.sent[first + 1 : min(end, first + 10)].any() for first, end in sent.pauses[:-1])
    assert [end for _, end in sent.pauses[:-1]] == [first for first, _ in sent.returns]


@pytest.mark.parametrize(("message", "wire"), [(20, 62), (125, 167), (126, 170)])
def test_a_message_on_the_wire_has_its_headers_before_it(message: int, wire: int) -> None:
    assert wire_bytes(message) == wire


# Measures ----------------------------------------------------------------------------------------------------------------------------


def test_a_sound_is_at_no_distance_from_itself_and_half_of_it_at_6_db() -> None:
    sound = noise(RATE, RATE, -20.0, seed=1)
    assert spectral_distance(sound, sound) == 0
    assert spectral_distance(sound, sound / 2) == pytest.approx(6.02, abs=0.05)


def test_what_nobody_hears_is_no_distance() -> None:
    assert spectral_distance(np.zeros(RATE, np.float32), noise(RATE, RATE, -110.0, seed=1)) < 0.3


def test_where_nothing_changes_there_is_no_step_and_no_error() -> None:
    row = figures_of(None, [sounding("###....##..###")], 0)
    assert (row["pauses"], row["returns"]) == (2, 2)
    assert row["quiet_share"] == pytest.approx(6 / 14)
    assert row["bytes"] == {"payload": [60, 8], "message": [72, 20], "wire": [114, 62]}
    assert (row["sent_share"], row["comfort_db"]) == (0, None)
    for name in ("difference_db", "step_in_db", "step_out_db", "back_ms"):
        assert {row[name]["least"], row[name]["most"]} == {0.0}
    assert row["snr_db"]["least"] == 120
    assert row["below_share"] == 0
    assert row["distance_db_fewer_every"] == 0


def test_a_quieter_pause_is_a_step_down_and_one_up_again() -> None:
    sent = sounding("###....###")
    thinned = sent.fewer.copy()
    thinned[3 * PACKET : 7 * PACKET] /= 2
    row = figures_of(None, [replace(sent, fewer=thinned)], 0)
    assert row["difference_db"]["mean"] == pytest.approx(-6.02, abs=0.05)
    assert row["step_in_db"]["mean"] == pytest.approx(-6.02, abs=0.05)
    assert row["step_out_db"]["mean"] == pytest.approx(6.02, abs=0.05)
    assert row["below_share"] == 0


def test_comfort_noise_is_measured_against_the_packets_that_were_sent() -> None:
    sent = sounding("##.....##....")
    thinned = sent.fewer.copy()
    thinned[3 * PACKET : 7 * PACKET] = np.tile(2 * thinned[2 * PACKET : 3 * PACKET], 4)
    came = sent.sent.copy()
    came[2] = True
    row = figures_of(None, [replace(sent, sent=came, fewer=thinned)], 0)
    assert row["comfort_db"]["mean"] == pytest.approx(6.02, abs=0.05)
    assert row["sent_share"] == pytest.approx(1 / 9)


def test_what_the_decoder_remembers_is_told_by_how_much_and_how_long() -> None:
    sent = sounding("###....######")
    remembered = sent.fewer.copy()
    # 20 dB below for 100 ms, then 40 dB below.
    begin, back = 7 * PACKET, 7 * PACKET + 2_400
    remembered[begin:back] *= 1.1
    remembered[back:] *= 1.01
    row = figures_of(None, [replace(sent, fewer=remembered)], 0)
    assert row["back_ms"]["most"] == 100
    assert row["snr_first_db"]["least"] == pytest.approx(20, abs=0.1)
    assert row["snr_db"]["median"] == pytest.approx(40, abs=0.1)
    assert row["below_share"] == pytest.approx(5 / 24)
    assert row["behind_db"]["worst"][4:6] == pytest.approx([20, 40], abs=0.1)
    assert row["behind_db"]["worst"][-1] is None, "nobody speaks there any more"


def test_a_talk_without_pauses_has_nothing_to_tell_and_says_so() -> None:
    row = figures_of(None, [sounding("#####")], 0)
    assert (row["pauses"], row["bytes"], row["snr_db"], row["below_share"]) == (0, None, None, None)
    figures = {"model": "m", "kbps": 6.0, "n_q": 8, "quiet_n_q": 1, "packet_ms": 80.0, "silence_db": -50.0, "talks": 1, "corpus": False}
    text = dtx.render(
        {
            **figures,
            "pause_s": [1, 2],
            "every_s": 0.8,
            "tcp_ip_bytes": 40,
            "wanted_db": 30.0,
            "speech_db": -40.0,
            "rows": [row],
            "trace": None,
        }
    )
    assert "No packet was quiet. As recorded 0% of the packets are quiet, which saves 0% on the wire." in text


def test_a_tiny_run_writes_a_section_that_its_figures_say(tmp_path: Path) -> None:
    section = run_tiny("dtx", TINY, tmp_path, here=True)
    assert files_of(tmp_path) == {"dtx.json", "dtx.md", "dtx.png"}
    rows = section["figures"]["rows"]
    assert [row["noise_db"] for row in rows] == [None, -55]
    for row in rows:
        assert 0.2 < row["quiet_share"] < 0.9
        assert row["message_kbps"][1] < row["message_kbps"][0] < 6
        assert row["bytes"]["payload"] == pytest.approx([30, 1], abs=0.6)
        assert row["bytes"]["wire"][1] < 0.3 * row["bytes"]["wire"][0]
        assert abs(row["comfort_db"]["mean"]) < 1
