"""One listener that stalls or crawls loses what is its own to lose; everybody else gets every packet, in order, whatever it does."""

from __future__ import annotations

import asyncio
import contextlib
import functools

import numpy as np
import pytest
from server_rig import OURS, Heard, figures, listen_hello, listening, offline_audio, offline_codec, raw, run, serving, small_limits, until

import streamcodec.server.listening as listening_module
from streamcodec.client import PublishOptions, listen, publish
from streamcodec.protocol import Gap, Packet, StreamEnd, StreamStart
from streamcodec.server.fanout.subscriber import Subscriber

STRICT = {"listener_max_lag_s": 0.3, "listener_give_up_s": 0.5, "listener_window_s": 0.3}
PACKET_S = 0.08


class Clock:
    """The clock by which the server judges its listeners: it moves with the audio that is published, not with the machine."""

    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(listening_module, "Subscriber", functools.partial(Subscriber, clock=clock))
    return clock


def live(codec, **options):
    """Options of a live publisher of codes."""
    return {"format": "codes", "model": codec.fingerprint, "bandwidth": 24.0, "start": "primed", "queue_s": 60.0, **options}


async def speak(publisher, codes, at, clock, taken):
    """Publish the `at`-th packet and let its time pass once it is `taken`."""
    publisher.offer(codes[:, 6 * at : 6 * at + 6])
    await until(taken)
    clock.now += PACKET_S


def report(received):
    return {"type": "report", "received": received}


def test_a_listener_that_reports_no_more_is_told_and_disconnected_and_the_others_get_every_packet_in_order(clock):
    codec = offline_codec()
    codes = np.random.default_rng(1).integers(0, 1024, (32, 6 * 200))

    async def main():
        async with serving(limits=small_limits(**STRICT)) as server, contextlib.AsyncExitStack() as stack:
            stalled = await stack.enter_async_context(raw(server.url))
            await stalled.send(listen_hello("a", format="codes", model=OURS))
            await stalled.receive()
            [at_fault] = server.registry.listeners["a"]
            others = [await listening(stack, server.url, "a", codec, bandwidth=b) for b in (None, 6.0)]
            others.append(await listening(stack, server.url, "a", format="pcm_s16le"))
            reading = [asyncio.create_task(heard.to_end()) for heard in others]
            publisher = await stack.enter_async_context(publish(server.url, "a", PublishOptions(**live(codec))))
            on_time = server.registry.listeners["a"] - {at_fault}

            def taken():
                # Every third packet is reported.
                heard_all = all(len(heard.of(Packet)) == at + 1 for heard in others)
                return heard_all and all(one.in_flight.seconds < 3 * PACKET_S - 1e-6 for one in on_time)

            for at in range(40):
                await speak(publisher, codes, at, clock, taken)
                if at == 4:
                    await stalled.send(report(3))
                    await until(lambda: at_fault.in_flight.report is not None)
                if at_fault._failure is not None:
                    break
            # Behind by 0.6 s with the twelfth packet, for 0.5 s with the nineteenth.
            assert 15 < at < 25
            await until(lambda: server.registry.num_listeners == 3)
            word, close_code = await stalled.last_word()
            assert (word["code"], close_code) == ("slow_listener", 4413)
            assert "behind" in word["reason"]
            await publisher.end()
            await asyncio.gather(*reading)
            for heard in others:
                assert [p.seq for p in heard.of(Packet)] == list(range(at + 1))
                assert heard.of(Gap) == []
            np.testing.assert_array_equal(others[0].codes(codec), codes[:, : 6 * at + 6])
            np.testing.assert_array_equal(others[1].codes(codec), codes[:8, : 6 * at + 6])

    run(main())


