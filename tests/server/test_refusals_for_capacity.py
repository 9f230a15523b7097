"""A full server says no, in numbers, before those who are there would suffer; how full it is, is injected."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from server_rig import (
    PACKET,
    StoppedClock,
    figures,
    gated,
    listening,
    offline_codec,
    publish_all,
    run,
    serving,
    small_limits,
    tiny_codec,
    until,
    voice,
)

from streamcodec.client import PublishOptions, listen, publish
from streamcodec.errors import Refused
from streamcodec.protocol import Packet, now_us
from streamcodec.server import app, gauges, newcomers, stream, totals
from streamcodec.server.capacity import admission, calibration, load_model
from streamcodec.server.capacity.calibration import measure
from streamcodec.server.capacity.load_model import Cost, Work
from streamcodec.server.fanout import pcm

# Three encoders of 80 ms packets take 0.75 of an engine like this; a decoder takes half as much as an encoder.
THREE = {"encode": Cost(0.0, 0.0, 0.25 / 75), "decode": Cost(0.0, 0.0, 0.125 / 75)}


@pytest.fixture(autouse=True)
def costs(monkeypatch):
    """The machine's, as the server measures them."""
    monkeypatch.setattr(calibration, "measure", lambda engine: THREE)  # noqa: ARG005
    monkeypatch.setattr(calibration, "available_processors", lambda: 8)
    # What tiny steps really take must not correct them, and nobody needs to wait until it does.
    monkeypatch.setattr(calibration.Admission, "correction_due", lambda self, now: False)  # noqa: ARG005
    monkeypatch.setattr(admission, "_KNOWN_S", 0.0)
    # Nor may a machine that is slow now.
    monkeypatch.setattr(app.LoopLag, "tick", lambda self, now: now + 1.0)  # noqa: ARG005


@pytest.fixture
def stopped_clock(monkeypatch):
    return StoppedClock(monkeypatch, gauges, newcomers, pcm, stream, totals)


async def refusal(opening):
    with pytest.raises(Refused) as caught:
        async with opening:
            pass
    assert (caught.value.code, caught.value.retry) == ("server_full", True)
    return caught.value.reason


def test_publishers_come_in_up_to_the_measured_capacity_and_again_when_one_has_left():
    async def main():
        async with serving(limits=small_limits(capacity="auto")) as server, contextlib.AsyncExitStack() as stack:
            assert server.room == 3
            for name in ("a", "b"):
                await stack.enter_async_context(publish(server.url, name))
            async with publish(server.url, "c", PublishOptions(pace="fast")):
                reason = await refusal(publish(server.url, "d"))
                assert (
                    "of streams like this (80 ms packets) the server can encode about 3, and it has 3 to encode and 0 to decode" in reason
                )
                assert "can encode about 3, " in await refusal(publish(server.url, "d", PublishOptions(pace="fast")))
                values = await figures(server)
                assert values["capacity_publishers"] == 3
                assert values["connections_refused_total"] == values["connections_refused_for_capacity_total"] == 2
                assert values["predicted_load_ratio{of=engine}"] == pytest.approx(0.75)
                assert 0 < values["predicted_load_ratio{of=interpreter}"] < values["predicted_load_ratio{of=processors}"] < 0.2
            await until(lambda: "c" not in server.registry.streams)
            async with publish(server.url, "d"):
                pass

    run(main())


def test_codes_are_relayed_however_full_the_engine_is():
    codec = offline_codec()

    async def main():
        async with serving(limits=small_limits(capacity=1)) as server, contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(publish(server.url, "pcm"))
            await refusal(publish(server.url, "another"))
            heard = await listening(stack, server.url, "codes", codec)
            codes = codec.encode(voice(1), bandwidth=6.0)
            await publish_all(server.url, "codes", codes, block=6, format="codes", model=codec.fingerprint, bandwidth=6.0)
            await heard.to_end()
            np.testing.assert_array_equal(heard.codes(codec), codes)

    run(main())


def test_a_listener_that_needs_a_new_decoder_is_refused_and_one_that_shares_it_or_takes_codes_is_not():
    codec = offline_codec()

    async def main():
        async with serving(limits=small_limits(capacity="auto")) as server, contextlib.AsyncExitStack() as stack:
            for name in ("a", "b"):
                await stack.enter_async_context(publish(server.url, name))
            await listening(stack, server.url, "a", format="pcm_s16le")
            async with listen(server.url, "b", format="pcm_s16le"):
                await until(lambda: server.registry.streams["b"].decoding)
                await refusal(publish(server.url, "c"))
            await until(lambda: not server.registry.streams["b"].decoding)
            leaving = await stack.enter_async_context(contextlib.AsyncExitStack())
            await leaving.enter_async_context(publish(server.url, "codes", PublishOptions(format="codes", model=codec.fingerprint)))
            await listening(leaving, server.url, "codes", format="pcm_s16le")
            await until(lambda: server.registry.streams["codes"].decoding)
            reason = await refusal(listen(server.url, "b", format="pcm_f32le"))
            assert "the server can decode about 6, and it has 2 to encode and 2 to decode" in reason
            assert "heard as codes takes no such room" in reason
            await listening(stack, server.url, "a", format="pcm_f32le")
            await listening(stack, server.url, "b", codec)
            await leaving.aclose()
            await until(lambda: "codes" not in server.registry.streams)
            await listening(stack, server.url, "b", format="pcm_f32le")

    run(main())


