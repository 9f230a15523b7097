"""A subscriber's queue is bounded in seconds: the oldest packets go, a gap names exactly them, and everything else keeps its place."""

import pytest
from fanout_rig import PACKET_S, check_books, packet, start
from hypothesis import given
from hypothesis import strategies as st

from streamcodec.protocol import SILENCE, Gap, Packet, StreamEnd, StreamStart, Waiting
from streamcodec.server.fanout.queue import SubscriberQueue


class Rig:
    """A queue that holds `limit_s` of audio."""

    def __init__(self, limit_s=0.8, observer=None):
        self.queue = SubscriberQueue(observer)
        self.limit_s = limit_s

    def put(self, message, duration_s=0.0, **options):
        return self.queue.put(message, duration_s, 100.0, self.limit_s, **options)

    def drain(self):
        got = []
        while self.queue:
            got.append(self.queue.pop().message)
        return got


def test_what_is_put_comes_in_order():
    rig = Rig()
    messages = [Waiting(stream="alice"), start(0), packet(0), packet(1), StreamEnd(next_seq=2)]
    for message in messages:
        rig.put(message, PACKET_S if isinstance(message, Packet) else 0.0)
    assert rig.queue.queued_s == pytest.approx(0.16)
    assert rig.drain() == messages
    assert rig.queue.dropped == 0


def test_an_empty_queue_holds_no_seconds_however_many_were_added():
    rig = Rig()
    for seq in range(9):
        rig.put(packet(seq), PACKET_S)
    rig.drain()
    assert rig.queue.queued_s == 0.0
    assert not rig.queue


def test_beyond_the_bound_the_oldest_packets_become_one_gap_and_half_the_bound_stays():
    rig = Rig()
    for seq in range(11):
        rig.put(packet(seq), PACKET_S)
    got = rig.drain()
    assert got == [Gap(first_seq=0, count=6, reason="slow_listener"), *(packet(seq) for seq in range(6, 11))]
    assert rig.queue.dropped == 6


def test_what_a_listener_does_not_get_is_told_as_it_happens():
    told = []

    class Observer:
        def listener_dropped(self, packets):
            told.append(("dropped", packets))

        def listener_thinned(self, packets):
            told.append(("thinned", packets))

        def listener_stepped_down(self):
            told.append(("stepped down",))

    rig = Rig(observer=Observer())
    for seq in range(10):
        rig.put(packet(seq), PACKET_S)
    assert told == []
    rig.put(packet(10), PACKET_S)
    assert told == [("dropped", 6)]
    for seq in range(11, 14):
        rig.put(packet(seq), PACKET_S, quiet=True)
    assert told[1:] == [("thinned", 1)] * 2


def test_what_is_past_comes_on_top_of_the_bound_until_it_is_gone():
    rig = Rig()
    for seq in range(19):
        rig.put(packet(seq), PACKET_S, past=seq < 10)
    assert len(rig.drain()) == 19
    assert rig.queue.dropped == 0
    for seq in range(19, 30):
        rig.put(packet(seq), PACKET_S)
    assert rig.queue.dropped == 6


def test_dropping_again_extends_the_gap_that_is_still_waiting():
    rig = Rig()
    for seq in range(100):
        rig.put(packet(seq), PACKET_S)
    got = rig.drain()
    assert isinstance(got[0], Gap)
    assert sum(isinstance(message, Gap) for message in got) == 1
    assert check_books(got) == 100
    assert rig.queue.dropped == got[0].count


def test_control_messages_are_never_dropped_and_keep_their_place():
    rig = Rig(limit_s=0.4)
    rig.put(start(0))
    for seq in range(4):
        rig.put(packet(seq), PACKET_S)
    rig.put(Gap(first_seq=4, count=3, reason="overload"))
    rig.put(start(7, epoch=1))
    for seq in range(7, 40):
        rig.put(packet(seq, epoch=1), PACKET_S)
    rig.put(StreamEnd(next_seq=40))
    got = rig.drain()
    assert [type(message) for message in got[:4]] == [StreamStart, Gap, StreamStart, Gap]
    assert got[1] == Gap(first_seq=0, count=7, reason="slow_listener")
    assert isinstance(got[-1], StreamEnd)
    check_books(got)