def test_what_is_under_way_to_a_listener_that_reports_is_bounded_although_its_socket_would_take_all(clock):  # noqa: ARG001 - trips take no time on it
    codec = offline_codec()
    codes = np.zeros((32, 6 * 60), np.int32)

    async def main():
        async with serving(limits=small_limits(resume_s=10.0)) as server, contextlib.AsyncExitStack() as stack:
            slow = await stack.enter_async_context(raw(server.url))
            await slow.send(listen_hello("a", format="codes", model=OURS))
            await slow.receive()
            publisher = await stack.enter_async_context(publish(server.url, "a", PublishOptions(**live(codec, pace="fast"))))
            await publisher.send(codes[:, :6])
            got = [await slow.receive() for _ in range(3)]
            await slow.send(report(1))
            [listener] = server.registry.listeners["a"]
            await until(lambda: listener.in_flight.report is not None)
            sending = asyncio.create_task(speak_all(publisher, codes))
            await until(lambda: listener.lagging)
            seqs = [got[-1][0]]
            while len(seqs) < 60:
                assert listener.in_flight.seconds <= 0.5 + PACKET_S + 1e-6
                message = await slow.receive()
                if isinstance(message, list):
                    seqs.append(message[0])
                    await slow.send(report(message[0] + 1))
            await sending
            await publisher.end()
            while not (isinstance(message, dict) and message["type"] == "stream_end"):
                message = await slow.receive()
                if isinstance(message, list):
                    seqs.append(message[0])
                    await slow.send(report(message[0] + 1))
            assert seqs == list(range(60))

    async def speak_all(publisher, codes):
        for at in range(6, codes.shape[1], 6):
            await publisher.send(codes[:, at : at + 6])

    run(main())


def test_a_listener_that_falls_behind_gets_fewer_codebooks_of_the_same_packets_and_hears_on_without_a_seam(clock):
    codec = offline_codec()
    codes = np.random.default_rng(2).integers(0, 1024, (32, 6 * 120))

    async def main():
        limits = small_limits(listener_max_lag_s=60.0, listener_window_s=60.0)
        async with serving(limits=limits) as server, contextlib.AsyncExitStack() as stack:
            heard = Heard(listen(server.url, "a", model=codec.fingerprint, min_bandwidth=1.5))
            await stack.enter_async_context(heard.listener)
            fixed = await listening(stack, server.url, "a", codec)
            reading = asyncio.create_task(fixed.to_end())
            publisher = await stack.enter_async_context(publish(server.url, "a", PublishOptions(**live(codec))))
            [listener] = [one for one in server.registry.listeners["a"] if one.options.min_n_q is not None]
            stream = server.registry.streams["a"]

            def received(count):
                return lambda: stream.totals.received == count

            for at in range(5):
                await speak(publisher, codes, at, clock, received(at + 1))
                await heard.to(lambda h: len(h.of(Packet)) >= at + 1)  # noqa: B023
            await until(lambda: listener.in_flight.report is not None and listener.in_flight.report.received == 4)
            while listener.n_q == 32:
                # It reads nothing meanwhile, and so reports nothing.
                at += 1
                assert at < 20, "its bandwidth never falls"
                await speak(publisher, codes, at, clock, received(at + 1))
            for _ in range(10):
                at += 1
                await speak(publisher, codes, at, clock, received(at + 1))
            await publisher.end()
            await heard.to_end()
            await reading
            packets = heard.of(Packet)
            assert [p.seq for p in packets] == list(range(at + 1))
            assert (packets[0].n_q, heard.of(StreamStart)[0].n_q) == (32, 32)
            assert packets[-1].n_q < 32
            assert len(heard.of(StreamStart)) == 1
            assert heard.of(Gap) == fixed.of(Gap) == []
            assert {p.n_q for p in fixed.of(Packet)} == {32}
            for mine, whole in zip(packets, fixed.of(Packet), strict=True):
                assert whole.payload.startswith(mine.payload)
            decoder = codec.stream_decoder(24.0, start="primed")
            expected = [decoder.feed(codes[: p.n_q, 6 * p.seq : 6 * p.seq + 6]) for p in packets]
            np.testing.assert_allclose(heard.audio(codec), np.concatenate([*expected, decoder.flush()]), atol=1e-5)
            # They are counted while the listener is there.
            assert server.registry.num_listeners == 2
            assert (await figures(server))["bandwidth_steps_down_total"] > 0

    run(main())


