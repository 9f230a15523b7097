"""A real server on loopback: what goes in comes out at every listener, exactly, whoever else is there and whatever they do."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import threading
from itertools import pairwise

import numpy as np
import pytest
from server_rig import (
    PACKET,
    TIMEOUT_S,
    StoppedClock,
    beside_a_stream,
    figures,
    gated,
    http_get,
    listening,
    offline_audio,
    offline_codec,
    offline_codes,
    packet,
    publish_all,
    publish_hello,
    raw,
    run,
    same_codes,
    samples,
    serving,
    small_limits,
    tiny_codec,
    until,
    voice,
)

import streamcodec
import streamcodec.server.fanout.pcm as pcm_module
import streamcodec.server.stream as stream_module
from streamcodec.client import Player, PublishOptions, listen, publish
from streamcodec.errors import Refused
from streamcodec.protocol import Gap, Packet, StreamEnd, StreamStart, Waiting, unwrap_timestamp
from streamcodec.server import DEFAULT_PORT, Server

BANDWIDTHS = [1.5, 3.0, 6.0, 12.0, 24.0]


# What goes in comes out ------------------------------------------------------------------------------------------------------------------


async def crowd(server, codec, source, seconds=1.0):
    """Publishers of every kind, each with listeners of every kind, all at once; `source(seed, ...)` makes their audio."""
    plans = {
        "pcm24": {"bandwidth": 24.0},
        "pcm48-stereo": {"bandwidth": 6.0, "sample_rate": 48_000, "channels": 2, "format": "pcm_f32le"},
        "pcm16": {"bandwidth": 1.5, "sample_rate": 16_000, "packet_frames": 25},
        "exact": {"bandwidth": 12.0, "start": "exact", "packet_frames": 1},
        "codes": {"bandwidth": 24.0, "format": "codes", "model": codec.fingerprint},
    }
    clips, counts, heard = {}, {}, {}
    async with contextlib.AsyncExitStack() as stack:
        for name in plans:
            at_most = plans[name]["bandwidth"]
            for bandwidth in [b for b in BANDWIDTHS if b <= at_most] + [None]:
                heard[name, bandwidth] = await listening(stack, server.url, name, codec, bandwidth=bandwidth)
            for format in ("pcm_s16le", "pcm_f32le"):
                heard[name, format] = await listening(stack, server.url, name, format=format)
        readers = [asyncio.create_task(h.to_end()) for h in heard.values()]

        async def one(seed, name, plan):
            rate, channels = plan.get("sample_rate", 24_000), plan.get("channels", 1)
            clips[name] = source(seed, seconds, rate, channels)
            if name == "codes":
                codes = clips[name] = codec.encode(clips[name], bandwidth=plan["bandwidth"])
                counts[name] = await publish_all(server.url, name, codes, block=6, **plan)
            else:
                counts[name] = await publish_all(server.url, name, clips[name], block=777, **plan)

        await asyncio.gather(*(one(seed, name, plan) for seed, (name, plan) in enumerate(plans.items())))
        await asyncio.gather(*readers)
    for name, plan in plans.items():
        full = heard[name, None]
        start = full.of(StreamStart)[0].start
        bandwidth, rate = plan["bandwidth"], plan.get("sample_rate", 24_000)
        codes = full.codes(codec)
        if name == "codes":
            np.testing.assert_array_equal(codes, clips[name])
        else:
            mono = clips[name].mean(axis=0) if clips[name].ndim == 2 else clips[name]
            assert start == plan.get("start", codec.engine.traits.default_live_start)
            same_codes(codec, codes, mono, bandwidth, start, rate)
        assert counts[name].dropped == 0
        assert counts[name].emitted == len(full.of(Packet)) == -(-codes.shape[1] // plan.get("packet_frames", 6))
        for kind in [key for owner, key in heard if owner == name]:
            h = heard[name, kind]
            assert h.of(Gap) == []
            assert [type(e) for e in h.events[:2]] == [Waiting, StreamStart]
            if isinstance(kind, float):
                # A lower bandwidth is the same packets, cut: nothing was encoded again.
                np.testing.assert_array_equal(h.codes(codec), codes[: codec.config.n_q_for(kind)])
            if kind in ("pcm_s16le", "pcm_f32le"):
                expected = offline_audio(codec, codes, bandwidth, start)
                np.testing.assert_allclose(h.audio(), np.clip(expected, -1, 1) if kind == "pcm_s16le" else expected, atol=1.5e-4)
            elif kind is None:
                np.testing.assert_allclose(h.audio(codec), offline_audio(codec, codes, bandwidth, start), atol=1e-4)


def test_many_streams_of_every_kind_reach_listeners_of_every_kind_exactly_with_a_reflecting_model():
    async def main():
        async with serving() as server:
            await crowd(server, offline_codec(), voice)

    run(main())


def test_the_embedded_model_carries_real_speech_exactly(speech_codec, speech):
    def source(seed, seconds, rate, channels):
        clip = speech[24_000 * seed :][: round(seconds * rate)]
        clip = np.rint(clip * 32_768) / np.float32(32_768)
        return clip if channels == 1 else np.stack([clip, clip[::-1]])

    async def main():
        async with serving(streamcodec.load()) as server:
            await crowd(server, speech_codec, source, seconds=0.6)

    run(main())


def test_packets_carry_the_time_at_which_they_were_captured():
    async def main():
        async with serving() as server, contextlib.AsyncExitStack() as stack:
            heard = await listening(stack, server.url, "a", offline_codec())
            async with publish(server.url, "a", PublishOptions(pace="fast")) as publisher:
                at = 5_000_000_000
                for i in range(10):
                    await publisher.send(voice(1, 0.08), captured_us=at + 80_000 * i)
                await publisher.end()
                first = publisher.server_time(at)
            await heard.to_end()
            times = [packet.timestamp for packet in heard.of(Packet)]
            # The offset between the clocks may be measured better meanwhile: one machine's clocks are not 50 ms apart.
            assert abs(unwrap_timestamp(times[0], first) - first) < 50_000
            steps = [(b - a) % 2**32 for a, b in pairwise(times)]
            assert all(abs(step - 80_000) < 50_000 for step in steps)

    run(main())


def test_traces_tell_each_packet_s_way_through_the_server_in_order():
    async def main():
        async with serving() as server:
            traces = []
            server.metrics.on_trace = traces.append
            await publish_all(server.url, "a", voice(1, 0.8))
            assert [trace.seq for trace in traces] == list(range(10))
            assert all(t.received <= t.started <= t.done <= t.emitted for t in traces)

    run(main())


# Late, early and again -------------------------------------------------------------------------------------------------------------------


async def halves(server, codec, join, start=None, seconds=1.6, bandwidth=6.0):
    """Publish half a clip, wait until it has come out, let `join` open listeners, publish the rest; returns (always there, joined)."""
    x = voice(2, seconds)
    half = len(x) // 2 // PACKET * PACKET
    async with contextlib.AsyncExitStack() as stack:
        always = await listening(stack, server.url, "late", codec)
        publisher = await stack.enter_async_context(
            publish(server.url, "late", PublishOptions(pace="fast", start=start, bandwidth=bandwidth))
        )
        await publisher.send(x[:half])
        await until(lambda: server.registry.streams["late"].numbering.next_seq >= half // PACKET - 1)
        joined = await join(stack)
        await publisher.send(x[half:])
        await publisher.end()
        await always.to_end()
        for heard in joined:
            await heard.to_end()
    return always, joined


@pytest.mark.parametrize("start", ["exact", "primed"])
def test_a_listener_that_joins_within_the_first_second_hears_exactly_what_the_others_hear(start):
    codec = offline_codec()

    async def main():
        async with serving() as server:

            async def join(stack):
                return [
                    await listening(stack, server.url, "late", codec),
                    await listening(stack, server.url, "late", format="pcm_f32le"),
                ]

            always, (late, pcm) = await halves(server, codec, join, start)
            began = late.of(StreamStart)[0]
            assert (began.start, began.first_seq, began.reason) == (start, 0, "joined")
            assert began.live_seq > 0
            assert [p.payload for p in late.of(Packet)] == [p.payload for p in always.of(Packet)]
            audio = always.audio(codec)
            np.testing.assert_array_equal(late.audio(codec), audio[began.live_seq * PACKET :])
            at = pcm.of(StreamStart)[0].live_seq
            np.testing.assert_allclose(pcm.audio(), audio[at * PACKET :], atol=1e-4)

    run(main())


def test_a_listener_that_joins_later_gets_a_history_that_ends_where_the_live_packets_begin():
    codec = offline_codec()

    async def main():
        async with serving() as server:

            async def join(stack):
                return [
                    await listening(stack, server.url, "late", codec, bandwidth=3.0),
                    await listening(stack, server.url, "late", codec, history_ms=200),
                    await listening(stack, server.url, "late", codec, history_ms=0),
                ]

            always, (full, short, none) = await halves(server, codec, join, seconds=6.0)
            for heard, history in ((full, 25), (short, 3), (none, 0)):
                began = heard.of(StreamStart)[0]
                assert began.start == "resumed"
                assert began.live_seq - began.first_seq == history
                n_q = began.n_q
                np.testing.assert_array_equal(heard.codes(codec), always.codes(codec)[:n_q, began.live_seq * 6 :])
                assert heard.audio(codec).size == (len(always.of(Packet)) - began.live_seq) * PACKET
            assert full.of(StreamStart)[0].n_q == 4

    run(main())


@pytest.mark.parametrize("pace", ["live", "fast"])
@pytest.mark.parametrize("frames", [1, 6, 7, 25])
def test_a_history_comes_whole_whatever_the_packets_length(frames, pace):
    codec = offline_codec()
    codes = np.random.default_rng(frames).integers(0, 1024, (8, 300))

    async def main():
        async with serving() as server, contextlib.AsyncExitStack() as stack:
            options = {"model": codec.fingerprint, "packet_frames": frames, "pace": pace, "queue_s": 60.0}
            publisher = await stack.enter_async_context(publish(server.url, "a", PublishOptions(format="codes", **options)))
            at = range(0, codes.shape[1], frames)
            for i in at[:-2]:
                publisher.offer(codes[:, i : i + frames])
            await until(lambda: "a" in server.registry.streams and server.registry.streams["a"].numbering.next_seq == len(at) - 2)
            late = await listening(stack, server.url, "a", codec)
            await late.to(lambda h: h.of(StreamStart))
            for i in at[-2:]:
                publisher.offer(codes[:, i : i + frames])
            await publisher.end()
            await late.to_end()
            began = late.of(StreamStart)[0]
            assert (began.live_seq - began.first_seq) * frames >= 150
            assert late.of(Gap) == []
            assert [p.seq for p in late.of(Packet)] == list(range(began.first_seq, len(at)))

    run(main())


def test_a_server_without_a_history_starts_late_listeners_at_the_present():
    codec = offline_codec()

    async def main():
        async with serving(limits=small_limits(history_s=0.0)) as server:

            async def join(stack):
                return [await listening(stack, server.url, "late", codec), await listening(stack, server.url, "late", format="pcm_s16le")]

            _, (late, pcm) = await halves(server, codec, join)
            assert late.of(StreamStart)[0].first_seq == late.of(StreamStart)[0].live_seq > 0
            assert pcm.of(Gap) == []

    run(main())


def test_a_listener_waits_for_a_stream_is_told_so_and_waits_again_for_the_next_one():
    codec = offline_codec()

    async def main():
        async with serving() as server, contextlib.AsyncExitStack() as stack:
            as_codes = await listening(stack, server.url, "a", codec)
            as_pcm = await listening(stack, server.url, "a", format="pcm_s16le")
            for heard in (as_codes, as_pcm):
                await heard.to(lambda h: h.events)
                assert heard.events == [Waiting(stream="a")]
                assert heard.listener.welcome.n_q is None
            first, second = voice(1, 0.5), voice(2, 0.7)
            await publish_all(server.url, "a", first, bandwidth=3.0)
            await publish_all(server.url, "a", second, bandwidth=24.0, start="exact", packet_frames=4)
            for heard in (as_codes, as_pcm):
                await heard.to_end(2)
                starts, ends = heard.of(StreamStart), heard.of(StreamEnd)
                assert [(s.epoch, s.first_seq, s.live_seq, s.reason) for s in starts] == [(0, 0, 0, "published")] * 2
                assert [(s.n_q, s.packet_frames, s.start) for s in starts] == [(4, 6, "primed"), (32, 4, "exact")]
                assert [e.next_seq for e in ends] == [7, 14]
                assert all(e.reason == "the publisher ended it" for e in ends)
            expected = [
                offline_audio(codec, offline_codes(codec, x, b, s), b, s) for x, b, s in ((first, 3.0, "primed"), (second, 24.0, "exact"))
            ]
            np.testing.assert_allclose(as_codes.audio(codec), np.concatenate(expected), atol=1e-4)

    run(main())


def test_listeners_come_and_go_in_the_middle_of_a_stream_and_nobody_notices():
    codec = offline_codec()

    async def main():
        async with serving() as server:

            async def incident():
                async def visit(i):
                    options = {"model": codec.fingerprint} if i % 2 else {"format": "pcm_s16le"}
                    async with listen(server.url, "steady", **options) as listener:
                        assert isinstance(await anext(listener), StreamStart)

                await asyncio.gather(*(visit(i) for i in range(12)))

            await beside_a_stream(server, incident)

    run(main())


def test_a_pcm_listener_that_joins_while_the_last_one_s_decoder_still_works_is_not_given_its_packets():
    codec, engine = gated()

    async def main():
        async with serving(codec) as server, contextlib.AsyncExitStack() as stack:
            publisher = await stack.enter_async_context(publish(server.url, "a", PublishOptions(pace="fast")))
            async with listen(server.url, "a", format="pcm_f32le") as first:
                assert isinstance(await anext(first), StreamStart)
                engine.decoding.clear()
                await publisher.send(voice(1, 0.16))
                await until(engine.held.is_set)
            await until(lambda: not server.registry.num_listeners)
            second = await listening(stack, server.url, "a", format="pcm_f32le")
            await second.to(lambda h: h.of(StreamStart))
            engine.open()
            await publisher.send(voice(1, 0.8))
            await publisher.end()
            await second.to_end()
            assert second.of(Gap) == []

    run(main())


# Overload --------------------------------------------------------------------------------------------------------------------------------


def test_a_live_stream_that_the_machine_cannot_follow_loses_packets_tells_everybody_and_starts_afresh(monkeypatch):
    clock = StoppedClock(monkeypatch, stream_module)
    codec, engine = gated()
    offline = offline_codec()

    async def main():
        limits = small_limits(encode_wait_s=0.3, resume_s=10.0)
        async with serving(codec, limits=limits) as server, contextlib.AsyncExitStack() as stack:
            as_codes = await listening(stack, server.url, "a", offline)
            as_pcm = await listening(stack, server.url, "a", format="pcm_f32le")
            engine.encoding.clear()
            x = voice(3, 40 * 0.08)
            publisher = await stack.enter_async_context(publish(server.url, "a", PublishOptions(bandwidth=6.0, queue_s=60)))
            at = 1_000_000
            stream = server.registry.streams["a"]
            for i in range(13):
                publisher.offer(x[i * PACKET : (i + 1) * PACKET], captured_us=at + 80_000 * i)
            await until(lambda: stream.totals.received == 13)
            assert stream.totals.dropped == 0
            clock.us += 350_000
            for i in range(13, 30):
                publisher.offer(x[i * PACKET : (i + 1) * PACKET], captured_us=at + 80_000 * i)
            await until(lambda: stream.totals.received == 30)
            assert stream.totals.dropped == 17
            await until(lambda: publisher.server_dropped == 17)
            engine.open()
            await until(lambda: stream.totals.emitted == 13)
            for i in range(30, 40):
                publisher.offer(x[i * PACKET : (i + 1) * PACKET], captured_us=at + 80_000 * i)
            ended = await publisher.end()
            assert (ended.received, ended.emitted, ended.dropped) == (40, 23, 17)
            for heard in (as_codes, as_pcm):
                await heard.to_end()
                assert heard.of(Gap) == [Gap(first_seq=13, count=17, reason="overload")]
                assert [(s.epoch, s.first_seq, s.reason) for s in heard.of(StreamStart)] == [(0, 0, "published"), (1, 30, "overload")]
                assert [p.seq for p in heard.of(Packet)] == [*range(13), *range(30, 40)]
            parts = np.split(as_codes.codes(offline), [6 * 13], axis=1)
            for part, spoken in zip(parts, (x[: 13 * PACKET], x[30 * PACKET :]), strict=True):
                same_codes(offline, part, spoken, 6.0, "primed")
            expected = [offline_audio(offline, part, 6.0, "primed") for part in parts]
            np.testing.assert_allclose(as_pcm.audio(), np.concatenate(expected), atol=1e-4)
            np.testing.assert_allclose(as_codes.audio(offline), np.concatenate(expected), atol=1e-4)
            silence = np.zeros(17 * PACKET, np.float32)
            filled = as_codes.audio(offline, fill_gaps=True)
            np.testing.assert_allclose(filled, np.concatenate([expected[0], silence, expected[1]]), atol=1e-4)

    run(main())


def test_a_fast_publisher_is_held_back_and_loses_nothing():
    codec, engine = gated()
    offline = offline_codec()

    async def main():
        async with serving(codec) as server, contextlib.AsyncExitStack() as stack:
            heard = await listening(stack, server.url, "a", offline)
            engine.encoding.clear()
            x = voice(4, 6.0)
            publishing = asyncio.create_task(publish_all(server.url, "a", x, bandwidth=3.0))
            await until(lambda: "a" in server.registry.streams and server.registry.streams["a"]._source.backlog_s > 0.5)
            await until(engine.held.is_set)
            for _ in range(500):
                await asyncio.sleep(0)
            assert server.registry.streams["a"]._source.backlog_s < 0.7
            assert not publishing.done()
            reading = asyncio.create_task(heard.to_end())
            engine.open()
            ended = await publishing
            await reading
            assert ended.dropped == 0
            assert heard.of(Gap) == []
            same_codes(offline, heard.codes(offline), x, 3.0, "primed")

    run(main())


def test_a_fast_publisher_of_codes_is_held_back_by_the_decoder_of_its_listeners():
    codec, engine = gated()
    offline = offline_codec()

    async def main():
        # However long it takes: only for listeners it waits so long and no longer.
        limits = small_limits(stall_s=0.02)
        async with serving(codec, limits=limits) as server, contextlib.AsyncExitStack() as stack:
            heard = await listening(stack, server.url, "a", format="pcm_f32le")
            engine.decoding.clear()
            codes = offline.encode(voice(4, 6.0), bandwidth=6.0)
            options = {"format": "codes", "model": offline.fingerprint, "start": "primed"}
            publishing = asyncio.create_task(publish_all(server.url, "a", codes, block=6, **options))
            await until(engine.held.is_set)
            stream = server.registry.streams["a"]
            await until(lambda: stream.fan_out.pcm.decoder.backlog_s > 0.5)
            for _ in range(500):
                await asyncio.sleep(0)
            assert server.registry.streams["a"].fan_out.pcm.decoder.backlog_s < 0.7
            reading = asyncio.create_task(heard.to_end())
            engine.open()
            await publishing
            await reading
            assert heard.of(Gap) == []
            np.testing.assert_allclose(heard.audio(), offline_audio(offline, codes, 6.0, "primed"), atol=1e-4)

    run(main())


@pytest.mark.parametrize("form", ["codes", "pcm_s16le"])
def test_a_fast_stream_reaches_listeners_of_pcm_whole_however_slow_the_decoder_is(form, monkeypatch):
    codec, engine = gated()
    offline = offline_codec()
    clock = StoppedClock(monkeypatch, pcm_module)
    decode, backlog, backlogs = engine.decode, None, []

    def slowly(*args, **options):
        clock.us += 30_000
        if backlog is not None:
            backlogs.append(backlog())
        return decode(*args, **options)

    engine.decode = slowly

    async def main():
        nonlocal backlog
        # Every packet waits longer than a live one might, and all of them for longer than a listener is waited for.
        limits = small_limits(decode_wait_s=0.05, stall_s=0.1)
        async with serving(codec, limits=limits) as server, contextlib.AsyncExitStack() as stack:
            heard = await listening(stack, server.url, "a", format="pcm_f32le")
            reading = asyncio.create_task(heard.to_end())
            x = voice(4, 60 * 0.08)
            coded = form == "codes"
            sound = offline.encode(x, bandwidth=6.0) if coded else x
            options = {"format": "codes", "model": offline.fingerprint} if coded else {"bandwidth": 6.0}
            engine.decoding.clear()
            publishing = asyncio.create_task(publish_all(server.url, "a", sound, block=6 if coded else 1920, **options))
            await until(engine.held.is_set)
            decoder = server.registry.streams["a"].fan_out.pcm.decoder
            # One worker encodes and decodes: what is not encoded yet cannot wait for the decoder.
            await until(lambda: decoder.backlog_s > (0.4 if coded else 0.0))
            backlog = lambda: decoder.backlog_s  # noqa: E731
            clock.us += 350_000
            engine.open()
            await publishing
            await reading
            assert heard.of(Gap) == []
            assert [p.seq for p in heard.of(Packet)] == list(range(60))
            assert server.metrics.packets_dropped_decoder == 0
            assert 0.0 < max(backlogs) <= 2.0, "the publisher waits"

    run(main())


def test_live_codes_that_the_decoder_cannot_follow_reach_listeners_of_codes_whole_and_those_of_pcm_with_a_gap(monkeypatch):
    """Behind the gap they hear what a player of the codes hears that has seen the same gap."""
    clock = StoppedClock(monkeypatch, pcm_module)
    codec, engine = gated()
    offline = offline_codec()

    async def main():
        limits = small_limits(decode_wait_s=0.3, resume_s=10.0)
        async with serving(codec, limits=limits) as server, contextlib.AsyncExitStack() as stack:
            as_codes = await listening(stack, server.url, "a", offline)
            as_pcm = await listening(stack, server.url, "a", format="pcm_f32le")
            reading = asyncio.create_task(as_codes.to_end())
            engine.decoding.clear()
            # Whatever a small random model makes of sound hardly changes: no state would tell what came before.
            codes = np.random.default_rng(4).integers(0, 1024, (8, 300), np.int32)
            options = {"format": "codes", "model": offline.fingerprint, "start": "primed"}
            publisher = await stack.enter_async_context(publish(server.url, "a", PublishOptions(queue_s=60, **options)))
            stream = server.registry.streams["a"]
            for at in range(0, 300, 6):
                await publisher.send(codes[:, at : at + 6])
                if at == 12 * 6:
                    await until(lambda: stream.totals.received == 13)
                    clock.us += 350_000
                if at == 39 * 6:
                    await until(lambda: stream.totals.received == 40)
                    engine.open()
                    await until(lambda: stream.fan_out.pcm.decoder.backlog_s == 0)
            await publisher.end()
            await reading
            await as_pcm.to_end()
            np.testing.assert_array_equal(as_codes.codes(offline), codes)
            assert [p.seq for p in as_pcm.of(Packet)] == [*range(13), *range(40, 50)]
            assert sum(gap.count for gap in as_pcm.of(Gap)) == 27
            assert server.metrics.packets_dropped_decoder == 27
            player, by_seq = Player(offline), {p.seq: p for p in as_codes.of(Packet)}
            player.feed(as_codes.of(StreamStart)[0])
            seen = [by_seq[event.seq] if isinstance(event, Packet) else event for event in as_pcm.events if isinstance(event, Packet | Gap)]
            np.testing.assert_allclose(as_pcm.audio(), np.concatenate([player.feed(event) for event in seen]), atol=1e-4)

    run(main())


# The beginning of the server -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("capacity", [None, 3])
def test_the_first_client_meets_nothing_that_runs_for_the_first_time(capacity):
    workers, frames = 2, (1, 2, 3, 6)
    codec, engine = gated()
    engine.workers = workers
    steps, all_workers = collections.Counter(), threading.Barrier(workers)

    def noted(kind, run):
        def step(data, *args, **options):
            all_workers.wait(TIMEOUT_S)
            steps[kind, len(data), data.shape[-1] // (codec.hop_length if kind == "encode" else 1)] += 1
            return run(data, *args, **options)

        return step

    engine.encode, engine.decode = noted("encode", engine.encode), noted("decode", engine.decode)

    async def main():
        async with serving(codec, limits=small_limits(capacity=capacity, resume_s=10.0)):
            assert all(steps[kind, 1, length] >= workers for kind in ("encode", "decode") for length in frames)

    run(main())


# The end of the server -------------------------------------------------------------------------------------------------------------------


def test_a_server_that_stops_brings_out_what_it_accepted_and_tells_everybody():
    codec, engine = gated()
    offline = offline_codec()

    async def main():
        async with serving(codec) as server, contextlib.AsyncExitStack() as stack:
            as_codes = await listening(stack, server.url, "a", offline)
            as_pcm = await listening(stack, server.url, "a", format="pcm_f32le")
            idle = await listening(stack, server.url, "nobody", format="pcm_f32le")
            publisher = publish(server.url, "a", PublishOptions(bandwidth=6.0, queue_s=60))
            await publisher.__aenter__()
            engine.encoding.clear()
            x = voice(6, 10 * 0.08)
            publisher.offer(x)
            await until(lambda: server.registry.streams["a"].totals.received == 8)
            stopping = asyncio.create_task(server.stop())
            await until(lambda: server.registry.streams["a"].ending)
            # What comes now was not accepted; its publisher is told at the end, and nothing breaks.
            publisher.offer(x)
            await until(lambda: server.registry.streams["a"].totals.received > 8)
            with pytest.raises(Exception, match="connect"):
                await publish_all(server.url, "b", x)
            engine.open()
            for heard in (as_codes, as_pcm):
                await heard.to_end()
                assert heard.of(StreamEnd)[0].reason == "the server is closing"
                assert heard.of(Gap) == []
                with pytest.raises(Refused) as caught:
                    await anext(heard.listener)
                assert (caught.value.code, caught.value.retry) == ("server_closing", True)
            codes = as_codes.codes(offline)
            same_codes(offline, codes, x, 6.0, "primed")
            np.testing.assert_allclose(as_pcm.audio(), offline_audio(offline, codes, 6.0, "primed"), atol=1e-4)
            with pytest.raises(Refused) as caught:
                await publisher.end()
            assert (caught.value.code, caught.value.retry) == ("server_closing", True)
            await publisher.__aexit__(Refused, caught.value, None)
            await idle.to(lambda h: h.events)
            with pytest.raises(Refused, match="server is closing"):
                await anext(idle.listener)
            await stopping
            await server.stop()

    run(main())


def test_two_servers_do_not_share_a_port():
    async def main():
        async with serving() as server:
            with pytest.raises(streamcodec.StreamCodecError, match=f"cannot listen on 127.0.0.1:{server.port}"):
                async with Server(tiny_codec(), port=server.port):
                    pass

    run(main())


def test_an_engine_prepares_once_the_port_is_there_and_lets_go_when_the_server_ends():
    codec, engine = gated()
    told = []
    engine.prepare = lambda packet_frames: told.append(("prepare", packet_frames))
    engine.stop_preparing = lambda: told.append("stop")

    async def main():
        async with serving() as first:
            with pytest.raises(streamcodec.StreamCodecError, match="cannot listen"):
                async with Server(codec, port=first.port, limits=small_limits(capacity=3)):
                    pass
        assert told == ["stop"], "the end of the program would wait for what was begun"
        told.clear()
        async with serving(codec, limits=small_limits(capacity=3)):
            assert told == [("prepare", 6)]
        assert told == [("prepare", 6), "stop"]

    run(main())


# HTTP ------------------------------------------------------------------------------------------------------------------------------------


def test_a_burst_of_epochs_starts_the_same_way_for_listeners_of_pcm_and_of_codes():
    codec, engine = gated()

    async def main():
        async with serving(codec) as server, contextlib.AsyncExitStack() as stack:
            as_codes = await listening(stack, server.url, "bad", offline_codec())
            as_pcm = await listening(stack, server.url, "bad", format="pcm_s16le")
            client = await stack.enter_async_context(raw(server.url))
            engine.decoding.clear()
            await client.send(publish_hello(start="exact"))
            await client.receive()
            for epoch in range(4):
                for seq in (2 * epoch, 2 * epoch + 1):
                    await client.send(packet(seq, epoch=epoch))
            await until(lambda: server.registry.streams["bad"].numbering.next_seq == 8)
            late = await listening(stack, server.url, "bad", format="pcm_s16le")
            await until(lambda: server.registry.num_listeners == 3)
            engine.open()
            await client.send({"type": "end", "last_seq": 7})
            for heard in (as_codes, as_pcm, late):
                await heard.to_end()
                assert [(s.epoch, s.first_seq, s.start) for s in heard.of(StreamStart)] == [(e, 2 * e, "exact") for e in range(4)]

    run(main())


def test_metrics_count_what_happened_and_read_as_text():
    async def main():
        async with serving() as server, contextlib.AsyncExitStack() as stack:
            heard = await listening(stack, server.url, "a", format="pcm_s16le")
            async with publish(server.url, "a", PublishOptions(pace="fast")) as publisher:
                await publisher.send(voice(1, 0.8))
                values = await figures(server)
                assert (values["publishers"], values["listeners"]) == (1, 1)
                await publisher.end()
            await heard.to_end()
            _, text = await http_get(server, "/metrics?now")
            values = samples(text)
            assert all(value >= 0 for value in values.values())
            assert (values["packets_emitted_total"], values["packets_sent_total"]) == (10, 10)
            assert values["encode_wait_seconds_count"] == 10
            assert values["engine_rows_total"] > 10
            assert values["publishers"] == 0

    run(main())


def test_a_browser_is_told_what_this_server_is():
    async def main():
        async with serving() as server:
            status, text = await http_get(server, "/")
            assert status == 426
            assert "streamcodec.v1" in text
            assert DEFAULT_PORT == 8765

    run(main())
