"""Copies of streams: what is written each second is small, and what is read is the stream with its history, whatever is written last."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from cluster_rig import MODEL, cluster_of, cut, nodes, run, seconds
from hypothesis import given
from hypothesis import strategies as st
from node_rig import codes_hello
from server_rig import listen_hello, publish_hello, raw, until
from server_rig import packet as wire_packet

from streamcodec.protocol import Gap, Packet, pack_codes
from streamcodec.protocol.values import pack_value
from streamcodec.server.cluster.copies import COPIES, COPY_TTL_S, HistoryPiece, StreamCopy, with_history
from streamcodec.server.fanout.fan_out import FanOutState
from streamcodec.server.fanout.replay import ReplayBuffer
from streamcodec.server.ingest.relay import CodesState
from streamcodec.server.snapshot import StreamSnapshot

PAYLOAD = pack_codes(np.zeros((8, 6), np.int32), 10)


def snapshot(history: tuple[Packet | Gap, ...], next_seq: int, epoch: int = 0, first_seq: int = 0) -> StreamSnapshot:
    fan_out = FanOutState("session", first_seq, history, None, ())
    counts = {"received": 0, "emitted": 0, "dropped": 0}
    numbers = {"next_seq": next_seq, "epoch": epoch, "lease_next_seq": next_seq, "lease_epoch": epoch}
    return StreamSnapshot(
        hello=codes_hello(), taken_us=0, taken_s=0.0, since=0.0, secret="secret", fan_out=fan_out, source=CodesState(0), **numbers, **counts
    )


@given(st.lists(st.sampled_from(["packet"] * 4 + ["gap", "epoch", "copy", "copy", "failed copy"]), max_size=80), st.booleans())
def test_a_copy_and_the_pieces_are_the_history_as_it_was(events: list[str], half: bool) -> None:
    """`half`: the node dies between the writing of a piece and that of its copy."""
    history: ReplayBuffer[Packet] = ReplayBuffer(10.0, 75.0, lambda _: 6)
    copy, pieces, found = StreamCopy(), dict[int, HistoryPiece](), None
    seq = epoch = first_seq = 0
    for event in [*events, "copy"]:
        if event == "packet":
            history.add(Packet(seq, epoch, 0, 8, PAYLOAD))
            seq += 1
        elif event == "gap":
            history.gap(Gap(first_seq=seq, count=2, reason="overload"))
            seq += 2
        elif event == "epoch":
            history.clear()
            epoch, first_seq = epoch + 1, seq
        else:
            value = snapshot(history.entries, seq, epoch, first_seq)
            piece, rest = copy.next(value)
            if piece is not None:
                pieces[piece[0]] = piece[1]
            if event == "copy" and not (half and found is not None and piece is not None):
                copy.written(piece, seq)
                found = rest, history.entries
    assert found is not None
    rest, expected = found
    again: ReplayBuffer[Packet] = ReplayBuffer(10.0, 75.0, lambda _: 6)
    again.restore(with_history(rest, pieces.values()).fan_out.history)
    assert again.entries == expected, "so few events fit into the pieces that are kept"


def test_what_does_not_follow_on_is_left_out() -> None:
    packets = [Packet(seq, 1, 0, 8, PAYLOAD) for seq in range(10)]
    value = snapshot((packets[9],), 10, epoch=1, first_seq=2)

    def read(*pieces: list[Packet]) -> list[int]:
        items = with_history(value, [HistoryPiece(tuple(piece)) for piece in pieces]).fan_out.history
        return [item.seq for item in items if isinstance(item, Packet)]

    assert read() == [9] and read(packets[6:9], packets[3:6]) == [3, 4, 5, 6, 7, 8, 9]
    assert read(packets[3:6], packets[7:9]) == [7, 8, 9], "6 is lost"
    assert read(packets[:9]) == list(range(2, 10)), "the epoch begins with 2"
    assert read([replace(packet, epoch=0) for packet in packets[:8]], packets[8:9]) == [8, 9]


def test_what_is_written_each_second_does_not_grow_with_the_history() -> None:
    copy, written = StreamCopy(), list[int]()
    history: list[Packet] = []
    for second in range(10):
        history += [Packet(seq, 0, 0, 8, PAYLOAD) for seq in range(12 * second, 12 * second + 12)]
        piece, rest = copy.next(snapshot(tuple(history), len(history)))
        written.append(len(pack_value(rest)) + (0 if piece is None else len(pack_value(piece[1]))))
        copy.written(piece, len(history))
    assert max(written[2:]) < 2_500 < 8_500 < len(pack_value(snapshot(tuple(history), len(history))))


@pytest.mark.parametrize("damaged", [False, True])
def test_a_listener_that_was_away_when_a_node_died_gets_what_it_missed_from_the_copies(damaged: bool) -> None:
    async def main() -> None:
        async with nodes(2, replicate=True) as (a, b), contextlib.AsyncExitStack() as stack:
            publisher = await stack.enter_async_context(raw(a.url))
            await publisher.send(publish_hello("a", model=MODEL))
            session = (await publisher.receive())["session"]
            for at in range(0, 20, 5):
                for seq in range(at, at + 5):
                    await publisher.send(wire_packet(seq))
                await until(lambda: a.registry.streams["a"].numbering.next_seq == at + 5)  # noqa: B023
                copied = cluster_of(a).handover.copied
                await seconds(1, [a, b])
                await until(lambda: cluster_of(a).handover.copied > copied)  # noqa: B023
            known = a.registry.streams["a"].fan_out.session
            if damaged:
                for number in range(7):
                    await cluster_of(b).bus.store(COPIES, ttl_s=COPY_TTL_S).put(f"{known}.{number}", b"no piece")
            cut(a)
            await seconds(6, [b])
            again = await stack.enter_async_context(raw(b.url))
            await again.send(publish_hello("a", model=MODEL, resume={"session": session, "epoch": 0, "next_seq": 20}))
            welcome = await again.receive()
            assert (welcome["type"], welcome["next_seq"]) == ("welcome", 20) and cluster_of(b).handover.restored == 1
            listener: Any = await stack.enter_async_context(raw(b.url))
            resume = {"session": known, "epoch": 0, "next_seq": 2}
            await listener.send(listen_hello("a", format="codes", model=MODEL, resume=resume))
            assert (await listener.receive())["type"] == "welcome"
            start = await listener.receive()
            if damaged:
                assert start["start"] != "continued" and start["live_seq"] == 20, "the stream goes on all the same"
            else:
                assert (start["start"], start["first_seq"]) == ("continued", 2)
                assert [(await listener.receive())[0] for _ in range(2, 20)] == list(range(2, 20))
            await again.send({"type": "end", "last_seq": 19})
            await until(lambda: not b.registry.streams)

    run(main())
