"""A publisher's silence costs next to nothing where it asks for that, and nothing else about its stream is any different."""

from __future__ import annotations

import contextlib
from itertools import pairwise

import numpy as np
import pytest
from parity import assert_same_codes
from server_rig import (
    PACKET,
    Heard,
    figures,
    is_clean,
    listening,
    offline_audio,
    offline_codec,
    offline_codes,
    publish_all,
    publish_hello,
    raw,
    run,
    serving,
    small_limits,
    voice,
)
from server_rig import packet as codes_packet

from streamcodec.client import PublishOptions, listen, publish
from streamcodec.errors import InputError
from streamcodec.protocol import SILENCE, Gap, Packet, StreamEnd, StreamStart, payload_size, unpack_codes

LOUD = 10
QUIET = 30
HANGOVER = 4
PACKETS = 2 * LOUD + QUIET
N_Q = 8
FIRST, BEHIND = LOUD + HANGOVER, LOUD + QUIET
# Of the quiet packets the first is sent and then each tenth: one every 0.8 s.
LEFT_OUT = {seq for seq in range(FIRST, BEHIND) if (seq - FIRST) % 10}


def with_a_pause(seed=1):
    """Loud packets, as many quiet ones (-60 dBFS of noise) as make a pause, and loud ones again: [T], in 16-bit values."""
    x = voice(seed, PACKETS * 0.08)
    rng = np.random.default_rng(0)
    x[LOUD * PACKET : (LOUD + QUIET) * PACKET] = rng.normal(0, 0.001, QUIET * PACKET)
    # A gliding tone begins and ends softly: these shall be loud from the first part to the last.
    x[: LOUD * PACKET] += 0.05 * np.sign(np.sin(np.arange(LOUD * PACKET) / 20))
    x[(LOUD + QUIET) * PACKET :] += 0.05 * np.sign(np.sin(np.arange(LOUD * PACKET) / 20))
    return (np.rint(np.clip(x, -1, 1) * 32_767) / 32_768).astype(np.float32)


EXPECTED = [N_Q] * FIRST + [1] * (BEHIND - FIRST) + [N_Q] * LOUD
SENT = {seq: n_q for seq, n_q in enumerate(EXPECTED) if seq not in LEFT_OUT}
GAPS = [(FIRST + 1, 9), (FIRST + 11, 9), (FIRST + 21, BEHIND - FIRST - 21)]


def numbers(heard: Heard):
    return {packet.seq: packet.n_q for packet in heard.of(Packet)}


def gaps(heard: Heard):
    assert all(gap.reason == SILENCE for gap in heard.of(Gap))
    return [(gap.first_seq, gap.count) for gap in heard.of(Gap)]


def at_once(heard: Heard):
    """Whether each gap came right before the packet or the end that needed it."""
    return all(isinstance(after, (Packet, StreamEnd)) for gap, after in pairwise(heard.events) if isinstance(gap, Gap))


def pieces(heard: Heard):
    return [unpack_codes(p.payload, p.n_q, 10) for p in heard.of(Packet)]


def decoded(codec, packets, start, n_q):
    """What an offline decoder makes of packets of codes."""
    decoder = codec.stream_decoder(codec.config.bandwidth_of(n_q), start=start)
    return np.concatenate([*map(decoder.feed, packets), decoder.flush()])


