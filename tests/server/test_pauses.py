"""A pause that its publisher has thinned itself: who comes, comes back or is slow in the middle of it hears what everybody hears."""

from __future__ import annotations

import asyncio
import contextlib

import numpy as np
import pytest
from server_rig import PACKET, Heard, listen_hello, listening, offline_codec, publish_all, raw, run, serving, small_limits, until, voice
from server_rig import packet as codes_packet

from streamcodec.client import PublishOptions, listen, publish
from streamcodec.protocol import SILENCE, Gap, Packet, StreamStart, unpack_codes

LOUD = 10
QUIET = 35
COUNT = 2 * LOUD + QUIET
LEFT_OUT = {seq for seq in range(LOUD, LOUD + QUIET) if (seq - LOUD) % 10}
SENT = [seq for seq in range(COUNT) if seq not in LEFT_OUT]


def talk(seed=0):
    """Codes of loud packets, a pause, and loud ones again."""
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 1024, (1 if LOUD <= seq < LOUD + QUIET else 8, 6)) for seq in range(COUNT)]


def as_codes(codec):
    return {"format": "codes", "model": codec.fingerprint, "bandwidth": 6.0, "pace": "fast"}


def seqs(heard):
    return [p.seq for p in heard.of(Packet)]


def books_balance(heard):
    """Each number from the first packet on is a packet's or was left out; nothing was lost."""
    told = set(seqs(heard)) | {seq for gap in heard.of(Gap) for seq in range(gap.first_seq, gap.next_seq)}
    assert told == set(range(heard.of(StreamStart)[0].first_seq, COUNT))
    assert {gap.reason for gap in heard.of(Gap)} == {SILENCE}
    assert heard.listener.lost == 0


def decoded(codec, packets, start):
    decoder = codec.stream_decoder(6.0, start=start)
    return np.concatenate([*map(decoder.feed, packets), decoder.flush()])


@pytest.mark.parametrize("middle", [LOUD + 10, LOUD + 15, LOUD + QUIET - 1])
def test_a_listener_that_joins_in_a_pause_gets_history_from_before_the_packets_that_were_left_out(middle):
    codec, packets = offline_codec(), talk()

    async def main():
        async with serving(limits=small_limits(resume_s=10.0)) as server, contextlib.AsyncExitStack() as stack:
            every = await listening(stack, server.url, "a", codec)
            publisher = await stack.enter_async_context(publish(server.url, "a", PublishOptions(**as_codes(codec))))
            for codes in packets[: middle + 1]:
                await publisher.send(codes)
            last = max(seq for seq in SENT if seq <= middle)
            await every.to(lambda heard: last in seqs(heard))
            late = await listening(stack, server.url, "a", codec, history_ms=1000)
            late_pcm = await listening(stack, server.url, "a", format="pcm_f32le")
            for heard in (late, late_pcm):
                await heard.to(lambda heard: heard.of(StreamStart))
            for codes in packets[middle + 1 :]:
                await publisher.send(codes)
            await publisher.end()
            for heard in (every, late, late_pcm):
                await heard.to_end()
                books_balance(heard)
        assert seqs(every) == SENT
        start = late.of(StreamStart)[0]
        # A second of packets, however long ago they were spoken.
        assert sum(seq < start.live_seq for seq in seqs(late)) == min(13, sum(seq < start.live_seq for seq in SENT))
        assert seqs(late) == [seq for seq in SENT if seq >= start.first_seq]
        assert late.audio(codec).size == sum(seq >= start.live_seq for seq in SENT) * PACKET
        assert late.audio(codec, fill_gaps=True).size == (COUNT - start.live_seq) * PACKET
        first = late_pcm.of(StreamStart)[0].first_seq
        assert seqs(late_pcm) == [seq for seq in SENT if seq >= first]
        # The history reached across the pause to the first packet: the server's decoder is where it would be had it been there.
        begin = every.of(StreamStart)[0].start
        whole = decoded(codec, [packets[seq] for seq in SENT], begin)[-LOUD * PACKET :]
        heard = late_pcm.audio()[-LOUD * PACKET :]
        np.testing.assert_allclose(heard, whole, atol=1e-4)

    run(main())


