"""A connection that breaks is no end: within the window publishers and listeners go on where they were, and nothing is lost."""

from __future__ import annotations

import asyncio
import contextlib
import math

import numpy as np
import pytest
from patience import pass_time
from server_rig import (
    OURS,
    PACKET,
    Heard,
    gated,
    listen_hello,
    listening,
    offline_audio,
    offline_codec,
    packet,
    pcm_hello,
    publish_all,
    publish_hello,
    raw,
    run,
    s16,
    same_codes,
    serving,
    small_limits,
    until,
    voice,
)

import streamcodec.client.heartbeat as heartbeat
import streamcodec.client.reconnect as reconnect
from streamcodec.client import Publisher, PublishOptions, listen, publish
from streamcodec.errors import ConnectionFailed, Refused
from streamcodec.protocol import Gap, Packet, StreamEnd, StreamStart, Waiting

RESUMING = small_limits(resume_s=30.0)
BEYOND_S = 31.0  # when a lost connection can no longer be resumed
END = {"type": "end", "last_seq": None}


def cut(client):
    """Break the connection of a publisher or listener as a network does."""
    connection = client._uplink.connection if isinstance(client, Publisher) else client._connection
    connection._ws.transport.abort()


async def feed(publisher, x, at, packets):
    """Publish so many packets from the `at`-th on."""
    await publisher.send(x[at * PACKET : (at + packets) * PACKET])


# Listeners -------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["codes", "pcm_f32le"])
@pytest.mark.parametrize("start", ["exact", "primed"])
def test_a_listener_that_was_cut_off_hears_what_an_unbroken_one_hears(kind, start):
    codec = offline_codec()

    async def main():
        async with serving(limits=RESUMING) as server, contextlib.AsyncExitStack() as stack:
            options = {"model": codec.fingerprint} if kind == "codes" else {"format": kind}
            notes: list[str] = []
            unbroken = await listening(stack, server.url, "a", **options)
            broken = await listening(stack, server.url, "a", note=notes.append, **options)
            publisher = await stack.enter_async_context(publish(server.url, "a", PublishOptions(pace="fast", start=start, bandwidth=6.0)))
            x = voice(1, 40 * 0.08)
            for part in range(4):
                await feed(publisher, x, 10 * part, 10)
                wanted = 10 * part + 5
                await broken.to(lambda heard: len(heard.of(Packet)) >= wanted)  # noqa: B023
                cut(broken.listener)
            await publisher.end()
            await broken.to_end()
            await unbroken.to_end()
            assert broken.listener.resumed == len(notes) == 4
            assert "was lost" in notes[0] and "resumed after" in notes[0]
            # Nobody can tell from the events that anything happened.
            assert [type(event) for event in broken.events] == [type(event) for event in unbroken.events]
            assert [(p.seq, p.epoch, p.payload) for p in broken.of(Packet)] == [(p.seq, p.epoch, p.payload) for p in unbroken.of(Packet)]
            player = codec if kind == "codes" else None
            np.testing.assert_array_equal(broken.audio(player), unbroken.audio(player))
            assert server.metrics.listeners_resumed == 4

    run(main())


@pytest.mark.parametrize("leaving", ["in order", "lost"])
def test_a_listener_of_codes_does_not_close_the_decoder_that_is_kept_for_a_lost_listener_of_pcm(leaving):
    codec = offline_codec()

    async def main():
        async with serving(limits=RESUMING) as server, contextlib.AsyncExitStack() as stack:
            heard = await listening(stack, server.url, "a", format="pcm_s16le")
            publisher = await stack.enter_async_context(publish(server.url, "a", PublishOptions(pace="fast")))
            x = voice(1, 20 * 0.08)
            async with listen(server.url, "a", model=codec.fingerprint) as other:
                await feed(publisher, x, 0, 10)
                await heard.to(lambda h: len(h.of(Packet)) >= 5)
                cut(heard.listener)
                await until(lambda: server.registry.num_listeners == 1)
                if leaving == "lost":
                    cut(other)
            await until(lambda: server.registry.num_listeners == 0)
            assert server.registry.streams["a"].decoding
            await feed(publisher, x, 10, 10)
            await publisher.end()
            await heard.to_end()
            assert [type(event) for event in heard.events] == [Waiting, StreamStart, *[Packet] * 20, StreamEnd]

    run(main())


