"""What is kept of a stream has a bound, whatever its publisher sends."""

import pytest

from streamcodec.protocol import SILENCE, Gap, Packet
from streamcodec.server.fanout.replay import ReplayBuffer


def packet(seq):
    return Packet(seq, 0, 0, 2, b"x" * 15)


def test_a_publisher_that_sends_endless_gaps_does_not_fill_the_queue():
    history = ReplayBuffer(10.0, 75, lambda _: 6)
    history.add(packet(0))
    for i in range(10_000):
        history.gap(Gap(first_seq=1 + 3 * i, count=3, reason="uplink" if i % 2 else "publisher"))
    assert len(history._entries) == 2
    assert history.since(0, 30_001) == [packet(0), Gap(first_seq=1, count=30_000, reason="uplink")]


@pytest.mark.parametrize("seq", [1, 2, 3, 5])
def test_a_listener_that_knew_some_gaps_is_told_of_the_rest(seq):
    history = ReplayBuffer(10.0, 75, lambda _: 6)
    history.add(packet(0))
    for first in (1, 3, 5):
        history.gap(Gap(first_seq=first, count=2, reason="uplink"))
    history.add(packet(7))
    assert history.since(seq, 8) == [Gap(first_seq=seq, count=7 - seq, reason="uplink"), packet(7)]
    assert history.recent(1.0) == [packet(7)]


def silence(first, count):
    return Gap(first_seq=first, count=count, reason=SILENCE)


def a_pause():
    """A loud packet, a pause of four that were sent and nine left out between each two, and what its publisher has left out since."""
    history = ReplayBuffer(10.0, 75, lambda _: 6)
    entries = [packet(0)]
    for first in (1, 11, 21, 31):
        entries += [packet(first), silence(first + 1, 9)]
    for entry in entries:
        history.gap(entry) if isinstance(entry, Gap) else history.add(entry)
    return history, entries


@pytest.mark.parametrize(("seconds", "begins"), [(0.0, 9), (0.08, 7), (0.16, 5), (0.2, 3), (1.0, 0)])
def test_a_pause_does_not_end_the_history_of_who_comes_later(seconds, begins):
    history, entries = a_pause()
    assert history.recent(seconds) == entries[begins:]


def test_a_lost_packet_makes_a_loss_although_silence_was_left_out_in_the_same_place():
    history, _ = a_pause()
    history.gap(Gap(first_seq=41, count=1, reason="uplink"))
    assert history.recent(1.0) == []
    history.add(packet(42))
    history.gap(silence(43, 2))
    assert history.recent(1.0) == [packet(42), silence(43, 2)]


@pytest.mark.parametrize("seq", [1, 2, 5, 11, 12, 35, 40])
def test_a_listener_that_lost_its_connection_in_a_pause_is_told_what_was_left_out_after_its_last_packet(seq):
    history, entries = a_pause()
    found = history.since(seq, 41)
    first = found[0]
    assert (first.first_seq if isinstance(first, Gap) else first.seq) == seq
    assert found[1:] == entries[len(entries) - len(found) + 1 :]
