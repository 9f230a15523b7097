"""A listener's queue is bounded in seconds: the oldest packets go, a gap names exactly them, and everything else keeps its place."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamcodec.errors import RemoteProtocolError, WireCode
from streamcodec.protocol import Gap, Packet, StreamEnd, StreamStart, Waiting
from streamcodec.server.listeners import _MOST_MESSAGES, Listener

PACKET_S = 0.08


def make(limit_s=0.8):
    return Listener("alice", "codes", None, 1.0, limit_s)


def packet(seq, epoch=0):
    return Packet(seq, epoch, 0, 2, b"x" * 15)


def start(seq, epoch=0):
    return StreamStart(
        epoch=epoch, n_q=2, bandwidth=1.5, packet_frames=6, start="exact", first_seq=seq, live_seq=seq, format="codes", sample_rate=24_000
    )


def drain(listener):
    async def main():
        got = []
        while not listener.empty:
            got.append(await listener.get())
        return got

    return asyncio.run(main())


def check_books(messages, first=0):
    """What a session at the other end checks: each number comes once, or is named by a gap."""
    expected = first
    for message in messages:
        if isinstance(message, Packet):
            assert message.seq == expected
            expected += 1
        elif isinstance(message, Gap):
            assert message.first_seq == expected
            expected = message.next_seq
        elif isinstance(message, StreamStart):
            assert message.live_seq == expected
        elif isinstance(message, StreamEnd):
            assert message.next_seq == expected
    return expected


def test_what_is_put_comes_in_order():
    listener = make()
    messages = [Waiting(stream="alice"), start(0), packet(0), packet(1), StreamEnd(next_seq=2)]
    for message in messages:
        listener.put(message, PACKET_S if isinstance(message, Packet) else 0.0)
    assert listener.queued_s == pytest.approx(0.16)
    assert drain(listener) == messages
    assert listener.dropped == 0


def test_an_empty_queue_holds_no_seconds_however_many_were_added():
    listener = make()
    for seq in range(9):
        listener.put(packet(seq), PACKET_S)
    drain(listener)
    assert listener.queued_s == 0.0
    assert listener.empty


def test_beyond_the_bound_the_oldest_packets_become_one_gap_and_half_the_bound_stays():
    listener = make()
    for seq in range(11):
        listener.put(packet(seq), PACKET_S)
    got = drain(listener)
    assert got == [Gap(first_seq=0, count=6, reason="slow_listener"), *(packet(seq) for seq in range(6, 11))]
    assert listener.dropped == 6


def test_dropping_again_extends_the_gap_that_is_still_waiting():
    listener = make()
    for seq in range(100):
        listener.put(packet(seq), PACKET_S)
    got = drain(listener)
    assert isinstance(got[0], Gap)
    assert sum(isinstance(message, Gap) for message in got) == 1
    assert check_books(got) == 100
    assert listener.dropped == got[0].count


def test_control_messages_are_never_dropped_and_keep_their_place():
    listener = make(limit_s=0.4)
    listener.put(start(0))
    for seq in range(4):
        listener.put(packet(seq), PACKET_S)
    listener.put(Gap(first_seq=4, count=3, reason="overload"))
    listener.put(start(7, epoch=1))
    for seq in range(7, 40):
        listener.put(packet(seq, epoch=1), PACKET_S)
    listener.put(StreamEnd(next_seq=40))
    got = drain(listener)
    assert [type(message) for message in got[:4]] == [StreamStart, Gap, StreamStart, Gap]
    assert got[1] == Gap(first_seq=0, count=7, reason="slow_listener")
    assert isinstance(got[-1], StreamEnd)
    check_books(got)


@given(
    st.lists(st.sampled_from(["packet", "packet", "packet", "long", "gap", "epoch", "get"]), max_size=200),
    st.floats(0.1, 2.0),
)
def test_the_books_balance_and_the_bound_holds_whatever_happens(actions, limit_s):
    async def main():
        listener = make(limit_s)
        seq = epoch = 0
        listener.put(start(0))
        got, put = [], 0
        for action in actions:
            if action in ("packet", "long"):
                listener.put(packet(seq, epoch), 0.3 if action == "long" else PACKET_S)
                seq, put = seq + 1, put + 1
            elif action == "gap":
                listener.put(Gap(first_seq=seq, count=2, reason="overload"))
                seq += 2
            elif action == "epoch":
                epoch += 1
                listener.put(start(seq, epoch % 256))
            elif not listener.empty:
                got.append(await listener.get())
            assert listener.queued_s <= limit_s + 1e-9
        while not listener.empty:
            got.append(await listener.get())
        assert check_books(got) == seq
        assert sum(isinstance(m, StreamStart) for m in got) == epoch + 1
        assert sum(isinstance(m, Packet) for m in got) + listener.dropped == put
        assert listener.queued_s == 0.0

    asyncio.run(main())


def test_a_waiting_reader_gets_what_comes_and_the_publisher_hears_of_progress():
    async def main():
        listener, progress = make(), []
        listener.progressed = lambda: progress.append(listener.queued_s)
        reader = asyncio.create_task(listener.get())
        await asyncio.sleep(0)
        assert not reader.done()
        listener.put(packet(0), PACKET_S)
        assert await asyncio.wait_for(reader, 10) == packet(0)
        assert progress == [0.0]

    asyncio.run(main())


def test_a_listener_that_not_even_gaps_can_mend_is_told_so():
    listener = make()
    for seq in range(0, 4 * _MOST_MESSAGES, 2):
        listener.put(start(seq))
        listener.put(Gap(first_seq=seq, count=2, reason="publisher"))
    assert len(listener._queue) == _MOST_MESSAGES + 1
    with pytest.raises(RemoteProtocolError) as caught:
        drain(listener)
    assert caught.value.code is WireCode.SLOW_LISTENER


def test_giving_up_on_a_listener_lasts_until_half_its_queue_is_free():
    async def main():
        listener = make(limit_s=0.8)
        for seq in range(10):
            listener.put(packet(seq), PACKET_S)
        assert listener.lagging
        listener.given_up = True
        await listener.get()
        assert listener.given_up
        while listener.lagging:
            await listener.get()
        assert not listener.given_up

    asyncio.run(main())