@pytest.mark.parametrize("came", ["before", "after"])
def test_a_listener_that_leaves_in_order_keeps_the_decoder_for_another_listener_of_pcm_that_was_lost(came):
    async def main():
        async with serving(limits=RESUMING) as server, contextlib.AsyncExitStack() as stack:
            unbroken = Heard(listen(server.url, "a", format="pcm_f32le"))
            heard = await listening(stack, server.url, "a", format="pcm_f32le")
            publisher = await stack.enter_async_context(publish(server.url, "a", PublishOptions(pace="fast")))
            x = voice(1, 20 * 0.08)
            if came == "before":
                await unbroken.listener.__aenter__()
            await feed(publisher, x, 0, 10)
            await heard.to(lambda h: len(h.of(Packet)) >= 5)
            cut(heard.listener)
            await until(lambda: server.registry.num_listeners == (came == "before"))
            if came == "after":
                await unbroken.listener.__aenter__()
            await unbroken.listener.__aexit__(None, None, None)
            await until(lambda: server.registry.num_listeners == 0)
            assert server.registry.streams["a"].decoding
            await feed(publisher, x, 10, 10)
            await publisher.end()
            await heard.to_end()
            assert [type(event) for event in heard.events] == [Waiting, StreamStart, *[Packet] * 20, StreamEnd]

    run(main())


def test_a_decoder_that_is_kept_for_a_lost_listener_is_closed_when_nobody_can_resume_or_needs_it():
    async def main():
        async with serving(limits=RESUMING) as server, contextlib.AsyncExitStack() as stack:
            other = await stack.enter_async_context(raw(server.url))
            await other.send(listen_hello("a"))
            async with publish(server.url, "a", PublishOptions(pace="fast")) as publisher, raw(server.url) as gone:
                await gone.send(listen_hello("a"))
                await feed(publisher, voice(1, 0.8), 0, 10)
                stream = server.registry.streams["a"]
                await until(lambda: server.registry.num_listeners == 2)
                gone.ws.transport.abort()
                await until(lambda: server.registry.num_listeners == 1)
                await pass_time(BEYOND_S)
                assert stream.decoding, "somebody hears it"
                await other.ws.close()
                await until(lambda: not stream.decoding)
                async with raw(server.url) as third, listen(server.url, "a", format="pcm_s16le"):
                    await third.send(listen_hello("a"))
                    await until(lambda: server.registry.num_listeners == 2)
                    third.ws.transport.abort()
                    await until(lambda: server.registry.num_listeners == 1)
                assert stream.decoding, "it is kept for the lost one"
                await pass_time(BEYOND_S)
                assert not stream.decoding
            await other.ws.wait_closed()

    run(main())


@pytest.mark.parametrize("kind", ["codes", "pcm_s16le"])
def test_what_a_listener_missed_of_a_fast_stream_comes_whole_however_much_it_is(kind):
    codec = offline_codec()

    async def main():
        async with serving(limits=RESUMING) as server, contextlib.AsyncExitStack() as stack:
            options = {"model": codec.fingerprint} if kind == "codes" else {"format": kind}
            heard = await listening(stack, server.url, "a", **options)
            # The decoder stays for as long as there is one who hears it.
            other = await listening(stack, server.url, "a", format="pcm_s16le")
            reading = asyncio.create_task(other.to_end())
            publisher = await stack.enter_async_context(publish(server.url, "a", PublishOptions(pace="fast")))
            x = voice(1, 80 * 0.08)
            await feed(publisher, x, 0, 10)
            await heard.to(lambda h: len(h.of(Packet)) >= 5)
            cut(heard.listener)
            await feed(publisher, x, 10, 70)
            await publisher.end()
            await heard.to_end()
            await reading
            assert heard.of(Gap) == other.of(Gap) == []
            assert [p.seq for p in heard.of(Packet)] == list(range(80))

    run(main())


