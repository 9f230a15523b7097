"""What waits and what is under way keep their numbers, whatever is dropped, acknowledged or sent again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamcodec.client.send_queue import Audio, Lost, SendQueue
from streamcodec.protocol import SILENCE


def audio(name, duration_s=0.1):
    return Audio(bytes([name]), 0, duration_s)


def filled(count, keep_s=10.0):
    queue = SendQueue(keep_s)
    for name in range(count):
        queue.add(audio(name))
    return queue


def send_all(queue, seq=0):
    """Send what waits; returns what went out as (number, payload or how many were lost)."""
    out = []
    while queue:
        entry = queue.next()
        queue.sent(seq, entry)
        out.append((seq, entry.payload[0] if isinstance(entry, Audio) else -entry.count))
        seq += entry.count if isinstance(entry, Lost) else 1
    return out


def test_what_waits_goes_out_in_order():
    queue = filled(3)
    assert queue.waiting_s == pytest.approx(0.3)
    assert send_all(queue) == [(0, 0), (1, 1), (2, 2)]
    assert queue.waiting_s == 0.0
    assert queue.sent_s == pytest.approx(0.3)


def test_the_oldest_beyond_the_bound_become_one_loss_and_the_newest_stays():
    queue = filled(5)
    assert queue.drop_beyond(0.25) == pytest.approx(0.3)
    queue.add(audio(5))
    assert queue.drop_beyond(0.25) == pytest.approx(0.1)
    assert queue.drop_beyond(0.0) == pytest.approx(0.1)
    assert queue.numbers == 6
    assert send_all(queue) == [(0, -5), (5, 5)]


def test_losses_in_a_row_are_one():
    queue = filled(1)
    queue.lose(3)
    queue.lose(4)
    queue.add(audio(9))
    assert send_all(queue) == [(0, 0), (1, -7), (8, 9)]


def test_losses_for_different_reasons_are_told_apart():
    queue = filled(2)
    queue.lose(3)
    queue.add(audio(9))
    queue.add(audio(10))
    queue.drop_beyond(0.35)
    queue.lose(2)
    told = [queue.next() for _ in range(6)]
    assert [(entry.count, entry.reason) for entry in told if isinstance(entry, Lost)] == [(1, "uplink"), (3, "publisher"), (2, "publisher")]


def told(queue):
    return [(entry.count, entry.reason) for entry in iter(lambda: queue.next() if queue else None, None) if isinstance(entry, Lost)]


def test_what_is_left_out_is_told_with_what_comes_behind_it_and_not_before():
    queue = filled(1)
    for _ in range(9):
        queue.leave_out()
    assert queue.numbers == 10
    assert send_all(queue) == [(0, 0)]
    assert not queue
    queue.leave_out()
    queue.add(audio(10))
    assert send_all(queue, 1) == [(1, -10), (11, 10)]
    queue.leave_out()
    queue.close()
    queue.close()
    assert send_all(queue, 12) == [(12, -1)]


def test_silence_is_told_apart_from_what_is_lost_before_and_behind_it():
    queue = filled(2)
    queue.leave_out()
    queue.lose(2)
    queue.add(audio(5))
    queue.leave_out()
    queue.add(audio(7))
    queue.add(audio(8))
    assert queue.drop_beyond(0.25) == pytest.approx(0.3)
    assert queue.numbers == 9
    assert told(queue) == [(2, "uplink"), (1, SILENCE), (3, "uplink"), (1, SILENCE)]


def test_silence_that_was_told_is_told_again_and_what_is_not_yet_is_told_once():
    queue = filled(1)
    queue.leave_out()
    queue.add(audio(2))
    send_all(queue)
    queue.leave_out()
    queue.send_again(1)
    assert queue.numbers == 3
    assert send_all(queue, 1) == [(1, -1), (2, 2)]
    queue.add(audio(4))
    assert send_all(queue, 3) == [(3, -1), (4, 4)]


def test_what_is_acknowledged_is_forgotten_and_the_rest_is_sent_again():
    queue = filled(4)
    send_all(queue)
    queue.acknowledge(2)
    assert queue.sent_s == pytest.approx(0.2)
    queue.add(audio(4))
    queue.send_again(3)
    assert queue.sent_s == 0.0
    assert queue.numbers == 2
    assert queue.waiting_s == pytest.approx(0.2)
    assert send_all(queue, 3) == [(3, 3), (4, 4)]


def test_a_loss_that_was_told_is_told_again():
    queue = filled(1)
    queue.lose(5)
    queue.add(audio(1))
    send_all(queue)
    queue.send_again(1)
    assert send_all(queue, 1) == [(1, -5), (6, 1)]


def test_more_than_is_kept_is_lost_where_it_would_have_to_be_sent_again():
    queue = filled(10, keep_s=0.35)
    send_all(queue)
    assert queue.sent_s <= 0.35
    queue.send_again(2)
    assert send_all(queue, 2) == [(2, -5), (7, 7), (8, 8), (9, 9)]


@given(st.lists(st.sampled_from(["add", "add", "send", "ack", "drop", "break", "lose", "leave"]), max_size=80), st.data())
def test_every_number_is_audio_or_lost_once_at_the_other_end(actions, data):
    """The server notes what it got; a connection that breaks loses what was behind some number."""
    queue, server, under_way, seq, added = SendQueue(1e9), [], [], 0, 0

    def deliver(count):
        server.extend(under_way[:count])
        del under_way[:count]

    def taken():
        return sum(-what if what < 0 else 1 for what in server)

    for action in [*actions, "break", "close", "send"]:
        if action == "add":
            queue.add(audio(added % 256))
            added += 1
        elif action == "close":
            queue.close()
        elif action == "lose":
            queue.lose(2)
            added += 2
        elif action == "leave":
            queue.leave_out()
            added += 1
        elif action == "drop":
            queue.drop_beyond(0.3)
        elif action == "ack":
            deliver(data.draw(st.integers(0, len(under_way))))
            queue.acknowledge(taken())
        elif action == "break":
            deliver(data.draw(st.integers(0, len(under_way))))
            under_way.clear()
            queue.send_again(taken())
            seq = taken()
        while action == "send" and queue:
            entry = queue.next()
            queue.sent(seq, entry)
            under_way.append(entry.payload[0] if isinstance(entry, Audio) else -entry.count)
            seq += entry.count if isinstance(entry, Lost) else 1
    deliver(len(under_way))
    assert taken() == added
    at = 0
    for what in server:
        assert what < 0 or what == at % 256
        at += -what if what < 0 else 1


def drained(queue):
    found = []
    while queue:
        entry = queue.next()
        found.append((entry.count, entry.reason) if isinstance(entry, Lost) else entry.captured)
    return found


def sent_and_acknowledged(again_s, count=5):
    """A queue whose packets 0 to `count` - 1, of 80 ms each, have gone out and been acknowledged."""
    queue = SendQueue(10.0, again_s)
    for seq in range(count):
        queue.add(Audio(b"", seq, 0.08))
        queue.sent(seq, queue.next())
    queue.acknowledge(count)
    return queue


@pytest.mark.parametrize(("again_s", "found"), [(3.0, [2, 3, 4]), (0.16, [(1, "uplink"), 3, 4]), (0.0, [(3, "uplink")])])
def test_a_server_that_goes_on_from_an_older_state_gets_what_is_kept_and_is_told_the_rest(again_s, found):
    queue = sent_and_acknowledged(again_s)
    assert queue.sent_s == 0
    queue.send_again(2)
    assert drained(queue) == found


def test_what_is_kept_of_what_was_acknowledged_is_bounded_and_not_under_way():
    queue = sent_and_acknowledged(0.8, 1000)
    assert len(queue._acknowledged) == 10 and (queue.sent_s, queue.waiting_s) == (0.0, 0.0)


def test_what_waits_again_is_neither_named_as_lost_nor_sent_twice_where_the_session_moves_once_more():
    queue = sent_and_acknowledged(3.0)
    queue.send_again(3)
    queue.send_again(3)
    assert drained(queue) == [3, 4]
    # Of what the second server has, the third may lack some.
    queue = sent_and_acknowledged(3.0)
    queue.send_again(3)
    queue.send_again(2)
    assert drained(queue) == [2, 3, 4]


def test_a_gap_that_a_server_has_in_part_is_sent_again_from_there():
    queue = SendQueue(10.0, 3.0)
    queue.lose(4, "overload")
    queue.add(Audio(b"", 4, 0.08))
    for seq in (0, 4):
        queue.sent(seq, queue.next())
    queue.acknowledge(5)
    queue.send_again(3)
    assert drained(queue) == [(1, "overload"), 4]
