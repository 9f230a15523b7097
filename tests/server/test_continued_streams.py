"""A stream goes on at a fan-out that a link has fed so far: its listeners get each number once, and notice nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from fake_worker import FakeWorker
from node_rig import LIMITS, Listener, Node, ended, feed, nodes, over_the_wire, pcm_hello, pcm_messages, publish
from server_rig import run, until

import streamcodec.server.stream as stream_module
from streamcodec.config import CodecConfig
from streamcodec.protocol import Gap, Packet, StreamEnd, StreamStart, pack_codes
from streamcodec.server.fanout.continued import ContinuedFanOut
from streamcodec.server.fanout.events import UNHEARD
from streamcodec.server.fanout.fan_out import FanOut, FanOutState
from streamcodec.server.info import Numbering, StreamInfo
from streamcodec.server.recording.backlog import Backlog
from streamcodec.server.recording.entry import RecordedFanOut

INFO = StreamInfo("a", "codes", n_q=8, bandwidth=6.0, packet_frames=6, start="primed", live=True, packet_samples=1920, packet_s=0.08)


@pytest.fixture(autouse=True)
def _one_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading two clocks one after the other takes as long as the machine is busy with something else."""
    monkeypatch.setattr(stream_module, "both_clocks", lambda: (5_000_000, 1.7e9))


class Link:
    """Feeds a fan-out with what another server's stream brings to its own."""

    def __init__(self, node: Node, info: StreamInfo, session: str) -> None:
        self.fan_out = FanOut(info, Numbering(), UNHEARD, node.worker, LIMITS)
        self.fan_out.session = session

    def bring(self, events: list[Any]) -> None:
        numbering = self.fan_out.numbering
        for event in events:
            if isinstance(event, Packet):
                numbering.next_seq = event.seq + 1
                self.fan_out.packet(event, self.fan_out.codes.frames(event))
            elif isinstance(event, Gap):
                numbering.next_seq = event.next_seq
                self.fan_out.gap(event)
            else:
                _, numbering.epoch, reason = event
                self.fan_out.epoch(reason)


def numbers(listener: Listener) -> list[Any]:
    """What came, in order: no packet twice, no number left out."""
    told: list[Any] = []
    expected: int | None = None
    for event in listener.events:
        first = event.seq if isinstance(event, Packet) else event.first_seq if isinstance(event, Gap) else None
        if first is not None:
            assert expected in (None, first)
            expected = event.next_seq if isinstance(event, Gap) else first + 1
            told.append((first, event.epoch) if isinstance(event, Packet) else (first, event.count, event.reason))
    return told


@pytest.mark.parametrize("lacks", [0, 3, 100])
@pytest.mark.parametrize("decodes", [True, False])
def test_the_listeners_of_a_link_hear_an_unbroken_stream_whether_the_link_was_ahead_or_behind(lacks: int, decodes: bool) -> None:
    """`lacks`: so many of the last events the link has not got; 100: it has more than the snapshot."""

    async def main() -> None:
        hello = pcm_hello()
        messages = pcm_messages(hello, 2.4, lost=7, interrupted=22)
        async with nodes(2) as [there, here]:
            at_origin = Listener("pcm_f32le")
            there.registry.subscribe(at_origin.subscriber)
            stream = publish(there, hello)
            link = Link(here, stream.info, stream.fan_out.session)
            listeners = [Listener("codes"), Listener("pcm_f32le")][: 1 + decodes]
            for listener in listeners:
                link.fan_out.join(listener.subscriber)
            feed(stream, messages[: 24 if lacks == 100 else 28])
            if lacks == 100:
                value = await stream.snapshot()
                feed(stream, messages[:34])
            value = value if lacks == 100 else await stream.give()
            await until(lambda: stream._source.backlog_s < 0.08)
            link.bring(there.events[: len(there.events) - lacks % 100])
            again = here.registry.restore(over_the_wire(value), link.fan_out)
            assert again.fan_out is link.fan_out and again.fan_out.pcm.decoder is not None
            assert (again.numbering.next_seq < link.fan_out.numbering.next_seq) is (lacks == 100)
            late: Listener | None = None
            if lacks == 100 and not decodes:  # the decoder comes from the snapshot, and catches up with the link
                decoder = again.fan_out.pcm.decoder
                await until(lambda: decoder.next_seq == link.fan_out.numbering.next_seq)
                there.registry.unsubscribe(at_origin.subscriber, lost=True)
                late = at_origin.goes_on_at(here)
            feed(again, messages)
            await ended(again)
            if lacks == 100:
                feed(stream, messages)
                await ended(stream)
            else:
                assert isinstance(listeners[0].events[-1], StreamEnd)
            if late is not None:
                assert numbers(late) and isinstance(late.events[-1], StreamEnd)
        both = {event.seq: event for event in [*there.events, *here.events] if isinstance(event, Packet)}
        for listener in listeners:
            got = numbers(listener)
            # A listener of codes is spared most of what is quiet, in gaps that say so.
            missing = set(both) - {entry[0] for entry in got if len(entry) == 2}
            named = {seq for entry in got if len(entry) == 3 for seq in range(entry[0], entry[0] + entry[1])}
            assert missing <= (named if listener is listeners[0] else set())
            assert {entry[2] for entry in got if len(entry) == 3} <= {"silence", "publisher"}
            assert len(listener.starts) == 3, "one more for what the publisher lost and one for its own epoch, and no others"

    run(main())


