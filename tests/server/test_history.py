"""What is kept of a stream has a bound, whatever its publisher sends."""

import pytest

from streamcodec.protocol import Gap, Packet
from streamcodec.server.history import History


def packet(seq):
    return Packet(seq, 0, 0, 2, b"x" * 15)


def test_a_publisher_that_sends_gaps_for_ever_fills_nothing():
    history = History(keep_s=10.0, frame_rate=75)
    history.add(packet(0), 6)
    for i in range(10_000):
        history.gap(Gap(first_seq=1 + 3 * i, count=3, reason="uplink" if i % 2 else "publisher"))
    assert len(history._entries) == 2
    assert history.since(0, 30_001) == [(packet(0), 6), (Gap(first_seq=1, count=30_000, reason="uplink"), 0)]


@pytest.mark.parametrize("seq", [1, 2, 3, 5])
def test_who_had_heard_of_some_gaps_is_told_of_the_rest(seq):
    history = History(keep_s=10.0, frame_rate=75)
    history.add(packet(0), 6)
    for first in (1, 3, 5):
        history.gap(Gap(first_seq=first, count=2, reason="uplink"))
    history.add(packet(7), 6)
    assert history.since(seq, 8) == [(Gap(first_seq=seq, count=7 - seq, reason="uplink"), 0), (packet(7), 6)]
    assert history.recent(1.0) == [(packet(7), 6)]