@pytest.mark.parametrize("start", ["exact", "primed"])
def test_quiet_packets_have_one_codebook_and_everybody_decodes_them(start):
    codec = offline_codec()
    x = with_a_pause()

    async def main():
        async with serving() as server, contextlib.AsyncExitStack() as stack:
            every = await listening(stack, server.url, "a", codec)
            fewer = await listening(stack, server.url, "a", codec, bandwidth=1.5)
            as_pcm = await listening(stack, server.url, "a", format="pcm_f32le")
            plain = await listening(stack, server.url, "b", codec)
            plain_pcm = await listening(stack, server.url, "b", format="pcm_f32le")
            ended = await publish_all(server.url, "a", x, bandwidth=6.0, start=start, silence_db=-50)
            assert (ended.emitted, ended.dropped) == (PACKETS, 0)
            assert server.metrics.packets_quiet == QUIET - HANGOVER
            await publish_all(server.url, "b", x, bandwidth=6.0, start=start)
            assert server.metrics.packets_quiet == QUIET - HANGOVER
            for heard in (every, fewer):
                await heard.to_end()
                assert gaps(heard) == GAPS
                assert at_once(heard)
                assert (heard.listener.lost, heard.listener.silent) == (0, len(LEFT_OUT))
            # They are counted while the listeners are there.
            assert server.registry.num_listeners == 5
            assert (await figures(server))["packets_thinned_total"] == 2 * len(LEFT_OUT)
            for heard in (as_pcm, plain, plain_pcm):
                await heard.to_end()
                assert heard.of(Gap) == []
                assert [p.seq for p in heard.of(Packet)] == list(range(PACKETS))
        assert server.metrics.packets_thinned == 2 * len(LEFT_OUT)
        assert server.metrics.packets_dropped_listener == 0
        assert numbers(every) == SENT
        assert numbers(fewer) == {seq: min(2, n_q) for seq, n_q in SENT.items()}
        assert numbers(plain) == dict.fromkeys(range(PACKETS), N_Q)
        assert [len(p.payload) for p in every.of(Packet)] == [payload_size(n_q, 6) for n_q in SENT.values()]
        assert len(every.of(Packet)[FIRST].serialize()) <= 8 + 14
        # A pause of 2 s costs a twelfth of what it did with all codebooks.
        silent = [m for m in every.events if isinstance(m, (Packet, Gap)) and FIRST <= getattr(m, "seq", FIRST) < BEHIND]
        whole = sum(len(p.serialize()) for p in plain.of(Packet)[FIRST:BEHIND])
        assert sum(len(m.serialize()) for m in silent) < whole / 9
        assert every.of(StreamStart)[0].n_q == N_Q
        # The encoder never notices: what there is of the codes is what there would have been.
        expected = offline_codes(codec, x, 6.0, start)
        for n_q in set(SENT.values()):
            sent = expected[:n_q].copy()
            for seq, piece in zip(SENT, pieces(every), strict=True):
                if len(piece) == n_q:
                    sent[:, 6 * seq : 6 * seq + 6] = piece
            assert_same_codes(codec, sent, expected[:n_q], x, start)
        np.testing.assert_allclose(every.audio(codec), decoded(codec, pieces(every), start, N_Q), atol=1e-4)
        np.testing.assert_allclose(fewer.audio(codec), decoded(codec, pieces(fewer), start, 2), atol=1e-4)
        np.testing.assert_allclose(as_pcm.audio(), decoded(codec, cut(plain.codes(codec), EXPECTED), start, N_Q), atol=1e-4)
        assert every.audio(codec, fill_gaps=True).size == PACKETS * PACKET
        # Up to the first quiet packet it is the stream that it would have been; a decoder is causal.
        before = FIRST * PACKET
        np.testing.assert_allclose(every.audio(codec)[:before], plain.audio(codec)[:before], atol=1e-4)
        np.testing.assert_allclose(as_pcm.audio()[:before], plain_pcm.audio()[:before], atol=1e-4)
        np.testing.assert_allclose(plain_pcm.audio(), offline_audio(codec, plain.codes(codec), 6.0, start), atol=1e-4)

    run(main())


def cut(codes, numbers):
    """Codes [n_q, F] as packets of 6 frames with so many codebooks each."""
    return [codes[:n_q, 6 * i : 6 * i + 6] for i, n_q in enumerate(numbers)]