def test_a_player_that_is_told_that_the_stream_is_continued_keeps_its_decoder():
    codec = offline_codec()

    async def main():
        async with serving(limits=RESUMING) as server, contextlib.AsyncExitStack() as stack:
            unbroken = await listening(stack, server.url, "a", codec)
            first = await stack.enter_async_context(raw(server.url))
            await first.send(listen_hello("a", format="codes", model=OURS))
            publisher = await stack.enter_async_context(publish(server.url, "a", PublishOptions(pace="fast", bandwidth=6.0)))
            x = voice(1, 1.6)
            await feed(publisher, x, 0, 10)
            start = None
            for _ in range(20):
                message = await first.receive()
                start = message if isinstance(message, dict) and message["type"] == "start" else start
                if isinstance(message, list) and message[0] == 6:
                    break
            first.ws.transport.abort()
            await feed(publisher, x, 10, 10)
            await publisher.end()
            resume = {"session": start["session"], "epoch": 0, "next_seq": 7}
            second = await stack.enter_async_context(raw(server.url))
            await second.send(listen_hello("a", format="codes", model=OURS, resume=resume))
            assert (await second.receive())["type"] == "welcome"
            again = await second.receive()
            assert (again["start"], again["first_seq"], again["live_seq"], again["reason"]) == ("continued", 7, 7, "resumed")
            assert [(await second.receive())[0] for _ in range(13)] == list(range(7, 20))
            end = await second.receive()
            assert (end["type"], end["next_seq"]) == ("stream_end", 20)
            assert (await second.receive())["type"] == "waiting"
            await unbroken.to_end()

    run(main())


def test_the_end_of_a_stream_is_heard_by_a_listener_that_was_away_when_it_came():
    codec = offline_codec()

    async def main():
        async with serving(limits=RESUMING) as server, contextlib.AsyncExitStack() as stack:
            heard = await listening(stack, server.url, "a", codec)
            x = voice(2, 1.6)
            publisher = await stack.enter_async_context(publish(server.url, "a", PublishOptions(pace="fast", bandwidth=6.0)))
            await feed(publisher, x, 0, 10)
            await heard.to(lambda h: len(h.of(Packet)) >= 5)
            cut(heard.listener)
            await feed(publisher, x, 10, 10)
            await publisher.end()
            await until(lambda: not server.registry.streams)
            await heard.to_end()
            assert [p.seq for p in heard.of(Packet)] == list(range(20))
            assert heard.of(StreamEnd)[0].reason == "the publisher ended it"
            same_codes(codec, heard.codes(codec), x, 6.0, "primed")

    run(main())


def test_a_listener_that_comes_back_to_another_stream_is_told_that_the_old_one_ended():
    codec = offline_codec()

    async def main():
        async with serving(limits=RESUMING) as server, contextlib.AsyncExitStack() as stack:
            heard = await listening(stack, server.url, "a", codec)
            first = await stack.enter_async_context(publish(server.url, "a", PublishOptions(pace="fast", bandwidth=6.0)))
            await feed(first, voice(1, 0.8), 0, 10)
            await heard.to(lambda h: len(h.of(Packet)) >= 5)
            # As a resumption that comes too late: nobody knows its session any more.
            server.registry.streams["a"].fan_out.session = "another"
            cut(heard.listener)
            await first.end()
            await until(lambda: not server.registry.streams)
            await publish_all(server.url, "a", voice(2, 0.4), bandwidth=6.0)
            await heard.to(lambda h: len(h.of(StreamEnd)) >= 1)
            end = heard.of(StreamEnd)[0]
            assert end.reason == "the stream ended while the connection was lost"
            assert end.next_seq == heard.of(Packet)[-1].seq + 1

    run(main())


