"""What a player says of its packets' way is true of what is heard, and of nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from clients_rig import run

from clients.ledger import PacketTimes
from clients.playback import play
from streamcodec.client import Player
from streamcodec.protocol import Packet, StreamEnd, StreamStart

PACKET = 1920


class Listened:
    """A listener of PCM that hears `events`, and what it was told."""

    hello = SimpleNamespace(stream="a")

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

    def write(self, samples: Any, *_: Any, **__: Any) -> float:
        self.parts.append(samples)
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