@pytest.mark.parametrize(("rate", "channels", "packet_frames"), [(48_000, 2, 6), (16_000, 1, 25), (44_100, 1, 1)])
def test_silence_is_heard_in_any_rate_and_packet(rate, channels, packet_frames):
    codec = offline_codec()
    size = round(2.0 * rate)
    x = np.stack([np.full(size, 0.3, np.float32) * np.sign(np.sin(np.arange(size) * 3000 / rate)).astype(np.float32)] * channels)
    x[:, size // 4 :] = 0

    async def main():
        async with serving() as server, contextlib.AsyncExitStack() as stack:
            heard = await listening(stack, server.url, "a", codec)
            options = {"sample_rate": rate, "channels": channels, "packet_frames": packet_frames, "silence_db": -50}
            await publish_all(server.url, "a", x[0] if channels == 1 else x, block=777, **options)
            await heard.to_end()
        found = list(numbers(heard).values())
        first = found.index(1)
        assert found == [N_Q] * first + [1] * (len(found) - first)
        assert 2 <= len(found) - first <= 4
        # Half a second of sound and the hangover, told at the next packet, and what a resampler rings.
        packet_s = packet_frames / 75
        assert 0.8 <= first * packet_s <= 0.8 + packet_s + 0.03
        left_out = sum(count for _, count in gaps(heard))
        assert sum(codes.shape[1] for codes in pieces(heard)) + left_out * packet_frames == 150
        assert heard.audio(codec, fill_gaps=True).size == size * 24_000 // rate

    run(main())


def test_a_publisher_that_starts_afresh_is_heard_afresh():
    codec = offline_codec()
    silent, loud = np.zeros(3 * PACKET, np.float32), with_a_pause()[: 3 * PACKET + 500]

    async def main():
        async with serving() as server, contextlib.AsyncExitStack() as stack:
            heard = await listening(stack, server.url, "a", codec)
            publisher = await stack.enter_async_context(publish(server.url, "a", PublishOptions(pace="fast", silence_db=-50)))
            for part in (loud, silent, loud):
                await publisher.send(part)
                publisher._uplink.queue.lose(1)
            await publisher.end()
            await heard.to_end()
        found = {start.epoch: [p.n_q for p in heard.of(Packet) if p.epoch == start.epoch] for start in heard.of(StreamStart)}
        assert found == {0: [N_Q] * 4, 1: [1], 2: [N_Q] * 4}
        # What was left out is named before the new epoch.
        at = heard.events.index(heard.of(StreamStart)[2])
        assert Gap(first_seq=5, count=2, reason=SILENCE) in heard.events[at - 2 : at]

    run(main())


@pytest.mark.parametrize("history_ms", [0, 800])
def test_a_listener_that_joins_or_comes_back_during_silence_hears_what_the_others_hear(history_ms):
    codec = offline_codec()
    x = with_a_pause()

    async def main():
        async with serving(limits=small_limits(resume_s=30.0)) as server, contextlib.AsyncExitStack() as stack:
            every = await listening(stack, server.url, "a", codec)
            broken = Heard(await stack.enter_async_context(listen(server.url, "a", model=codec.fingerprint)))
            broken_pcm = Heard(await stack.enter_async_context(listen(server.url, "a", format="pcm_f32le")))
            unbroken_pcm = await listening(stack, server.url, "a", format="pcm_f32le")
            publisher = await stack.enter_async_context(
                publish(server.url, "a", PublishOptions(pace="fast", bandwidth=6.0, silence_db=-50))
            )
            middle = FIRST + 16
            await publisher.send(x[: (middle + 1) * PACKET])
            for heard in (every, broken):
                await heard.to(lambda heard: heard.of(Packet) and heard.of(Packet)[-1].seq == FIRST + 10)
            for heard in (broken_pcm, unbroken_pcm):
                await heard.to(lambda heard: len(heard.of(Packet)) >= middle - 1)
            for heard in (broken, broken_pcm):
                heard.listener._connection._ws.transport.abort()
            publisher._uplink.connection._ws.transport.abort()
            late = await listening(stack, server.url, "a", codec, history_ms=history_ms)
            late_few = await listening(stack, server.url, "a", codec, history_ms=history_ms, bandwidth=3.0)
            await late.to(lambda heard: heard.of(StreamStart))
            await late_few.to(lambda heard: heard.of(StreamStart))
            await publisher.send(x[(middle + 1) * PACKET :])
            await publisher.end()
            for heard in (every, broken, broken_pcm, unbroken_pcm, late, late_few):
                await heard.to_end()
            assert publisher.resumed == broken.listener.resumed == broken_pcm.listener.resumed == 1
        assert numbers(every) == SENT
        assert gaps(every) == GAPS
        # Who comes back gets all of what it missed, and then what the others get; of what went before and behind it nothing is different.
        assert numbers(broken).items() >= {seq: n_q for seq, n_q in SENT.items() if seq <= FIRST + 10 or seq >= BEHIND}.items()
        assert set(range(FIRST + 11, middle - 1)) <= set(numbers(broken))
        assert broken.listener.lost == late.listener.lost == 0
        theirs = {p.seq: p.payload for p in broken.of(Packet)}
        assert all(theirs.get(p.seq, p.payload) == p.payload for p in every.of(Packet))
        np.testing.assert_array_equal(broken_pcm.audio(), unbroken_pcm.audio())
        first = late.of(StreamStart)[0]
        assert first.live_seq - first.first_seq == history_ms // 80
        # Its history is whole.
        assert set(numbers(late)) >= set(range(first.first_seq, first.live_seq))
        for heard, most in ((late, N_Q), (late_few, 4)):
            assert all(n_q == min(most, EXPECTED[seq]) for seq, n_q in numbers(heard).items())
            assert set(range(BEHIND, PACKETS)) <= set(numbers(heard))
            assert at_once(heard)
            live_seq = heard.of(StreamStart)[0].live_seq
            assert len(heard.audio(codec, fill_gaps=True)) == (PACKETS - live_seq) * PACKET
            assert heard.listener.silent + len(numbers(heard)) == PACKETS - heard.of(StreamStart)[0].first_seq

    run(main())


def test_a_publisher_of_codes_leaves_codebooks_out_itself():
    codec = offline_codec()
    x = with_a_pause()
    encoder = codec.stream_encoder(6.0, silence_db=-50)
    packets = [*encoder.feed(x), *encoder.flush()]
    assert [len(codes) for codes in packets] == EXPECTED
    packets[3], packets[5] = packets[3][:5], packets[5][:3]
    sent = [seq for seq in range(PACKETS) if seq not in LEFT_OUT]

    async def main():
        async with serving() as server, contextlib.AsyncExitStack() as stack:
            every = await listening(stack, server.url, "a", codec)
            fewer = await listening(stack, server.url, "a", codec, bandwidth=3.0)
            as_pcm = await listening(stack, server.url, "a", format="pcm_f32le")
            options = {"format": "codes", "model": codec.fingerprint, "bandwidth": 6.0, "pace": "fast"}
            async with publish(server.url, "a", PublishOptions(**options)) as publisher:
                for codes in packets:
                    await publisher.send(codes)
            for heard in (every, fewer, as_pcm):
                await heard.to_end()
                # As the publisher has thinned them, and no further.
                assert gaps(heard) == GAPS
                assert at_once(heard)
                assert [p.seq for p in heard.of(Packet)] == sent
        assert server.metrics.packets_quiet == len(SENT) - 2 * LOUD - HANGOVER + 2
        assert server.metrics.packets_thinned == 0
        for got, most in ((every, 8), (fewer, 4)):
            for packet, seq in zip(got.of(Packet), sent, strict=True):
                np.testing.assert_array_equal(unpack_codes(packet.payload, packet.n_q, 10), packets[seq][:most])
        start = every.of(StreamStart)[0].start
        np.testing.assert_allclose(as_pcm.audio(), decoded(codec, pieces(every), start, N_Q), atol=1e-4)
        np.testing.assert_allclose(every.audio(codec), decoded(codec, pieces(every), start, N_Q), atol=1e-4)
        for heard in (every, as_pcm):
            assert heard.audio(codec if heard is every else None, fill_gaps=True).size == PACKETS * PACKET

    run(main())


@pytest.mark.parametrize("n_q", [9, 16, 32])
def test_more_codebooks_than_the_stream_has_are_a_bad_payload(n_q):
    async def main():
        async with serving() as server:
            async with raw(server.url) as client:
                await client.send(publish_hello())
                await client.receive()
                await client.send(codes_packet(n_q=1))
                await client.send(codes_packet(1, n_q=n_q))
                word, code = await client.last_word()
            assert (word["code"], code) == ("bad_payload", 4415)
            assert f"n_q is {n_q}, expected 1 to 8" in word["reason"]
            await is_clean(server)

    run(main())


def test_a_threshold_that_is_no_level_is_refused_by_name():
    async def main():
        async with serving() as server:
            async with raw(server.url) as client:
                await client.send(publish_hello(silence_db=-50))
                word, code = await client.last_word()
            assert (word["code"], code) == ("bad_request", 4422)
            assert "silence_db is -50, expected null with format 'codes'" in word["reason"]
            with pytest.raises(InputError, match=r"silence_db is 3, expected a number from -120 to 0 or null"):
                publish(server.url, "a", PublishOptions(silence_db=3))

    run(main())