def test_what_the_server_no_longer_has_is_a_gap_and_the_listener_joins_anew():
    codec = offline_codec()

    async def main():
        # It keeps 30 s, which is 90 packets: a listener that was away for 33 s of audio has missed too much.
        limits = small_limits(resume_s=30.0, history_s=0.4)
        async with serving(limits=limits) as server, contextlib.AsyncExitStack() as stack:
            options = PublishOptions(format="codes", model=codec.fingerprint, pace="fast", bandwidth=6.0, packet_frames=25)
            publisher = await stack.enter_async_context(publish(server.url, "a", options))
            for _ in range(100):
                await publisher.send(np.zeros((8, 25), np.int32))
            await until(lambda: server.registry.streams["a"].numbering.next_seq == 100)
            heard = Heard(listen(server.url, "a", model=codec.fingerprint))
            await stack.enter_async_context(heard.listener)
            await heard.to(lambda h: len(h.of(Packet)) >= 2)
            start = heard.of(StreamStart)[0]
            assert (start.start, start.first_seq) == ("resumed", 98)
            # As if it had been there from the start and had lost its connection behind the fourth packet.
            session = heard.listener._connection.session
            session.next_seq = 4
            cut(heard.listener)
            gap, again = await anext(heard.listener), await anext(heard.listener)
            assert gap == Gap(first_seq=4, count=96, reason="resumed_late")
            assert (again.start, again.session, again.live_seq) == ("resumed", start.session, 100)
            assert heard.listener.lost == 96
            await publisher.end()

    run(main())


def test_a_listener_that_reconnects_while_it_waits_is_told_only_once_that_it_waits():
    async def main():
        async with serving(limits=RESUMING) as server, contextlib.AsyncExitStack() as stack:
            heard = await listening(stack, server.url, "a", format="pcm_s16le")
            await heard.to(lambda h: h.of(Waiting))
            cut(heard.listener)
            reading = asyncio.create_task(heard.to_end())
            await until(lambda: heard.listener.resumed)
            await publish_all(server.url, "a", voice(1, 0.4))
            await reading
            assert [type(event) for event in heard.events] == [Waiting, StreamStart, *[Packet] * 5, StreamEnd]

    run(main())


def test_a_new_epoch_that_began_meanwhile_is_joined_behind_a_gap():
    codec = offline_codec()

    async def main():
        async with serving(limits=RESUMING) as server, contextlib.AsyncExitStack() as stack:
            heard = await listening(stack, server.url, "a", codec)
            client = await stack.enter_async_context(raw(server.url))
            await client.send(pcm_hello("a", bandwidth=6.0))
            await client.receive()
            await client.send([0, 0, 0, 0, voice(1, 0.8).tobytes()])
            await heard.to(lambda h: len(h.of(Packet)) >= 10)
            cut(heard.listener)
            await client.send([1, 1, 800_000, 0, voice(2, 0.8).tobytes()])
            await until(lambda: server.registry.streams["a"].numbering.next_seq == 20)
            await heard.to(lambda h: len(h.of(StreamStart)) == 2)
            again = heard.of(StreamStart)[1]
            assert (again.epoch, again.start, again.first_seq, again.live_seq) == (1, "primed", 10, 20)
            assert heard.of(Gap) == [Gap(first_seq=10, count=10, reason="resumed_late")]

    run(main())


