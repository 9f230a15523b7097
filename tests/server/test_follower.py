"""Whatever a bus loses, repeats or brings late, a fan-out at another node gets each number once, in a packet or in a gap, and in order."""

from __future__ import annotations

import random

import pytest
from fanout_rig import check_books
from hypothesis import given
from hypothesis import strategies as st

from streamcodec.protocol import Gap, Packet, StreamEnd, StreamStart
from streamcodec.server.cluster.follower import MAX_HELD, Follower
from streamcodec.server.info import Numbering


def packet(seq, epoch=0):
    return Packet(seq, epoch, 0, 2, b"x" * 15)


def start(seq, epoch, reason=""):
    return StreamStart(
        epoch=epoch,
        n_q=2,
        bandwidth=1.5,
        packet_frames=6,
        start="exact",
        first_seq=seq,
        live_seq=seq,
        format="codes",
        sample_rate=24_000,
        reason=reason,
    )


class Rig:
    """A follower, and what it gave, asked for and lost; `told` is what a listener would be told."""

    def __init__(self, next_seq=0, epoch=0, misfits=()):
        self.numbering = Numbering(epoch, next_seq)
        self.told = []
        self.asked = []
        self.lost = 0
        self.ended = []
        frames_of = lambda packet: None if packet.payload in misfits else 6  # noqa: E731
        self.follower = Follower(self, self.numbering, frames_of, ask=self.asked.append, lost=self._lose, ended=self.ended.append)

    def _lose(self, count):
        self.lost += count

    def packet(self, packet, frames):
        assert frames == 6 and self.numbering.next_seq == packet.seq + 1 and self.numbering.epoch == packet.epoch
        self.told.append(packet)

    def gap(self, gap):
        assert self.numbering.next_seq == gap.next_seq
        self.told.append(gap)

    def epoch(self, reason):
        self.told.append(start(self.numbering.next_seq, self.numbering.epoch, reason))

    def take(self, *messages):
        for message in messages:
            self.follower.take(message)

    def all(self):
        return [*self.told, *self.ended]


def test_a_packet_that_does_not_fit_is_as_one_that_never_came():
    rig = Rig(misfits={b"no"})
    bad = Packet(1, 7, 0, 2, b"no")
    rig.take(packet(0), bad, packet(1), bad, packet(2))
    assert rig.all() == [packet(0), packet(1), packet(2)] and not rig.asked and rig.numbering.epoch == 0
    rig.take(packet(4))
    rig.follower.answered([Packet(3, 0, 0, 2, b"no"), packet(4)])
    assert rig.asked == [3] and rig.all()[3:] == [Gap(first_seq=3, count=1, reason="link"), packet(4)] and rig.lost == 1


def test_what_comes_in_order_goes_on_as_it_is():
    rig = Rig()
    messages = [packet(0), packet(1), Gap(first_seq=2, count=3, reason="overload"), start(5, 1, "overload"), packet(5, 1)]
    rig.take(*messages, StreamEnd(next_seq=6, reason="over"))
    assert rig.all() == [*messages, StreamEnd(next_seq=6, reason="over")] and not rig.asked and not rig.lost


def test_what_is_missing_is_asked_for_once_and_what_comes_meanwhile_waits():
    rig = Rig()
    rig.take(packet(0), packet(3), packet(4))
    assert rig.told == [packet(0)] and rig.asked == [1]
    rig.follower.answered([packet(1), packet(2), packet(3)])
    assert rig.told == [packet(seq) for seq in range(5)] and not rig.lost


@pytest.mark.parametrize(("answer", "lost"), [(None, 3), ([], 3), ([packet(3)], 2)])
def test_what_the_origin_has_no_longer_is_a_gap_that_says_where_it_was_lost(answer, lost):
    rig = Rig()
    rig.take(packet(0), packet(4), packet(5))
    rig.follower.answered(answer)
    assert Gap(first_seq=1, count=lost, reason="link") in rig.told
    assert rig.lost == lost and check_books(rig.told) == 6


def test_an_epoch_whose_beginning_was_lost_is_asked_for():
    rig = Rig()
    rig.take(packet(0), packet(1, 1))
    assert rig.asked == [1]
    rig.follower.answered([start(1, 1, "overload"), packet(1, 1)])
    assert rig.told == [packet(0), start(1, 1, "overload"), packet(1, 1)]


def test_an_epoch_whose_beginning_nobody_has_begins_where_it_is_heard():
    rig = Rig()
    rig.take(packet(0), packet(3, 1))
    rig.follower.answered(None)
    assert rig.told == [packet(0), Gap(first_seq=1, count=2, reason="link"), start(3, 1, "link"), packet(3, 1)]


def test_an_end_behind_lost_packets_waits_for_them():
    rig = Rig()
    rig.take(packet(0), StreamEnd(next_seq=3, reason="over"))
    assert rig.asked == [1] and not rig.ended
    rig.follower.answered([packet(1), packet(2), StreamEnd(next_seq=3, reason="over")])
    assert rig.all() == [packet(0), packet(1), packet(2), StreamEnd(next_seq=3, reason="over")]


def test_the_last_messages_are_missed_when_the_origin_says_how_far_it_is():
    rig = Rig()
    rig.take(packet(0))
    rig.follower.reached(1)
    assert not rig.asked
    rig.follower.reached(3)
    assert rig.asked == [1]
    rig.follower.answered([packet(1)])
    assert rig.told == [packet(0), packet(1), Gap(first_seq=2, count=1, reason="link")]


