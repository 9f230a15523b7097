"""A publisher's time: each packet has that of its first sample, runs follow one another, and what is missing is counted in packets."""

import pytest

from streamcodec.server.ingest.timeline import EncoderRun, Timeline, WaitMeter


def test_a_run_counts_what_is_fed_and_what_comes_out():
    run = EncoderRun(begins_s=3.0)
    assert run.next_timestamp is None
    run.add(0.2, 1_000_000)
    assert (run.ends_s, run.backlog_s, run.next_timestamp) == (3.2, 0.2, 1_200_000)
    assert run.take(0.08) == 1_000_000
    assert run.take(0.08) == 1_080_000
    assert run.backlog_s == pytest.approx(0.04)


def test_the_timestamp_of_the_latest_message_that_has_begun_counts():
    run = EncoderRun()
    run.add(0.08, 0)
    run.add(0.08, 85_000)
    assert [run.take(0.08), run.take(0.08)] == [0, 85_000]


def test_a_packet_that_begins_within_a_message_is_as_much_later():
    run = EncoderRun()
    run.add(0.1, 0)
    run.add(0.1, 103_000)
    assert [run.take(0.08), run.take(0.08)] == [0, 80_000]


def test_runs_follow_one_another_and_only_the_last_one_is_fed():
    timeline = Timeline(0.08)
    timeline.add(0.08, 0)
    timeline.begin_run(0.24, "overload")
    assert timeline.next_timestamp is None
    timeline.add(0.08, 400_000)
    assert timeline.backlog_s == pytest.approx(0.16)
    assert timeline.take(0.08) == 0
    over, following = timeline.end_run()
    assert over.backlog_s == pytest.approx(0)
    assert (following.begins_s, following.reason) == (pytest.approx(0.32), "overload")
    assert timeline.missing_before(following.begins_s) == 3
    assert timeline.take(0.08) == 400_000
    assert timeline.end_run()[1] is None


def test_what_is_missing_is_counted_once_and_a_short_packet_as_one():
    timeline = Timeline(0.08)
    timeline.add(0.1, 0)
    timeline.take(0.08)
    timeline.take(0.02)
    assert timeline.missing_before(0.1) == 0
    assert timeline.missing_before(0.4) == 3
    assert timeline.missing_before(0.4) == 0


def test_a_packet_waits_from_the_message_that_made_it_whole():
    waits = WaitMeter(0.08)
    waits.feed(0.05, 1_000_000)
    assert waits.waited_s(9_000_000) == 0.0, "half of a packet waits for its other half"
    waits.feed(0.05, 2_000_000)
    waits.feed(0.05, 3_000_000)
    assert waits.waited_s(5_000_000) == 3.0
    waits.done(0.08)
    assert waits.waited_s(5_000_000) == 0.0
    waits.feed(0.05, 4_000_000)
    assert waits.waited_s(5_000_000) == 1.0