# Publishers ------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["pcm_s16le", "codes"])
@pytest.mark.parametrize("pace", ["live", "fast"])
def test_a_publisher_that_was_cut_off_loses_nothing(form, pace):
    codec = offline_codec()

    async def main():
        async with serving(limits=RESUMING) as server, contextlib.AsyncExitStack() as stack:
            as_codes = await listening(stack, server.url, "a", codec)
            as_pcm = await listening(stack, server.url, "a", format="pcm_f32le")
            reading = [asyncio.create_task(heard.to_end()) for heard in (as_codes, as_pcm)]
            x, notes = voice(1, 40 * 0.08), []
            options = {"format": form, "pace": pace, "bandwidth": 6.0, "start": "primed"}
            if form == "codes":
                options["model"] = codec.fingerprint
                blocks = np.split(codec.encode(x, bandwidth=6.0), 40, axis=1)
            else:
                blocks = np.split(x, 40)
            publisher = await stack.enter_async_context(publish(server.url, "a", PublishOptions(**options), note=notes.append))
            for i, block in enumerate(blocks):
                await (publisher.send(block) if pace == "fast" else asyncio.sleep(0.005))
                if pace == "live":
                    publisher.offer(block)
                if i in (5, 15, 16, 30):
                    cut(publisher)
            ended = await publisher.end()
            await asyncio.gather(*reading)
            assert 2 <= publisher.resumed == len(notes) <= 4
            assert (ended.dropped, publisher.dropped_s) == (0, 0.0)
            assert ended.emitted == 40
            for heard in (as_codes, as_pcm):
                assert heard.of(Gap) == []
                assert [type(event) for event in heard.events] == [Waiting, StreamStart, *[Packet] * 40, StreamEnd]
            if form == "codes":
                np.testing.assert_array_equal(as_codes.codes(codec), np.concatenate(blocks, axis=1))
            else:
                same_codes(codec, as_codes.codes(codec), s16(x), 6.0, "primed")
            np.testing.assert_allclose(as_pcm.audio(), offline_audio(codec, as_codes.codes(codec), 6.0, "primed"), atol=1e-4)
            assert server.metrics.publishers_accepted == 1

    run(main())


def test_a_live_publisher_that_was_away_for_seconds_sends_what_it_could_not_send_then():
    offline = offline_codec()

    async def main():
        async with serving(limits=RESUMING) as server, contextlib.AsyncExitStack() as stack:
            heard = await listening(stack, server.url, "a", offline)
            reading = asyncio.create_task(heard.to_end())
            publisher = await stack.enter_async_context(publish(server.url, "a", PublishOptions(bandwidth=6.0, queue_s=0.2)))
            x = voice(1, 60 * 0.08)
            await publisher.send(x[: 10 * PACKET])
            await until(lambda: len(heard.of(Packet)) >= 9)
            # Nobody lets it in while far more is said than may wait otherwise.
            server.registry.closing = True
            cut(publisher)
            await until(lambda: publisher._uplink._catch_up_until == math.inf)
            for at in range(10, 60, 2):
                publisher.offer(x[at * PACKET : (at + 2) * PACKET])
            assert publisher.queued_s > 3.0
            server.registry.closing = False
            ended = await publisher.end()
            await reading
            assert (ended.dropped, publisher.dropped_s, ended.emitted) == (0, 0.0, 60)
            assert heard.of(Gap) == []
            same_codes(offline, heard.codes(offline), s16(x), 6.0, "primed")

    run(main())


def test_connections_that_die_silently_on_both_sides_lose_nothing(monkeypatch):
    monkeypatch.setattr(heartbeat, "_LOOK_EVERY_S", 0.05)
    offline = offline_codec()

    async def main():
        async with serving(limits=RESUMING) as server, contextlib.AsyncExitStack() as stack:
            heard = await listening(stack, server.url, "a", offline)
            reading = asyncio.create_task(heard.to_end())
            publisher = await stack.enter_async_context(publish(server.url, "a", PublishOptions(bandwidth=6.0)))
            x = voice(1, 30 * 0.08)
            await publisher.send(x[: 10 * PACKET])
            await until(lambda: len(heard.of(Packet)) >= 9)
            silent = [connection.peer for connection in server._connections]
            for connection in silent:
                # Nothing that is sent arrives, in either direction, and nobody is told.
                connection._ws.transport.pause_reading()
                connection._ws.send_data = connection._ws.protocol.data_to_send
            publisher.offer(x[10 * PACKET : 20 * PACKET])
            await until(lambda: publisher.resumed and heard.listener.resumed)
            for connection in silent:
                connection.abort()
            await publisher.send(x[20 * PACKET :])
            ended = await publisher.end()
            await reading
            assert (ended.dropped, publisher.dropped_s, ended.emitted) == (0, 0.0, 30)
            assert [type(event) for event in heard.events] == [Waiting, StreamStart, *[Packet] * 30, StreamEnd]
            same_codes(offline, heard.codes(offline), s16(x), 6.0, "primed")

    run(main())


