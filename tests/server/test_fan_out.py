"""One stream to all of its subscribers: cut codes, decoded PCM, history, and resumption; what happens is reported through events."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from fake_worker import FakeWorker

from streamcodec.protocol import Gap, Packet, Resume, StreamEnd, StreamStart, pack_codes
from streamcodec.server.fanout.fan_out import FanOut, FanOutState, StreamEvents
from streamcodec.server.fanout.subscriber import Subscriber, SubscriberOptions
from streamcodec.server.info import Numbering, StreamInfo
from streamcodec.server.limits import Limits

FRAMES = 6
HOP = 320


class Rig:
    """A fan-out of a live stream of 8 codebooks, on a worker that runs nothing; `reported` is what it has told its stream.

    It goes on from a `saved` one.
    """

    def __init__(self, saved=None, **limits):
        self.reported = []
        self.worker = FakeWorker()
        self.numbering = Numbering()
        info = StreamInfo(
            "alice",
            "codes",
            n_q=8,
            bandwidth=6.0,
            packet_frames=FRAMES,
            start="primed",
            live=True,
            packet_samples=320 * FRAMES,
            packet_s=FRAMES / 75,
        )
        events = StreamEvents(
            progressed=lambda: self.reported.append("progressed"),
            waited=lambda now, wait_s: self.reported.append("waited"),  # noqa: ARG005
            undecoded=lambda count: self.reported.append(("undecoded", count)),
            decoder_closed=lambda: self.reported.append("decoder closed"),
            broke=self.reported.append,
        )
        self.limits = Limits(**limits)
        self.fan_out = FanOut(info, self.numbering, events, self.worker, self.limits, saved)

    def subscriber(self, format="codes", **options):
        return Subscriber(SubscriberOptions("alice", format, **options), self.limits)

    def joined(self, format="codes", **options):
        subscriber = self.subscriber(format, **options)
        self.fan_out.join(subscriber)
        return subscriber

    def emit(self, count=1):
        for _ in range(count):
            seq = self.numbering.take()
            payload = pack_codes(np.full((8, FRAMES), seq), 10)
            self.fan_out.packet(Packet(seq, self.numbering.epoch, 0, 8, payload), FRAMES)

    def decode(self, count=1):
        self.worker.opened[-1].give(*[np.zeros(FRAMES * HOP, np.float32)] * count)

    def resume(self, subscriber, next_seq, epoch=0, session=None):
        return self.fan_out.resume(subscriber, Resume(session=session or self.fan_out.session, epoch=epoch, next_seq=next_seq))


def taken(subscriber):
    return subscriber.take(1000)


def shown(messages):
    """Packets as their numbers and codebooks, starts as their kind and first number, other messages as they are."""
    return [(m.seq, m.n_q) if isinstance(m, Packet) else (m.start, m.first_seq) if isinstance(m, StreamStart) else m for m in messages]


def test_each_subscriber_gets_the_codebooks_that_it_wants():
    async def main():
        rig = Rig()
        whole, cut = rig.joined(), rig.joined(max_n_q=2)
        rig.emit(2)
        assert shown(taken(whole)) == [("primed", 0), (0, 8), (1, 8)]
        messages = taken(cut)
        assert shown(messages) == [("primed", 0), (0, 2), (1, 2)]
        assert messages[1].payload == pack_codes(np.full((2, FRAMES), 0), 10)

    asyncio.run(main())


@pytest.mark.parametrize(("history_s", "first", "start"), [(0.0, 5, "resumed"), (0.16, 3, "resumed"), (60.0, 0, "primed")])
def test_a_late_listener_gets_as_much_history_as_it_wants_and_is_told_where_it_begins(history_s, first, start):
    async def main():
        rig = Rig()
        rig.emit(5)
        messages = taken(rig.joined(history_s=history_s))
        assert shown(messages) == [(start, first), *((seq, 8) for seq in range(first, 5))]
        assert messages[0].live_seq == 5

    asyncio.run(main())


def test_pcm_is_decoded_once_for_all_and_by_nobody_when_the_last_one_has_left():
    async def main():
        rig = Rig(resume_s=0.0)
        one, other = rig.joined("pcm_s16le"), rig.joined("pcm_f32le")
        assert len(rig.worker.opened) == 1
        rig.emit()
        rig.decode()
        assert [len(m.payload) for m in (taken(one))[1:]] == [2 * FRAMES * HOP]
        assert [len(m.payload) for m in (taken(other))[1:]] == [4 * FRAMES * HOP]
        rig.fan_out.leave(one)
        assert rig.fan_out.pcm.decoder is not None
        rig.fan_out.leave(other, lost=True)
        assert rig.fan_out.pcm.decoder is None
        assert rig.reported.count("decoder closed") == 1
        assert "waited" in rig.reported

    asyncio.run(main())


def test_the_decoder_stays_as_long_as_a_lost_subscriber_may_resume():
    async def main():
        rig = Rig(resume_s=3000.0)
        lost = rig.joined("pcm_s16le")
        rig.emit(3)
        rig.decode(3)
        taken(lost)
        rig.fan_out.leave(lost, lost=True)
        again = rig.subscriber("pcm_s16le")
        assert rig.resume(again, 1)
        assert shown(taken(again)) == [("continued", 1), (1, 0), (2, 0)]
        rig.fan_out.close()

    asyncio.run(main())


def test_a_listener_that_resumes_gets_what_it_missed_with_the_gaps_and_the_end():
    async def main():
        rig = Rig()
        rig.emit(2)
        gap = rig.numbering.skip(3, "uplink")
        rig.fan_out.gap(gap)
        rig.emit()
        finished = []
        rig.fan_out.end(StreamEnd(next_seq=6), lambda: finished.append(True))
        assert finished == [True]
        again = rig.subscriber()
        assert rig.resume(again, 1)
        assert shown(taken(again)) == [("continued", 1), (1, 8), gap, (5, 8), StreamEnd(next_seq=6)]
        assert not rig.fan_out.subscribers, "it waits for the next stream of this name"

    asyncio.run(main())


@pytest.mark.parametrize("wrong", [{"next_seq": 9}, {"next_seq": 1, "epoch": 1}, {"next_seq": 1, "session": "another"}])
@pytest.mark.parametrize("format", ["codes", "pcm_s16le"])
def test_what_cannot_be_resumed_is_left_alone(format, wrong):
    async def main():
        rig = Rig()
        rig.joined("pcm_s16le")
        rig.emit(3)
        rig.decode(3)
        again = rig.subscriber(format)
        assert not rig.resume(again, **wrong)
        assert again.empty
        assert again not in rig.fan_out.subscribers

    asyncio.run(main())


def test_an_epoch_forgets_the_history_before_it_and_starts_every_subscriber_afresh():
    async def main():
        rig = Rig()
        codes, pcm = rig.joined(), rig.joined("pcm_s16le")
        rig.emit(2)
        rig.numbering.begin_epoch()
        rig.fan_out.epoch("overload")
        rig.emit()
        rig.worker.opened[-1].give(np.zeros(2 * FRAMES * HOP, np.float32))
        rig.decode()
        assert shown(taken(codes)) == [("primed", 0), (0, 8), (1, 8), ("primed", 2), (2, 8)]
        messages = taken(pcm)
        assert shown(messages) == [("primed", 0), (0, 0), (1, 0), ("primed", 2), (2, 0)]
        assert (messages[3].epoch, messages[3].format, messages[3].reason) == (1, "pcm_s16le", "overload")
        assert shown(taken(rig.joined(history_s=60.0))) == [("primed", 2), (2, 8)]

    asyncio.run(main())


def test_the_end_comes_behind_what_is_still_to_be_decoded():
    async def main():
        rig = Rig()
        pcm = rig.joined("pcm_f32le")
        rig.emit()
        finished = []
        rig.fan_out.end(StreamEnd(next_seq=1), lambda: finished.append(True))
        assert not finished
        assert rig.fan_out.backlog_s == pytest.approx(0.08)
        rig.decode()
        assert shown(taken(pcm)) == [("primed", 0), (0, 0), StreamEnd(next_seq=1)]
        assert finished

    asyncio.run(main())


def test_a_decoder_that_breaks_is_reported():
    async def main():
        rig = Rig()
        pcm = rig.joined("pcm_f32le")
        rig.emit()
        error = RuntimeError("the engine broke")
        rig.worker.opened[-1].give(error=error)
        assert error in rig.reported
        rig.emit()
        assert ("undecoded", 1) in rig.reported
        assert [m for m in taken(pcm) if isinstance(m, Gap)] == [
            Gap(first_seq=0, count=1, reason="internal"),
            Gap(first_seq=1, count=1, reason="internal"),
        ]

    asyncio.run(main())


# Ahead of the stream ---------------------------------------------------------------------------------------------------------------------


def test_a_listener_that_has_heard_more_than_has_come_here_goes_on_when_it_comes():
    rig = Rig(FanOutState("session", 0, (), None, ()))
    rig.emit(5)
    listener = rig.subscriber()
    assert rig.resume(listener, 8) and taken(listener) == []
    rig.emit(3)
    [start] = taken(listener)
    assert (start.start, start.first_seq, start.live_seq) == ("continued", 8, 8)
    rig.emit(2)
    assert [message.seq for message in taken(listener)] == [8, 9]


def test_a_gap_that_reaches_beyond_what_it_has_heard_is_told_from_there_on():
    rig = Rig(FanOutState("session", 0, (), None, ()))
    rig.emit(5)
    listener = rig.subscriber()
    assert rig.resume(listener, 8)
    rig.fan_out.gap(rig.numbering.skip(5, "overload"))
    start, gap = taken(listener)
    assert start.start == "continued" and gap == Gap(first_seq=8, count=2, reason="overload")


@pytest.mark.parametrize("happens", ["an epoch", "the end"])
def test_a_listener_that_is_ahead_begins_anew_where_the_stream_does_not_come_there(happens):
    rig = Rig(FanOutState("session", 0, (), None, ()))
    rig.emit(5)
    listener, gone = rig.subscriber(), rig.subscriber()
    assert rig.resume(listener, 8) and rig.resume(gone, 8)
    rig.fan_out.leave(gone)
    if happens == "an epoch":
        rig.numbering.begin_epoch()
        rig.fan_out.epoch("overload")
        assert [(start.start, start.first_seq, start.epoch) for start in taken(listener)] == [("primed", 5, 1)]
    else:
        rig.fan_out.end(StreamEnd(next_seq=5, reason="over"), lambda: None)
        start, *_, end = taken(listener)
        assert start.live_seq == 5 and end == StreamEnd(next_seq=5, reason="over")
    assert taken(gone) == []


def test_a_listener_that_says_it_is_far_ahead_is_not_believed():
    rig = Rig(FanOutState("session", 0, (), None, ()))
    rig.emit(5)
    assert not rig.resume(rig.subscriber(), 5 + 38)
    assert not rig.resume(rig.subscriber(), 6, epoch=1)
