"""Decoding has a thread of its own, and what is told about a packet's way is true of what is heard, and of nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from live_rig import run, until
from patience import TIMEOUT_S

from streamcodec.client import Player
from streamcodec.client.ledger import PacketTimes
from streamcodec.client.pipeline import FilledTime, decode, play
from streamcodec.errors import CodesError
from streamcodec.protocol import SILENCE, Gap, Packet, StreamEnd, StreamStart, now_us

PACKET = 1920


class Listened:
    """A listener of PCM that hears `events`, and what it was told."""

    hello = SimpleNamespace(stream="a")

    received_us = 0

    def __init__(self, events: list[Any]) -> None:
        self.events = events
        self.played: list[int] = []

    async def __aiter__(self) -> AsyncIterator[Any]:
        for event in self.events:
            yield event

    def captured_us(self, packet: Packet) -> int:
        return packet.timestamp

    def playing(self, seq: int, *_: Any) -> None:
        self.played.append(seq)


class Kept:
    """A sink that keeps what it is given."""

    label = "memory"
    live = False
    underruns = 0
    device_s = 0.0

    def __init__(self) -> None:
        self.parts: list[Any] = []
        self.quiet: list[bool] = []
        self.times: list[tuple[float, float]] = []  # when each packet arrived, and how long after that it was decoded

    def write(self, samples: Any, arrived_s: float = 0.0, *_: Any, decoding_s: float = 0.0, quiet: bool = False) -> float:
        self.parts.append(samples)
        self.times.append((arrived_s, decoding_s))
        self.quiet.append(quiet)
        return 0.0

    async def finish(self) -> None:
        pass


def started(live_seq: int = 0) -> StreamStart:
    return StreamStart(
        epoch=0,
        n_q=8,
        bandwidth=6.0,
        packet_frames=6,
        start="resumed",
        first_seq=0,
        live_seq=live_seq,
        format="pcm_s16le",
        sample_rate=24_000,
    )


@pytest.mark.parametrize("history", [0, 3, 7])
def test_packets_of_the_history_are_neither_heard_nor_told_nor_measured(history):
    packets = [Packet(seq, 0, 80_000 * seq, 0, np.full(PACKET, seq, "<i2").tobytes()) for seq in range(7)]
    listener, sink, measured = Listened([started(history), *packets, StreamEnd(next_seq=7)]), Kept(), []

    def note(times: PacketTimes, _: Any) -> None:
        measured.append(times.seq)

    run(play(listener, Player(), sink, on_packet=note))  # type: ignore[arg-type]
    live = list(range(history, 7))
    assert measured == listener.played == live
    assert [round(32_768 * float(part[0])) for part in sink.parts] == live


def test_a_sink_is_told_when_a_packet_came_and_apart_from_that_what_its_decoding_took():
    packets = [Packet(seq, 0, 80_000 * seq, 0, bytes(2 * PACKET)) for seq in range(3)]
    listener, sink, measured = Listened([started(), *packets, StreamEnd(next_seq=3)]), Kept(), []
    listener.received_us = now_us()
    run(play(listener, Player(), sink, on_packet=lambda times, _: measured.append(times)))  # type: ignore[arg-type]
    assert [times.received for times in measured] == [listener.received_us] * 3
    expected = [(times.received / 1e6, (times.decoded - times.received) / 1e6) for times in measured]
    assert sink.times[: len(expected)] == expected
    assert 0 <= expected[0][1] <= expected[1][1] <= expected[2][1], "they came together and were decoded one after the other"


def test_a_long_gap_goes_into_a_file_in_parts_and_is_told_once():
    listener, sink, notes = Listened([started(), Gap(first_seq=0, count=1000, reason="overload"), StreamEnd(next_seq=1000)]), Kept(), []
    run(play(listener, Player(fill_gaps=True), sink, note=notes.append))  # type: ignore[arg-type]
    sizes = [part.size for part in sink.parts]
    assert sum(sizes) == 1000 * PACKET and max(sizes) <= 8 * 24_000
    assert [line for line in notes if "lost" in line] == ["1000 packets lost (overload)"]


def test_a_gap_that_is_no_gap_ends_a_file_behind_what_came_before():
    packet = Packet(0, 0, 0, 0, np.full(PACKET, 1, "<i2").tobytes())
    listener, sink = Listened([started(), packet, Gap(first_seq=1, count=2**32 - 2), StreamEnd(next_seq=0)]), Kept()
    with pytest.raises(CodesError, match="a gap of 95444 hours, expected at most 24"):
        run(play(listener, Player(fill_gaps=True), sink))  # type: ignore[arg-type]
    assert [part.size for part in sink.parts] == [PACKET]


def test_gaps_are_filled_as_long_as_time_has_passed_and_a_day_more():
    filled = FilledTime(0)
    filled.add(86_000, 0)
    filled.add(3_400, 3_000_000_000)
    with pytest.raises(CodesError, match=r"gaps of 24.8 hours in all, expected at most 24.8 by now"):
        filled.add(1, 3_000_000_000)


class Watched(Player):
    """A player that notes the threads that it runs on, and waits for the event loop each time."""

    def __init__(self, loop_runs: threading.Event) -> None:
        super().__init__()
        self.threads: set[int] = set()
        self.loop_runs = loop_runs

    def feed(self, event: Any) -> Any:
        self.threads.add(threading.get_ident())
        assert self.loop_runs.wait(TIMEOUT_S), "the event loop stands still while the model runs"
        self.loop_runs.clear()
        return super().feed(event)


def test_a_stream_is_decoded_on_one_thread_which_is_not_the_loops():
    loop_runs = threading.Event()
    player = Watched(loop_runs)
    events = [started(), *(Packet(seq, 0, 0, 0, np.full(PACKET, seq, "<i2").tobytes()) for seq in range(4)), StreamEnd(next_seq=4)]

    async def main() -> None:
        async def go_on() -> None:
            while True:
                loop_runs.set()
                await asyncio.sleep(0.001)

        ticking = asyncio.create_task(go_on())
        heard = [item async for item in decode(Listened(events), player)]  # type: ignore[arg-type]
        ticking.cancel()
        assert [item.event for item in heard] == events
        assert [item.samples.size for item in heard] == [0, PACKET, PACKET, PACKET, PACKET, 0]
        assert all(item.received <= item.decoded for item in heard)
        assert player.threads and threading.get_ident() not in player.threads and len(player.threads) == 1

    run(main())


def test_whoever_leaves_early_leaves_no_thread_behind():
    before = threading.active_count()
    events = [started(), Packet(0, 0, 0, 0, bytes(2 * PACKET)), StreamEnd(next_seq=1)]

    async def main() -> None:
        async with contextlib.aclosing(decode(Listened(events), Player())) as heard:  # type: ignore[arg-type]
            async for item in heard:
                if isinstance(item.event, Packet):
                    break

    run(main())
    assert threading.active_count() == before


class Behind(Player):
    """A player that notes what it is told to do, and is behind by three packets after each quiet one."""

    def __init__(self) -> None:
        super().__init__()
        self.did: list[str] = []
        self.release = threading.Event()

    @property
    def behind(self) -> int:
        return 3 if self.quiet else 0

    def feed(self, event: Any) -> Any:
        self.did.append(type(event).__name__)
        return super().feed(event)

    def catch_up(self) -> None:
        self.did.append("catch_up")
        assert self.release.wait(TIMEOUT_S)


class Pausing(Listened):
    """A listener to which something comes behind a quiet packet when all that is to be caught up with was, or while the first is."""

    def __init__(self, events: list[Any], player: Behind, *, at_once: bool) -> None:
        super().__init__(events)
        self.player, self.at_once = player, at_once

    async def __aiter__(self) -> AsyncIterator[Any]:
        for event in self.events:
            yield event
            if isinstance(event, Packet) and self.player.quiet:
                wanted = 1 if self.at_once else 3
                if not self.at_once:
                    self.player.release.set()
                await until(lambda wanted=wanted: self.player.did.count("catch_up") >= wanted)
                asyncio.get_running_loop().call_soon(self.player.release.set)


@pytest.mark.parametrize("at_once", [False, True])
def test_in_a_pause_the_decoder_catches_up_until_something_comes_and_nothing_is_called_lost(at_once):
    def packet(seq: int, level: int) -> Packet:
        return Packet(seq, 0, 80_000 * seq, 0, np.full(PACKET, level, "<i2").tobytes())

    player, notes = Behind(), []
    gap = Gap(first_seq=2, count=9, reason=SILENCE)
    events = [
        started(),
        packet(0, 9_000),
        packet(1, 3),
        gap,
        packet(11, 9_000),
        Gap(first_seq=12, count=2, reason="overload"),
        StreamEnd(next_seq=14),
    ]
    listener, sink = Pausing(events, player, at_once=at_once), Kept()
    run(play(listener, player, sink, note=notes.append))  # type: ignore[arg-type]
    assert sink.quiet == [False, True, False]
    caught_up = ["catch_up"] * (1 if at_once else 3)
    assert player.did == ["StreamStart", "Packet", "Packet", *caught_up, "Gap", "Packet", "Gap", "StreamEnd"]
    assert [note for note in notes if "lost" in note] == ["2 packets lost (overload)"]