def test_a_publisher_that_comes_again_before_its_old_connection_is_missed_takes_over():
    async def main():
        async with serving(limits=RESUMING) as server, raw(server.url) as old, raw(server.url) as new:
            await old.send(pcm_hello("a"))
            welcome = await old.receive()
            assert (welcome["next_seq"], welcome["resume_ms"]) == (0, 30_000)
            for seq in range(3):
                await old.send([seq, 0, 0, 0, bytes(4 * PACKET)])
            await until(lambda: server.registry.streams["a"].lease.next_seq == 3)
            resume = {"session": welcome["session"], "epoch": 0, "next_seq": 5}
            await new.send(pcm_hello("a", resume=resume))
            assert (await new.receive())["next_seq"] == 3
            for seq in (3, 4):
                await new.send([seq, 0, 0, 0, bytes(4 * PACKET)])
            await new.send({"type": "end", "last_seq": 4})
            word = await new.receive()
            assert (word["type"], word["received"], word["emitted"]) == ("ended", 5, 5)
            word, close_code = await old.last_word()
            assert (word["code"], close_code) == ("taken_over", 4411)
            assert server.metrics.failed == 0

    run(main())


def test_two_running_programs_do_not_take_a_session_from_each_other_again_and_again():
    async def main():
        async with serving(limits=RESUMING) as server, raw(server.url) as thief:
            async with publish(server.url, "a", PublishOptions(pace="fast")) as publisher:
                await publisher.send(voice(1, 0.4))
                resume = {"session": publisher.welcome.session, "epoch": 0, "next_seq": 9}
                await thief.send({**pcm_hello("a", format="pcm_s16le", pace="fast", bandwidth=None), "resume": resume})
                assert (await thief.receive())["type"] == "welcome"
                with pytest.raises(Refused, match="do not resume it here") as caught:
                    await publisher.end()
                assert (caught.value.code, caught.value.retry, publisher.resumed) == ("taken_over", False, 0)
            assert server.metrics.publishers_resumed == 1
            await thief.send(END)
            assert (await thief.last_word())[1] is not None

    run(main())


def test_nobody_else_can_resume_a_stream():
    async def main():
        async with serving(limits=RESUMING) as server, raw(server.url) as first, raw(server.url) as listener:
            await first.send(pcm_hello("a"))
            secret = (await first.receive())["session"]
            await listener.send(listen_hello("a"))
            assert (await listener.receive())["session"] is None
            told = (await listener.receive())["session"]
            assert told != secret
            first.ws.transport.abort()
            await until(lambda: server.registry.streams["a"].lease.waiting)
            for name, session in (("a", told), ("a", "guess"), ("b", secret)):
                async with raw(server.url) as thief:
                    await thief.send(pcm_hello(name, resume={"session": session, "epoch": 0, "next_seq": 0}))
                    word, close_code = await thief.last_word()
                    assert (word["code"], word["retry"], close_code) == ("unknown_session", False, 4410)
            async with raw(server.url) as other:
                await other.send(pcm_hello("a"))
                word, _ = await other.last_word()
                assert (word["code"], word["retry"]) == ("stream_taken", True)
            async with raw(server.url) as changed:
                await changed.send(pcm_hello("a", sample_rate=16_000, resume={"session": secret, "epoch": 0, "next_seq": 0}))
                word, _ = await changed.last_word()
                assert word["code"] == "bad_request"
                assert "sample_rate is 16000, it was 24000" in word["reason"]
            async with raw(server.url) as again:
                await again.send(pcm_hello("a", resume={"session": secret, "epoch": 0, "next_seq": 0}))
                assert (await again.receive())["session"] == secret
                await again.send({"type": "end", "last_seq": None})
                await again.last_word()

    run(main())