def test_what_is_known_already_is_told_once():
    rig = Rig(next_seq=5, epoch=2)
    rig.take(packet(3, 1), start(4, 2), packet(4, 2), Gap(first_seq=2, count=3), Gap(first_seq=3, count=4, reason="overload"), packet(7, 2))
    assert rig.told == [Gap(first_seq=5, count=2, reason="overload"), packet(7, 2)] and not rig.asked


def test_an_origin_that_went_on_from_an_older_state_repeats_what_is_known_and_is_right_about_the_epoch():
    rig = Rig(next_seq=10, epoch=1)
    rig.follower.look()
    rig.follower.answered([start(4, 0)])
    rig.take(*(packet(seq) for seq in range(4, 12)))
    assert rig.told == [start(10, 0), packet(10), packet(11)]


def test_an_answer_is_not_waited_for_beyond_so_many_messages():
    rig = Rig()
    rig.take(packet(1))
    rig.take(*(packet(seq) for seq in range(2, MAX_HELD + 2)))
    assert rig.told[0] == Gap(first_seq=0, count=1, reason="link") and check_books(rig.told) == MAX_HELD + 2
    rig.follower.answered([packet(0)])  # too late
    assert check_books(rig.told) == MAX_HELD + 2


def test_nothing_comes_behind_the_end():
    rig = Rig()
    rig.take(packet(0))
    rig.follower.end("gone")
    rig.take(packet(1), StreamEnd(next_seq=2, reason="over"))
    rig.follower.end("gone again")
    rig.follower.look()
    assert rig.all() == [packet(0), StreamEnd(next_seq=1, reason="gone")] and not rig.asked


@given(st.randoms(use_true_random=False), st.integers(0, 40), st.floats(0, 0.6), st.booleans())
def test_each_number_comes_once_whatever_is_lost(rng: random.Random, count, loss, answers):
    """The origin's stream has packets, gaps and epochs; its history is the newest epoch's, as a fan-out keeps it."""
    rig, stream, history, seq, epoch = Rig(), [], [], 0, 0
    kept: list[list[object]] = []
    for _ in range(count):
        kind = rng.random()
        if kind < 0.1:
            epoch += 1
            message = start(seq, epoch)
            history = [message]
        elif kind < 0.2:
            message = Gap(first_seq=seq, count=rng.randint(1, 3), reason="overload")
            history.append(message)
        else:
            message = packet(seq, epoch)
            history.append(message)
        seq = message.next_seq if isinstance(message, Gap) else seq + isinstance(message, Packet)
        stream.append(message)
        kept.append(list(history))
    end = StreamEnd(next_seq=seq, reason="over")
    for at, message in enumerate([*stream, end]):
        known = kept[min(at, count - 1)] if count else []
        if isinstance(message, StreamEnd) or rng.random() >= loss:
            rig.take(message)
        while rig.follower.asking and rng.random() < 0.7:
            rig.follower.answered([*known, *([end] if message is end else [])] if answers else None)
    while rig.follower.asking:
        rig.follower.answered([*(kept[-1] if kept else []), end] if answers else None)
    assert len(rig.ended) == 1 and check_books(rig.told) == rig.ended[0].next_seq == seq
    packets = [message for message in rig.told if isinstance(message, Packet)]
    assert all(message in stream for message in packets)
    lost = sum(message.count for message in rig.told if isinstance(message, Gap) and message.reason == "link")
    assert lost == rig.lost and (lost == 0 or loss > 0)


def test_what_comes_in_order_is_not_held_back_by_a_question_whether_anything_is_missing():
    rig = Rig()
    rig.follower.look()
    rig.take(packet(0), packet(1))
    assert rig.told == [packet(0), packet(1)] and rig.asked == [0] and not rig.follower.holds
    rig.take(packet(3), packet(4))
    assert rig.follower.holds and rig.told[-1] == packet(1)
    rig.follower.answered([packet(0), packet(1), packet(2), packet(3)])
    assert rig.told == [packet(seq) for seq in range(5)] and not rig.follower.holds and not rig.lost


def test_where_nobody_answers_nothing_that_came_is_waited_with_any_longer():
    rig = Rig()
    rig.take(packet(1), packet(3), packet(4), packet(6))
    rig.follower.answered(None)
    assert [type(message) for message in rig.told] == [Gap, Packet, Gap, Packet, Packet, Gap, Packet]
    assert rig.asked == [0] and rig.lost == 3 and not rig.follower.holds and check_books(rig.told) == 7


def test_what_is_held_back_is_heard_before_the_end():
    rig = Rig()
    rig.take(packet(0), packet(2))
    rig.follower.end("gone")
    gap = Gap(first_seq=1, count=1, reason="link")
    assert rig.all() == [packet(0), gap, packet(2), StreamEnd(next_seq=3, reason="gone")]


def test_what_is_held_back_is_not_lost_where_the_origin_says_meanwhile_how_far_it_is():
    rig = Rig()
    rig.take(packet(1), packet(2))
    rig.follower.reached(5)
    rig.take(packet(3))
    rig.follower.answered(None)
    gaps = [Gap(first_seq=0, count=1, reason="link"), Gap(first_seq=4, count=1, reason="link")]
    assert rig.told == [gaps[0], packet(1), packet(2), packet(3), gaps[1]] and rig.asked == [0]


def test_what_the_origin_has_sent_since_it_was_asked_is_asked_for_once_more():
    rig = Rig()
    rig.take(packet(1))
    rig.follower.reached(4)
    rig.follower.answered([packet(0), packet(1)])
    assert rig.told == [packet(0), packet(1)] and rig.asked == [0, 2]
    rig.follower.answered([packet(2)])
    assert rig.told[2:] == [packet(2), Gap(first_seq=3, count=1, reason="link")] and not rig.follower.asking