def test_a_publisher_brings_the_decoder_that_waiting_listeners_need():
    async def main():
        async with serving(limits=small_limits(capacity=2)) as server, contextlib.AsyncExitStack() as stack:
            await listening(stack, server.url, "b", format="pcm_s16le")
            await stack.enter_async_context(publish(server.url, "a"))
            await refusal(publish(server.url, "b"))
            async with publish(server.url, "c"):
                pass

    run(main())


def test_without_a_capacity_everybody_is_admitted_up_to_the_hard_limits():
    async def main():
        async with serving(limits=small_limits(capacity=None, max_publishers=8)) as server, contextlib.AsyncExitStack() as stack:
            assert server.room is None
            for i in range(8):
                await stack.enter_async_context(publish(server.url, f"s{i}"))
                await listening(stack, server.url, f"s{i}", format="pcm_s16le")
            assert await refusal(publish(server.url, "more")) == "the server has its 8 publishers"
            values = await figures(server)
            assert (values["predicted_load_ratio{of=engine}"], values["connections_refused_for_capacity_total"]) == (0, 0)

    run(main())


@pytest.mark.parametrize("side", ["encoding", "decoding"])
def test_a_server_whose_packets_are_late_refuses_until_they_are_in_time_again(side, stopped_clock):
    codec, engine = gated()

    async def main():
        limits = small_limits(capacity=100, join_wait_s=0.0)
        async with serving(codec, limits=limits) as server, contextlib.AsyncExitStack() as stack:
            heard = await listening(stack, server.url, "late", format="pcm_s16le")
            publisher = await stack.enter_async_context(publish(server.url, "late", PublishOptions(queue_s=60.0)))
            getattr(engine, side).clear()
            try:
                for _ in range(30):
                    publisher.offer(np.zeros(PACKET, np.float32))
                await until(engine.held.is_set)
                await until(lambda: server.registry.streams["late"].totals.received == 30)
                # They wait for longer than any machine takes for a step.
                stopped_clock.us += 100_000_000
            finally:
                engine.open()
            await heard.to(lambda h: len(h.of(Packet)) == 30)
            assert "the server is behind: 5% of its packets wait " in await refusal(publish(server.url, "next"))
            assert (await figures(server))["live_wait_seconds{quantile=0.95}"] > 0.06
            stopped_clock.us += 3_000_000
            assert server.registry.admission.waits.quantiles(stopped_clock.us / 1e6, 0.95) == [0.0]
            async with publish(server.url, "next"):
                pass

    run(main())


def test_a_fast_publisher_that_queues_up_says_nothing_about_the_machine(stopped_clock):
    codec, engine = gated()

    async def main():
        async with serving(codec, limits=small_limits(capacity=100)) as server, contextlib.AsyncExitStack() as stack:
            publisher = await stack.enter_async_context(publish(server.url, "file", PublishOptions(pace="fast", packet_frames=1)))
            engine.encoding.clear()
            try:
                for _ in range(30):
                    await publisher.send(np.zeros(320, np.float32))
                await until(engine.held.is_set)
                await until(lambda: server.registry.streams["file"].totals.received == 30)
                stopped_clock.us += 100_000_000
            finally:
                engine.open()
            await until(lambda: server.registry.streams["file"].totals.emitted == 30)
            async with publish(server.url, "next"):
                pass

    run(main())


def test_publishers_that_come_and_go_at_once_keep_nobody_waiting(monkeypatch):
    # Who came counts as new until the test is over, and nobody corrects that.
    monkeypatch.setattr(admission, "_KNOWN_S", 1e9)
    plenty = {"encode": Cost(0.0, 0.0, 0.25 / 7500), "decode": Cost(0.0, 0.0, 0.25 / 7500)}
    monkeypatch.setattr(calibration, "measure", lambda engine: plenty)  # noqa: ARG005

    async def main():
        # Whoever would have to wait is refused: at four newcomers where the fifth takes more than half of what is free.
        limits = small_limits(capacity="auto", join_wait_s=0.0, max_load=0.0125)
        async with serving(limits=limits) as server, contextlib.AsyncExitStack() as stack:
            for name in ("a", "b"):
                await stack.enter_async_context(publish(server.url, name))
            for _ in range(12):
                async with publish(server.url, "guest"), listen(server.url, "guest", format="pcm_s16le"):
                    await until(lambda: server.registry.demand.total() == 5)
                await until(lambda: len(server.registry.streams) == 2)
            assert (await figures(server))["connections_refused_total"] == 0

    run(main())


