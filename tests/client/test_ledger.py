"""The ledger tells each packet's way in a line, and the last packets' percentiles."""

import json

import pytest

from streamcodec.audio import PlayoutStats
from streamcodec.client.ledger import Ledger, PacketTimes
from streamcodec.errors import InputError

STATS = PlayoutStats(
    target_s=0.025,
    margin_s=0.03,
    buffered_s=0.1,
    underruns=2,
    jumps=0,
    dropped_s=0,
    shortened_s=0,
    lengthened_s=0,
    steering=0,
    late_s=0.005,
)


def test_a_line_says_what_each_stage_took_and_their_sum(tmp_path):
    path = tmp_path / "ledger.jsonl"
    with Ledger(path) as ledger:
        ledger.add(PacketTimes(7, captured=1_000_000, received=1_012_000, decoded=1_015_500, buffered_s=0.04, device_s=0.01), STATS)
        ledger.add(PacketTimes(8, captured=1_080_000, received=1_090_000, decoded=1_091_000, buffered_s=0.0))
    first, second = map(json.loads, path.read_text().splitlines())
    assert first == {
        "seq": 7,
        "captured_us": 1_000_000,
        "arrival_ms": 12.0,
        "decode_ms": 3.5,
        "buffered_ms": 40.0,
        "device_ms": 10.0,
        "total_ms": 55.5,
        "target_ms": 25.0,
        "margin_ms": 30.0,
        "underruns": 2,
    }
    assert second["total_ms"] == second["arrival_ms"] + second["decode_ms"] == 11.0
    assert second["target_ms"] is second["margin_ms"] is second["underruns"] is None


def test_a_line_of_a_publisher_says_how_long_its_own_side_took(tmp_path):
    path = tmp_path / "ledger.jsonl"
    with Ledger(path) as ledger:
        ledger.add_sent(7, captured=1_000_000, sent=1_012_500, round_trip_ms=3.5)
        ledger.add_sent(8, captured=1_080_000, sent=1_090_000, round_trip_ms=None)
        assert ledger.percentiles() == pytest.approx((11.25, 12.375, 12.475))
    first, second = map(json.loads, path.read_text().splitlines())
    assert first == {"seq": 7, "captured_us": 1_000_000, "sent_ms": 12.5, "round_trip_ms": 3.5}
    assert second == {"seq": 8, "captured_us": 1_080_000, "sent_ms": 10.0, "round_trip_ms": None}


def test_percentiles_are_of_the_last_packets_only():
    ledger = Ledger()
    assert ledger.percentiles() == (0.0, 0.0, 0.0)
    for seq in range(1_000):
        ledger.add(PacketTimes(seq, 0, 0, 500_000 if seq < 500 else 1_000 * (seq % 128), 0.0))
    assert ledger.percentiles() == pytest.approx((63.5, 120.7, 125.7), abs=1)


def test_a_ledger_that_cannot_be_written_says_so_at_once(tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        Ledger(tmp_path / "nowhere" / "ledger.jsonl")