def packet(seq: int, epoch: int = 0) -> Packet:
    return Packet(seq, epoch, 0, 8, pack_codes(np.full((8, 6), seq), 10))


class Rig:
    """A fan-out that is at some number of some epoch, and a stream that goes on there from another one."""

    def __init__(self, there: Numbering, own: Numbering, saved: FanOutState) -> None:
        self.there, self.own = there, own
        self.fan_out = FanOut(INFO, there, UNHEARD, FakeWorker(), LIMITS)  # type: ignore[arg-type]
        self.listener = Listener("codes")
        self.fan_out.join(self.listener.subscriber)
        self.entry = ContinuedFanOut(self.fan_out, self.fan_out, own, saved)

    def emit(self, count: int) -> None:
        for _ in range(count):
            seq = self.own.take()
            self.entry.packet(packet(seq, self.own.epoch), 6)


def saved(first_seq: int = 0, history: tuple[Any, ...] = ()) -> FanOutState:
    return FanOutState("s", first_seq, history, None, ())


def test_what_a_link_has_missed_and_no_history_has_is_a_gap() -> None:
    async def main() -> None:
        rig = Rig(Numbering(0, 10), Numbering(0, 20), saved(history=(packet(15), Gap(first_seq=16, count=2, reason="x"), packet(18))))
        rig.emit(1)
        assert numbers(rig.listener) == [(10, 5, "link"), (15, 0), (16, 2, "x"), (18, 0), (19, 1, "link"), (20, 0)]

    asyncio.run(main())


def test_a_link_that_has_missed_the_beginning_of_an_epoch_is_told_of_it() -> None:
    async def main() -> None:
        rig = Rig(Numbering(0, 10), Numbering(1, 20), saved(17, tuple(packet(seq, 1) for seq in range(17, 20))))
        rig.emit(1)
        assert numbers(rig.listener) == [(10, 7, "link"), (17, 1), (18, 1), (19, 1), (20, 1)]
        start = rig.listener.starts[-1]
        assert (start.first_seq, start.epoch, start.start) == (17, 1, "primed")

    asyncio.run(main())


def test_a_link_that_is_ahead_gets_nothing_twice_and_part_of_a_gap() -> None:
    async def main() -> None:
        rig = Rig(Numbering(0, 10), Numbering(0, 7), saved(history=(packet(6),)))
        rig.emit(1)
        rig.own.next_seq = 12
        rig.entry.gap(Gap(first_seq=8, count=4, reason="overload"))
        rig.emit(1)
        assert numbers(rig.listener) == [(10, 2, "overload"), (12, 0)]

    asyncio.run(main())


def test_an_epoch_that_a_link_knows_already_does_not_begin_again() -> None:
    async def main() -> None:
        rig = Rig(Numbering(1, 10), Numbering(0, 7), saved())
        rig.emit(1)
        rig.own.begin_epoch()
        rig.entry.epoch("publisher")
        rig.emit(3)
        assert numbers(rig.listener) == [(10, 1)]
        assert len(rig.listener.starts) == 1

    asyncio.run(main())


def test_where_the_two_meet_in_different_epochs_a_new_one_begins() -> None:
    async def main() -> None:
        rig = Rig(Numbering(1, 10), Numbering(0, 8), saved())
        rig.emit(4)
        rig.own.begin_epoch()
        rig.entry.epoch("publisher")
        rig.emit(1)
        assert numbers(rig.listener) == [(10, 2), (11, 2), (12, 3)]
        assert [start.epoch for start in rig.listener.starts] == [1, 2, 3]
        rig.entry.end(StreamEnd(next_seq=13), lambda: None)
        assert rig.listener.events[-1] == StreamEnd(next_seq=13)

    asyncio.run(main())


def test_the_end_of_a_stream_that_never_caught_up_is_where_its_listeners_are() -> None:
    async def main() -> None:
        rig = Rig(Numbering(0, 10), Numbering(0, 7), saved())
        rig.entry.end(StreamEnd(next_seq=7), lambda: None)
        assert rig.listener.events[-1] == StreamEnd(next_seq=10)
        assert isinstance(rig.listener.events[0], StreamStart)

    asyncio.run(main())


def test_a_recording_ends_where_its_stream_goes_on_elsewhere_and_the_listeners_hear_nothing_of_it() -> None:
    async def main() -> None:
        there = Numbering()
        fan_out = FanOut(INFO, there, UNHEARD, FakeWorker(), LIMITS)  # type: ignore[arg-type]
        listener = Listener("codes")
        fan_out.join(listener.subscriber)
        backlog, untouched = Backlog(10.0), Backlog(10.0)
        entry = RecordedFanOut("a", fan_out, backlog, CodecConfig())
        entry.packet(packet(there.take()), 6)
        entry.moved()
        assert [type(event) for event in backlog.take()] == [StreamStart, Packet, StreamEnd]
        RecordedFanOut("a", fan_out, untouched, CodecConfig()).moved()
        assert untouched.closed
        assert [type(event) for event in listener.events] == [StreamStart, Packet]

    asyncio.run(main())