@given(
    st.lists(st.sampled_from(["packet", "packet", "packet", "quiet", "quiet", "long", "gap", "silence", "epoch", "get"]), max_size=200),
    st.floats(0.1, 2.0),
)
def test_every_number_is_sent_or_named_by_a_gap_and_the_bound_holds_whatever_happens(actions, limit_s):
    rig = Rig(limit_s)
    seq = epoch = 0
    rig.put(start(0))
    got, put = [], 0
    for action in actions:
        if action in ("packet", "long", "quiet"):
            rig.put(packet(seq, epoch), 0.3 if action == "long" else PACKET_S, quiet=action == "quiet")
            seq, put = seq + 1, put + 1
        elif action in ("gap", "silence"):
            rig.put(Gap(first_seq=seq, count=2, reason=SILENCE if action == "silence" else "overload"))
            seq += 2
        elif action == "epoch":
            epoch += 1
            rig.put(start(seq, epoch % 256))
        elif rig.queue:
            got.append(rig.queue.pop().message)
        assert rig.queue.queued_s <= limit_s + 1e-9
    rig.put(StreamEnd(next_seq=seq))
    while rig.queue:
        got.append(rig.queue.pop().message)
    assert check_books(got) == seq
    assert sum(isinstance(m, StreamStart) for m in got) == epoch + 1
    assert sum(isinstance(m, Packet) for m in got) + rig.queue.dropped + rig.queue.thinned == put
    assert rig.queue.queued_s == 0.0


def test_of_a_pause_few_packets_are_put_and_what_is_left_out_is_named_right_before_what_comes_next():
    rig = Rig()
    for seq in range(25):
        rig.put(packet(seq), PACKET_S, quiet=3 <= seq < 22)
    got = rig.drain()
    assert [m.seq if isinstance(m, Packet) else (m.first_seq, m.count, m.reason) for m in got] == [
        *(0, 1, 2, 3, (4, 9, SILENCE), 13, (14, 8, SILENCE), 22, 23, 24)
    ]
    assert (rig.queue.dropped, rig.queue.thinned) == (0, 17)


@pytest.mark.parametrize(
    "message", [start(3, epoch=1), StreamEnd(next_seq=3), Gap(first_seq=3, count=2, reason="overload")], ids=lambda m: m.type
)
def test_every_message_that_needs_a_number_comes_after_the_gap_of_what_was_left_out(message):
    rig = Rig()
    for seq in range(3):
        rig.put(packet(seq), PACKET_S, quiet=True)
    assert len(rig.drain()) == 1, "of silence alone nothing is said"
    rig.put(message)
    assert rig.drain() == [Gap(first_seq=1, count=2, reason=SILENCE), message]


def test_what_a_publisher_has_left_out_itself_is_passed_on_as_it_is():
    rig = Rig()
    rig.put(packet(0), PACKET_S, quiet=True)
    got = rig.drain()
    for first in (1, 11, 21):
        rig.put(Gap(first_seq=first, count=9, reason=SILENCE))
        assert not rig.queue
        rig.put(packet(first + 9), PACKET_S, quiet=True)
        got += rig.drain()
    assert [m.seq if isinstance(m, Packet) else (m.first_seq, m.count, m.reason) for m in got] == [
        *(0, (1, 9, SILENCE), 10, (11, 9, SILENCE), 20, (21, 9, SILENCE), 30)
    ]
    assert rig.queue.thinned == 0


def test_publisher_and_server_may_both_leave_out_packets_of_one_pause():
    rig = Rig()
    for seq in range(3):
        rig.put(packet(seq), PACKET_S, quiet=True)
    rig.put(Gap(first_seq=3, count=9, reason=SILENCE))
    rig.put(packet(12), PACKET_S)
    assert rig.drain() == [packet(0), Gap(first_seq=1, count=11, reason=SILENCE), packet(12)]


def test_what_is_dropped_in_a_pause_does_not_make_a_loss_of_the_rest_of_it():
    rig = Rig(limit_s=0.4)
    for seq in range(41):
        rig.put(packet(seq), PACKET_S, quiet=seq < 31)
    got = rig.drain()
    check_books(got)
    lost = sum(m.count for m in got if isinstance(m, Gap) and m.reason == "slow_listener")
    assert lost == rig.queue.dropped == 14 - sum(isinstance(m, Packet) for m in got)
    assert sum(m.count for m in got if isinstance(m, Gap) and m.reason == SILENCE) == rig.queue.thinned == 27


def test_the_first_packet_of_the_next_stream_is_always_sent():
    rig = Rig()
    rig.put(packet(0), PACKET_S, quiet=True)
    rig.put(StreamEnd(next_seq=1))
    rig.queue.restart_dtx()
    rig.put(start(0))
    rig.put(packet(0), PACKET_S, quiet=True)
    assert rig.drain() == [packet(0), StreamEnd(next_seq=1), start(0), packet(0)]