def test_a_listener_that_loses_its_connection_in_a_pause_hears_the_stream_as_if_nothing_had_happened():
    codec, packets = offline_codec(), talk()
    middle = LOUD + 15

    async def main():
        async with serving(limits=small_limits(resume_s=30.0)) as server, contextlib.AsyncExitStack() as stack:
            broken = Heard(await stack.enter_async_context(listen(server.url, "a", model=codec.fingerprint)))
            broken_pcm = Heard(await stack.enter_async_context(listen(server.url, "a", format="pcm_f32le")))
            every = await listening(stack, server.url, "a", codec)
            publisher = await stack.enter_async_context(publish(server.url, "a", PublishOptions(**as_codes(codec))))
            for codes in packets[: middle + 1]:
                await publisher.send(codes)
            for heard in (broken, broken_pcm, every):
                await heard.to(lambda heard: LOUD + 10 in seqs(heard))
                if heard is not every:
                    heard.listener._connection._ws.transport.abort()
            publisher._uplink.connection._ws.transport.abort()
            await until(lambda: publisher.resumed)
            for codes in packets[middle + 1 :]:
                await publisher.send(codes)
            await publisher.end()
            for heard in (broken, broken_pcm, every):
                await heard.to_end()
                books_balance(heard)
                assert seqs(heard) == SENT
            assert publisher.resumed == broken.listener.resumed == broken_pcm.listener.resumed == 1
        for packet in broken.of(Packet):
            np.testing.assert_array_equal(unpack_codes(packet.payload, packet.n_q, 10), packets[packet.seq])
        start = every.of(StreamStart)[0].start
        expected = decoded(codec, [packets[seq] for seq in SENT], start)
        np.testing.assert_allclose(broken.audio(codec), expected, atol=1e-4)
        np.testing.assert_allclose(broken_pcm.audio(), expected, atol=1e-4)

    run(main())


def test_an_epoch_of_a_publisher_of_codes_begins_behind_what_was_left_out():
    async def main():
        async with serving() as server, contextlib.AsyncExitStack() as stack:
            codec = offline_codec()
            heard = await listening(stack, server.url, "a", codec)
            async with raw(server.url) as client:
                hello = {"type": "hello", "version": 1, "role": "publish", "stream": "a", "format": "codes", "model": codec.fingerprint}
                await client.send({**hello, "bandwidth": 6.0, "packet_frames": 6})
                await client.receive()
                for seq in range(4):
                    await client.send(codes_packet(seq, n_q=1))
                await client.send(codes_packet(4, epoch=1))
                await client.send({"type": "end", "last_seq": 4})
                await heard.to_end()
        assert [e.type if not isinstance(e, Packet) else e.seq for e in heard.events[1:]] == ["start", 0, "gap", "start", 4, "stream_end"]
        assert heard.of(Gap) == [Gap(first_seq=1, count=3, reason=SILENCE)]

    run(main())


def test_a_listener_that_takes_nothing_during_a_pause_loses_nothing_of_the_speech_behind_it():
    codec = offline_codec()
    x = voice(1, 1.6)
    x[PACKET * 4 :] = 0
    x = np.concatenate([x, np.zeros(40 * PACKET, np.float32), voice(2, 0.8)])

    async def main():
        async with serving(limits=small_limits(listener_queue_s=2.0)) as server, contextlib.AsyncExitStack() as stack:
            slow = await stack.enter_async_context(raw(server.url))
            await slow.send(listen_hello("a", format="codes", model=codec.fingerprint))
            await slow.receive()
            other = await listening(stack, server.url, "a", codec)
            publishing = asyncio.create_task(publish_all(server.url, "a", x, bandwidth=6.0, silence_db=-50))
            await other.to_end()
            ended = await publishing
            got = [await slow.receive()]
            while not (isinstance(got[-1], dict) and got[-1]["type"] == "stream_end"):
                got.append(await slow.receive())
        assert [m[0] for m in got if isinstance(m, list)] == seqs(other)
        assert ended.emitted == len(x) // PACKET
        assert {m["reason"] for m in got if isinstance(m, dict) and m["type"] == "gap"} == {SILENCE}
        assert len(seqs(other)) < 30

    run(main())