def test_a_listener_may_ask_for_another_bandwidth_in_the_middle():
    codec = offline_codec()
    codes = np.random.default_rng(3).integers(0, 1024, (32, 6 * 60))

    async def main():
        async with serving() as server, contextlib.AsyncExitStack() as stack:
            heard = await listening(stack, server.url, "a", codec, bandwidth=12.0)
            publisher = await stack.enter_async_context(publish(server.url, "a", PublishOptions(**live(codec, pace="fast"))))
            at = 0
            for wanted, n_q in ((None, 16), (1.5, 2), (6.0, 8), (24.0, 16)):
                if wanted is not None:
                    await heard.listener.ask_bandwidth(wanted)
                    [listener] = server.registry.listeners["a"]
                    await until(lambda: listener.n_q == n_q)  # noqa: B023
                for _ in range(10):
                    await publisher.send(codes[:, 6 * at : 6 * at + 6])
                    at += 1
                await heard.to(lambda h: len(h.of(Packet)) == at)  # noqa: B023
                assert {p.n_q for p in heard.of(Packet)[-10:]} == {n_q}
            await publisher.end()
            await heard.to_end()
            assert heard.audio(codec).size == at * 1920

    run(main())


def test_any_bandwidth_may_be_asked_for_as_it_is_a_bound():
    codec = offline_codec()
    codes = np.random.default_rng(4).integers(0, 1024, (32, 6))

    async def main():
        async with serving() as server, contextlib.AsyncExitStack() as stack:
            heard = await listening(stack, server.url, "a", codec)
            publisher = await stack.enter_async_context(publish(server.url, "a", PublishOptions(**live(codec, pace="fast"))))
            for wanted, n_q in ((5.0, 4), (0.1, 2), (6.5, 8), (1000, 32)):
                await heard.listener.ask_bandwidth(wanted)
                [listener] = server.registry.listeners["a"]
                await until(lambda: listener.n_q == n_q)  # noqa: B023
                await publisher.send(codes)
                await heard.to(lambda h: h.of(Packet) and h.of(Packet)[-1].n_q == n_q)  # noqa: B023
            assert len(heard.of(Packet)) == 4

    run(main())


def test_a_listener_of_pcm_that_asks_for_a_bandwidth_is_told_that_it_has_none():
    async def main():
        async with serving() as server, raw(server.url) as client:
            await client.send(listen_hello("a"))
            await client.receive()
            await client.send({**report(0), "bandwidth": 6.0})
            word, close_code = await client.last_word()
            assert (word["code"], close_code) == ("bad_request", 4422)
            assert "for listeners of codes" in word["reason"]

    run(main())


def test_the_client_reports_what_it_received_and_what_it_plays():
    codec = offline_codec()
    codes = np.zeros((32, 6 * 40), np.int32)

    async def main():
        async with serving() as server, contextlib.AsyncExitStack() as stack:
            heard = await listening(stack, server.url, "a", codec)
            publisher = await stack.enter_async_context(publish(server.url, "a", PublishOptions(**live(codec, pace="fast"))))
            [listener] = server.registry.listeners["a"]
            for at in range(40):
                await publisher.send(codes[:, 6 * at : 6 * at + 6])
                await heard.to(lambda h: len(h.of(Packet)) == at + 1)  # noqa: B023
                heard.listener.playing(at, margin_ms=-5, late_ms=7)
            await until(lambda: listener.in_flight.report is not None and listener.in_flight.report.received >= 38)
            assert (listener.in_flight.report.margin_ms, listener.in_flight.report.late_ms) == (-5, 7)
            assert listener.in_flight.report.played >= 36
            await publisher.end()
            await heard.to(lambda h: h.of(StreamEnd))
            assert offline_audio(codec, codes, 24.0, "primed").size == 40 * 1920

    run(main())