def test_listeners_of_codes_are_refused_where_the_loop_has_no_time_for_more_and_come_in_when_one_has_left(monkeypatch):
    monkeypatch.setattr(load_model, "_RELAY_S", 0.7 / (4 * 12.5))  # four of them take all that they may
    codec = offline_codec()

    async def main():
        async with serving(limits=small_limits(capacity="auto")) as server, contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(publish(server.url, "a", PublishOptions(format="codes", model=codec.fingerprint)))
            for _ in range(3):
                await listening(stack, server.url, "a", codec)
            async with listen(server.url, "a", model=codec.fingerprint):
                assert server.registry.num_listeners == 4
                reason = await refusal(listen(server.url, "a", model=codec.fingerprint))
                assert "passes packets on to 4 listener(s); with one more all beside the model would take 8" in reason
                assert "70% is allowed" in reason
                assert "one more" in await refusal(listen(server.url, "a", format="pcm_s16le"))
                async with listen(server.url, "silent", model=codec.fingerprint):
                    assert server.registry.num_listeners == 5
                assert (await figures(server))["connections_refused_for_capacity_total"] == 2
            await until(lambda: server.registry.num_listeners == 3)
            await listening(stack, server.url, "a", codec)

    run(main())


def test_a_publisher_brings_the_packets_that_waiting_listeners_get(monkeypatch):
    monkeypatch.setattr(load_model, "_RELAY_S", 0.7 / (4 * 12.5))
    codec = offline_codec()

    async def main():
        async with serving(limits=small_limits(capacity="auto")) as server, contextlib.AsyncExitStack() as stack:
            options = PublishOptions(format="codes", model=codec.fingerprint)
            await stack.enter_async_context(publish(server.url, "a", options))
            await listening(stack, server.url, "a", codec)
            for _ in range(4):
                await listening(stack, server.url, "b", codec)
            assert "one more" in await refusal(publish(server.url, "b", options))
            await stack.enter_async_context(publish(server.url, "c", options))

    run(main())


def test_everybody_is_refused_while_the_loop_is_behind_and_the_lag_is_told():
    codec = offline_codec()

    async def main():
        async with serving(limits=small_limits(capacity="auto", join_wait_s=0.0)) as server, contextlib.AsyncExitStack() as stack:
            options = PublishOptions(format="codes", model=codec.fingerprint)
            await stack.enter_async_context(publish(server.url, "a", options))
            await listening(stack, server.url, "a", codec)
            lags, now_s = server.registry.admission.lags, now_us() / 1e6
            for _ in range(100):
                lags.note(now_s + 3600.0, 0.5)  # until they are an hour old
            for opening in (listen(server.url, "a", model=codec.fingerprint), publish(server.url, "b")):
                assert "it reads 5% of what comes 500 ms late or more, it takes no others beyond 200 ms" in await refusal(opening)
            assert (await figures(server))["loop_lag_seconds{quantile=0.95}"] == 0.5

    run(main())


def test_steps_of_a_real_engine_have_costs():
    for cost in measure(tiny_codec().engine).values():
        assert cost.step + cost.of_row(6) > 0


def test_admission_is_told_all_that_the_server_did_and_what_of_it_was_beside_the_engine(monkeypatch):
    told: list[Work] = []
    monkeypatch.setattr(calibration.Admission, "correction_due", lambda self, now: True)  # noqa: ARG005
    monkeypatch.setattr(calibration.Admission, "worked", lambda self, now, demand, work: told.append(work))  # noqa: ARG005
    codec = offline_codec()

    async def main():
        async with serving(limits=small_limits(capacity="auto")) as server, contextlib.AsyncExitStack() as stack:
            heard = await listening(stack, server.url, "a", codec)
            await publish_all(server.url, "a", np.zeros(10 * PACKET, np.float32), block=PACKET)
            await heard.to_end()
            await publish_all(server.url, "b", np.zeros(PACKET, np.float32), block=PACKET)
            values = await figures(server)
            assert values["process_cpu_seconds_total"] >= values["beside_engine_cpu_seconds_total"] > told[0].beside_s
            assert values["packets_received_total"] == 11

    run(main())
    first, last = told[0], told[-1]
    assert first.rows < last.rows == 11
    assert last.messages == 11 + 10, "ten came and went, and one came that nobody heard"
    assert 0 < last.beside_s - first.beside_s < last.cpu_s - first.cpu_s
    assert first.busy_s < last.busy_s