def test_after_the_window_the_stream_has_ended_and_its_publisher_is_told_that_the_connection_was_lost(monkeypatch):
    monkeypatch.setattr(reconnect, "_MAX_WAIT_S", 0.05)
    codec = offline_codec()

    async def main():
        async with serving(limits=RESUMING) as server, contextlib.AsyncExitStack() as stack:
            heard = await listening(stack, server.url, "a", codec)
            with pytest.raises(ConnectionFailed, match="was lost"):
                async with publish(server.url, "a", PublishOptions(pace="fast")) as publisher:
                    await publisher.send(voice(1, 0.8))
                    await heard.to(lambda h: len(h.of(Packet)) >= 9)
                    server.registry.closing = True
                    cut(publisher)
                    await until(lambda: server.registry.streams["a"].lease.waiting)
                    await pass_time(BEYOND_S)
                    await heard.to_end()
                    assert heard.of(StreamEnd)[0].reason == "the publisher vanished"
                    server.registry.closing = False
                    while True:
                        await publisher.send(voice(1, 0.8))
            assert len(heard.of(Packet)) == 10
            await publish_all(server.url, "a", voice(1, 0.4))

    run(main())


@pytest.mark.parametrize("form", ["pcm_s16le", "codes"])
def test_a_publisher_that_was_cut_off_while_its_stream_drained_is_told_that_all_of_it_came(form):
    offline = offline_codec()
    codec, engine = gated()

    async def main():
        async with serving(codec, limits=RESUMING) as server, contextlib.AsyncExitStack() as stack:
            heard = await listening(stack, server.url, "a", offline)
            as_pcm = await listening(stack, server.url, "a", format="pcm_s16le")
            reading = [asyncio.create_task(one.to_end()) for one in (heard, as_pcm)]
            engine.encoding.clear()
            engine.decoding.clear()
            options = {"model": offline.fingerprint} if form == "codes" else {}
            publisher = await stack.enter_async_context(publish(server.url, "a", PublishOptions(format=form, queue_s=60.0, **options)))
            x = voice(1, 0.8)
            blocks = np.split(offline.encode(x, bandwidth=6.0), 10, axis=1) if form == "codes" else np.split(x, 10)
            for block in blocks:
                publisher.offer(block)
            ending = asyncio.create_task(publisher.end())
            await until(lambda: server.registry.streams["a"].ending)
            cut(publisher)
            await until(lambda: publisher.resumed)
            engine.open()
            ended = await ending
            await asyncio.gather(*reading)
            assert (ended.received, ended.emitted, ended.dropped) == (10, 10, 0)
            for one in (heard, as_pcm):
                assert [type(event) for event in one.events] == [Waiting, StreamStart, *[Packet] * 10, StreamEnd]
            assert (server.metrics.publishers_accepted, server.metrics.publishers_resumed) == (1, 1)

    run(main())


def test_a_publisher_that_was_cut_off_behind_the_end_of_its_stream_is_told_how_it_ended():
    async def main():
        async with serving(limits=RESUMING) as server:
            async with publish(server.url, "a", PublishOptions(pace="fast")) as publisher:
                await publisher.send(voice(1, 0.8))
                # The answer is on its way and never comes.
                publisher._uplink.connection._ws.transport.pause_reading()
                ending = asyncio.create_task(publisher.end())
                await until(lambda: not server.registry.streams)
                cut(publisher)
                ended = await ending
            assert publisher.resumed == 1
            assert (ended.received, ended.emitted, ended.dropped) == (8, 10, 0)
            assert server.metrics.publishers_accepted == 1

    run(main())


def test_a_stream_that_its_publisher_ended_is_known_to_it_whoever_has_its_name_by_now():
    async def main():
        async with serving(limits=RESUMING) as server, raw(server.url) as first, raw(server.url) as other:
            await first.send(pcm_hello("a"))
            resume = {"session": (await first.receive())["session"], "epoch": 0, "next_seq": 0}
            await first.send(END)
            ended = {"type": "ended", "received": 0, "emitted": 0, "dropped": 0}
            assert await first.receive() == ended
            await other.send(pcm_hello("a"))
            await other.receive()
            async with raw(server.url) as again:
                await again.send(pcm_hello("a", resume=resume))
                assert (await again.receive())["next_seq"] == 0
                await again.send(END)
                assert await again.receive() == ended
            async with raw(server.url) as thief:
                await thief.send(pcm_hello("b", resume=resume))
                assert (await thief.last_word())[0]["code"] == "unknown_session"
            assert "a" in server.registry.streams

    run(main())


