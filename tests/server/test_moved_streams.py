"""A stream that moves between servers is the one that stays: numbers, epochs, timestamps, codes, and the audio of who listens to PCM."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from node_rig import (
    Listener,
    codes_hello,
    codes_messages,
    ended,
    feed,
    nodes,
    over_the_wire,
    pcm_hello,
    pcm_messages,
    publish,
    speech_with_pauses,
)
from server_rig import offline_codec, run, same_codes, until

import streamcodec.server.stream as stream_module
from streamcodec.protocol import Gap, Packet, Resume, unpack_codes

CODES, PCM = "codes", "pcm"


@pytest.fixture(autouse=True)
def _one_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading two clocks one after the other takes as long as the machine is busy with something else."""
    monkeypatch.setattr(stream_module, "both_clocks", lambda: (5_000_000, 1.7e9))


def publisher(kind: str, **options: Any) -> tuple[Any, list[Any]]:
    if kind == CODES:
        return codes_hello(), codes_messages(40, **options)
    hello = pcm_hello()
    return hello, pcm_messages(hello, 3.0, **options)


async def unbroken(hello: Any, messages: list[Any]) -> tuple[list[Any], Listener]:
    """What a stream that stays brings to its fan-out, and to a listener of PCM."""
    async with nodes(1) as [node]:
        listener = Listener("pcm_f32le")
        node.registry.subscribe(listener.subscriber)
        stream = publish(node, hello)
        feed(stream, messages)
        await ended(stream)
        return node.events, listener


def assert_same_audio(got: Listener, expected: Listener) -> None:
    ours, theirs = got.packets(), expected.packets()
    assert list(ours) == list(theirs)
    for seq, packet in theirs.items():
        assert (ours[seq].epoch, ours[seq].timestamp) == (packet.epoch, packet.timestamp)
        np.testing.assert_allclose(np.frombuffer(ours[seq].payload, "<f4"), np.frombuffer(packet.payload, "<f4"), atol=1e-4)
    assert [gap for gap in got.events if isinstance(gap, Gap)] == [gap for gap in expected.events if isinstance(gap, Gap)]


@pytest.mark.parametrize("kind", [PCM, CODES])
@pytest.mark.parametrize("seed", range(2))
def test_a_stream_that_is_given_from_server_to_server_is_the_one_that_stays(kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)

    async def main() -> None:
        hello, messages = publisher(kind, lost=int(rng.integers(8, 20)), interrupted=int(rng.integers(22, 34)), seed=seed)
        expected, heard = await unbroken(hello, messages)
        cuts = sorted(rng.choice(np.arange(1, len(messages) - 1), 3, replace=False))
        async with nodes(4) as ring:
            listener = Listener("pcm_f32le")
            ring[0].registry.subscribe(listener.subscriber)
            stream = publish(ring[0], hello)
            for node, cut in zip(ring[1:], cuts, strict=True):
                feed(stream, messages[:cut])
                giving = asyncio.create_task(stream.give())
                await asyncio.sleep(0)
                feed(stream, messages[cut : cut + 3])  # the publisher does not know yet
                value = await giving
                assert stream.ended.is_set() and not ring[0].registry.streams
                stream = node.registry.restore(over_the_wire(value))
                await until(lambda: listener.next_seq == stream.numbering.next_seq)  # noqa: B023
                listener = listener.goes_on_at(node)
            feed(stream, messages)
            await ended(stream)
            got = [event for node in ring for event in node.events]
        assert got == expected
        assert any(isinstance(event, Gap) for event in expected) and any(isinstance(event, tuple) for event in expected)
        assert_same_audio(listener, heard)

    run(main())


@pytest.mark.parametrize("kind", [PCM, CODES])
@pytest.mark.parametrize("seed", range(2))
def test_a_snapshot_of_a_running_stream_and_what_the_publisher_has_kept_give_the_same_codes_again(kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)

    async def main() -> None:
        hello, messages = publisher(kind, lost=int(rng.integers(8, 16)), interrupted=int(rng.integers(18, 28)), seed=seed)
        async with nodes(2) as [there, here]:
            listener = Listener("pcm_f32le")
            there.registry.subscribe(listener.subscriber)
            stream = publish(there, hello)
            for at in range(0, len(messages), 7):
                feed(stream, messages[at : at + 3])
                snapshot = asyncio.create_task(stream.snapshot())
                await asyncio.sleep(0)
                feed(stream, messages[at : at + 7])  # it goes on meanwhile
                value = over_the_wire(await snapshot)
                if at > rng.integers(7, 30):
                    break
            feed(stream, messages[: at + 14])
            dead_from = len(there.events)
            await until(lambda: stream._source.backlog_s < 0.1)
            assert len(there.events) >= dead_from
            again = here.registry.restore(value)
            late, decoder = Listener("pcm_f32le"), value.fan_out.decoder
            assert decoder is not None
            asked = Resume(session=value.session, epoch=decoder.epoch, next_seq=decoder.next_seq)
            assert here.registry.subscribe(late.subscriber, asked)
            feed(again, messages)
            await ended(again)
            await until(lambda: stream.fan_out.backlog_s == 0)
            heard, heard_there = late.packets(), listener.packets()
            twice = sorted(heard.keys() & heard_there.keys())
            assert twice and twice == [seq for seq in heard_there if seq >= decoder.next_seq]
            for seq in twice:
                ours, theirs = (np.frombuffer(packets[seq].payload, "<f4") for packets in (heard, heard_there))
                np.testing.assert_allclose(ours, theirs, atol=1e-4)
            known = {event.seq: event for event in there.events if isinstance(event, Packet)}
            made_again = [event for event in here.events if isinstance(event, Packet) and event.seq in known]
            assert made_again and made_again == [known[event.seq] for event in made_again]
            before = [event for event in there.events if not isinstance(event, Packet) or event.seq < value.next_seq]
            expected, _ = await unbroken(hello, messages)
            own = [event for event in here.events if isinstance(event, Packet)]
            assert [e for e in before if isinstance(e, Packet)] + own == [e for e in expected if isinstance(e, Packet)]
            assert again.totals.emitted == len([e for e in expected if isinstance(e, Packet)])
            assert again.totals.received == len([m for m in messages if isinstance(m, Packet)])

    run(main())


@pytest.mark.parametrize("rate", [44_100, 16_000])
def test_the_codes_of_a_stream_that_was_moved_are_those_of_the_whole_clip(rate: int) -> None:
    """At these rates soxr rounds the ratio, and a stream that moves takes the rounding anew: near-ties may flip, and nothing else."""

    async def main() -> None:
        hello = pcm_hello(rate=rate, channels=1, silence_db=None)
        messages = pcm_messages(hello, 2.0)
        async with nodes(3) as ring:
            stream = publish(ring[0], hello)
            for node, cut in zip(ring[1:], (9, 20), strict=True):
                feed(stream, messages[:cut])
                stream = node.registry.restore(over_the_wire(await stream.give()))
            feed(stream, messages)
            await ended(stream)
            packets = [event for node in ring for event in node.events if isinstance(event, Packet)]
        codec = offline_codec()
        got = np.concatenate([unpack_codes(packet.payload, packet.n_q) for packet in packets], axis=1)
        clip = (speech_with_pauses(2.0, rate, 1)[:, 0] / 32_768).astype(np.float32)
        same_codes(codec, got, clip, 6.0, codec.engine.traits.default_live_start, rate)

    run(main())