def test_a_stream_that_its_publisher_ended_is_unknown_behind_the_window():
    async def main():
        async with serving(limits=RESUMING) as server, raw(server.url) as first, raw(server.url) as late:
            await first.send(pcm_hello("a"))
            resume = {"session": (await first.receive())["session"], "epoch": 0, "next_seq": 0}
            await first.send(END)
            await first.last_word()
            assert server.registry._complete
            await pass_time(BEYOND_S)
            assert not server.registry._complete
            await late.send(pcm_hello("a", resume=resume))
            assert (await late.last_word())[0]["code"] == "unknown_session"

    run(main())


def test_a_stream_whose_publisher_vanished_is_unknown_once_it_drains():
    codec, engine = gated()

    async def main():
        async with serving(codec, limits=RESUMING) as server, raw(server.url) as first:
            await first.send(pcm_hello("a"))
            resume = {"session": (await first.receive())["session"], "epoch": 0, "next_seq": 9}
            engine.encoding.clear()
            await first.send(packet(0, n_q=0))
            stream = server.registry.streams["a"]
            await until(lambda: stream.totals.received)
            first.ws.transport.abort()
            await until(lambda: stream.lease.waiting)
            await pass_time(BEYOND_S)
            assert stream.ending
            async with raw(server.url) as again:
                await again.send(pcm_hello("a", resume=resume))
                assert (await again.last_word())[0]["code"] == "unknown_session"
            engine.open()

    run(main())


def test_a_publisher_that_leaves_in_order_is_not_waited_for():
    async def main():
        async with serving(limits=RESUMING) as server:
            with pytest.raises(KeyError):
                async with publish(server.url, "a"):
                    raise KeyError("the caller's own")
            await until(lambda: not server.registry.streams)

    run(main())


@pytest.mark.parametrize(("code", "kept"), [(1011, True), (1000, False), (1001, False), (4500, False)])
def test_a_publisher_whose_library_got_no_answer_to_its_pings_has_not_said_goodbye(code, kept):
    async def main():
        async with serving(limits=RESUMING) as server, raw(server.url) as client:
            await client.send(pcm_hello("a"))
            welcome = await client.receive()
            await client.ws.close(code)
            if not kept:
                await until(lambda: not server.registry.streams)
                return
            await until(lambda: server.registry.streams["a"].lease.waiting)
            async with raw(server.url) as again:
                await again.send(pcm_hello("a", resume={"session": welcome["session"], "epoch": 0, "next_seq": 0}))
                assert (await again.receive())["session"] == welcome["session"]
                await again.send({"type": "end", "last_seq": None})
                await again.last_word()

    run(main())


def test_a_publisher_that_is_sent_away_is_not_waited_for():
    async def main():
        async with serving(limits=small_limits(resume_s=3000.0)) as server:
            for wrong in (bytes((1 << 20) + 1), b"\xc1", [5, 0, 0, 0, bytes(4)]):
                async with raw(server.url) as client:
                    await client.send(pcm_hello("a"))
                    await client.receive()
                    await client.send(wrong)
                    await client.last_word()
                await until(lambda: not server.registry.streams)

    run(main())


def test_a_server_that_keeps_nothing_says_so_and_a_lost_connection_is_an_error():
    async def main():
        async with serving() as server:
            async with listen(server.url, "a", format="pcm_s16le") as listener:
                assert isinstance(await anext(listener), Waiting)
                assert listener.welcome.resume_ms == 0
                cut(listener)
                with pytest.raises(ConnectionFailed, match="was lost"):
                    await anext(listener)
            with pytest.raises(ConnectionFailed, match="was lost"):
                async with publish(server.url, "a") as publisher:
                    cut(publisher)
                    await publisher.end()

    run(main())


def test_a_stream_without_its_publisher_ends_with_the_server():
    async def main():
        async with serving(limits=RESUMING) as server, raw(server.url) as client:
            await client.send(publish_hello("a"))
            await client.receive()
            client.ws.transport.abort()
            await until(lambda: server.registry.streams["a"].lease.waiting)
            await server.stop()

    run(main())
