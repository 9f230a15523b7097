"""The page in a real browser: a microphone becomes the codes of Python's encoder, codes become the samples of Python's decoder."""

from __future__ import annotations

import asyncio
import contextlib

import numpy as np
import pytest
from browser_rig import Browser, fresh_page, needs_browser
from made_up_models import FEW_LAYERS, save_made_up_model
from parity import assert_same_codes
from patience import patient_limits
from server_rig import run, until, voice

import streamcodec
from streamcodec.audio import write_audio
from streamcodec.client import PublishOptions, listen, publish
from streamcodec.protocol import Gap, Packet, StreamEnd, StreamStart, unpack_codes
from streamcodec.server import Page, Server, Tokens

pytestmark = needs_browser

RATE = 24_000
PACKETS = 12


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_made_up_model(tmp_path_factory.mktemp("model"), **FEW_LAYERS)


@pytest.fixture
def codec(model):
    return streamcodec.load(model)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    """A browser whose microphone hears a voice, over and over."""
    path = tmp_path_factory.mktemp("spoken") / "spoken.wav"
    write_audio(path, voice(1, 20.0, 48_000), 48_000)
    started = Browser(path)
    yield started
    started.close()


@contextlib.asynccontextmanager
async def served(codec, model, **options):
    """A server with the page, whose model is ready."""
    page = Page(model)
    async with Server(codec, port=0, page=page, limits=patient_limits(**options.pop("limits", {})), **options) as server:
        await server.page_is_ready()
        yield server


def test_a_microphone_is_published_as_the_codes_of_python_s_encoder(codec, model, chromium):
    async def main():
        async with served(codec, model) as server, fresh_page(chromium) as page:
            await page.open(f"{server.page_url}?stream=spoken")
            await page.do("click", on="#talk")
            await page.tap("talk_worker")
            async with listen(server.url, "spoken", model=codec.fingerprint) as listener:
                codes, start = [], None
                async for event in listener:
                    if isinstance(event, StreamStart):
                        start = event
                    elif isinstance(event, Packet):
                        codes.append((event.seq, unpack_codes(event.payload, event.n_q)))
                        if len(codes) == PACKETS:
                            break
            assert start is not None
            samples = np.concatenate(await page.tapped("talk_worker"))
            assert "You are heard as “spoken”" in await page.do("text", on="#talk-status")
            await page.do("click", on="#talk")
            await until(lambda: not server.registry.streams, "the stream did not end")
        encoder = codec.stream_encoder(start.bandwidth, start="primed")
        expected = encoder.feed(samples)
        first = codes[0][0]
        found, wanted = np.concatenate([c for _, c in codes], axis=1), np.concatenate(expected[first : first + PACKETS], axis=1)
        assert np.abs(samples).max() > 0.05, "the microphone was silent"
        if first:
            np.testing.assert_array_equal(found, wanted)
        else:
            assert_same_codes(codec, found, wanted, samples[: found.shape[1] * 320], "primed")

    run(main())


def test_a_stream_is_decoded_to_the_samples_of_python_s_decoder(codec, model, chromium):
    packets = offline(codec).feed(voice(2, 4.0))

    async def main():
        async with served(codec, model) as server, fresh_page(chromium) as page:
            await page.open(f"{server.page_url}?stream=played")
            await page.do("click", on="#listen")
            await page.tap("listen_worker")
            await page.do("untilText", on="#listen-status", has="Nobody publishes")
            options = PublishOptions(format="codes", model=codec.fingerprint, bandwidth=6.0, start="primed")
            async with publish(server.url, "played", options) as to:
                for at, packet in enumerate(packets[:PACKETS]):
                    to.offer(packet)
                    await asyncio.sleep(0.08 if at else 0)
            await page.do("untilText", on="#listen-status", has="The stream has ended")
            heard = await page.tapped("listen_worker")
            assert await page.do("text", on="#format") == "codes, decoded here"
            await page.do("click", on="#listen")
            await until(lambda: not server.registry.listeners, "the listener did not leave")
        decoder = codec.stream_decoder(6.0, start="primed")
        expected = decoder.feed(packets[:PACKETS])
        found = np.concatenate(heard)
        assert len(found) == PACKETS * 1920
        np.testing.assert_allclose(found[: len(expected)], expected, rtol=0, atol=1e-3)

    run(main())


def offline(codec):
    return codec.stream_encoder(6.0, start="primed")


async def publish_for_ever(server, codec, stream, bandwidth=24.0):
    """Publish in real time until cancelled."""
    encoder = codec.stream_encoder(bandwidth, start="primed")
    options = PublishOptions(format="codes", model=codec.fingerprint, bandwidth=bandwidth, start="primed")
    async with publish(server.url, stream, options) as to:
        for seed in range(10_000):
            for packet in encoder.feed(voice(seed, 0.08)):
                to.offer(packet)
            await asyncio.sleep(0.08)


@contextlib.asynccontextmanager
async def publishing(server, codec, stream, bandwidth=24.0):
    task = asyncio.create_task(publish_for_ever(server, codec, stream, bandwidth))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def subscriber_of(server, stream):
    [found] = server.registry.listeners[stream]
    return found


def test_who_joins_late_hears_the_stream_and_a_slider_moves_its_bandwidth_live(codec, model, chromium):
    async def main():
        async with served(codec, model) as server, publishing(server, codec, "live"), fresh_page(chromium) as page:
            await until(lambda: "live" in server.registry.streams)
            await page.open(server.page_url)
            await page.do("click", on="#listen")
            await page.do("untilText", on="#listen-status", has="Playing “live”")
            await page.do("until", js="Number.parseFloat(document.querySelector('#heard').textContent) > 0.3")
            assert await page.do("text", on="#bandwidth-text") == "all that is sent"
            await page.do("evaluate", js="document.querySelector('#bandwidth').focus()")
            await page.do("press", key="Home")
            assert await page.do("text", on="#bandwidth-text") == "at most 1.5 kbps"
            await page.do("until", js="/^(1\\.[0-9]|[2-4]\\.[0-9]) kbps/.test(document.querySelector('#bytes').textContent)")
            await page.do("press", key="End")
            await page.do("until", js="/^(1[5-9]|2[0-9]|3[0-9]) kbps/.test(document.querySelector('#bytes').textContent)")
            await page.do("click", on="#listen")

    run(main())


def test_a_connection_that_breaks_is_resumed_and_what_was_said_meanwhile_is_not_lost(codec, model, chromium):
    async def main():
        async with served(codec, model) as server, publishing(server, codec, "live", 6.0), fresh_page(chromium) as page:
            await page.open(server.page_url)
            await page.do("click", on="#listen")
            await page.do("untilText", on="#listen-status", has="Playing")
            await page.do("until", js="Number.parseFloat(document.querySelector('#heard').textContent) > 0.3")
            [handler] = [one for one in server._connections if one.peer.session.hello.role == "listen"]
            handler.peer.abort()
            await until(lambda: handler not in server._connections)
            await page.tap("listen_worker")
            await page.do("untilText", on="#listen-status", has="Playing")
            await page.do("until", js="Number.parseFloat(document.querySelector('#heard').textContent) > 3")
            assert (await page.do("text", on="#lost")).startswith("0 packets")
            await page.do("click", on="#listen")

    run(main())


def test_a_muted_microphone_sends_almost_nothing(codec, model, chromium):
    async def main():
        async with served(codec, model) as server, fresh_page(chromium) as page:
            await page.open(server.page_url)
            await page.do("click", on="#talk")
            await page.do("untilText", on="#talk-status", has="You are heard")
            await page.do("click", on="#mute")
            assert await page.do("evaluate", js="document.querySelector('#mute').getAttribute('aria-pressed')") == "true"
            async with listen(server.url, "live", model=codec.fingerprint) as listener:
                async for event in listener:
                    if isinstance(event, Gap) and event.reason == "silence" and event.count >= 5:
                        break
            await page.do("click", on="#mute")
            async with listen(server.url, "live", model=codec.fingerprint) as listener:
                live = None
                async for event in listener:
                    live = event.live_seq if isinstance(event, StreamStart) else live
                    if isinstance(event, Packet) and event.seq >= live and event.n_q > 1:
                        break
            await page.do("click", on="#talk")
            await until(lambda: not server.registry.streams)

    run(main())


def test_a_page_that_talks_and_ends_tells_its_listeners_so(codec, model, chromium):
    async def main():
        async with served(codec, model) as server, fresh_page(chromium) as page:
            await page.open(server.page_url)
            await page.do("click", on="#talk")
            await page.do("untilText", on="#talk-status", has="You are heard")
            async with listen(server.url, "live", model=codec.fingerprint) as listener:
                async for event in listener:
                    if isinstance(event, Packet):
                        await page.do("click", on="#talk")
                        break
                async for event in listener:
                    if isinstance(event, StreamEnd):
                        assert event.reason == "the publisher ended it"
                        break

    run(main())


def test_what_does_not_work_is_said_in_plain_words(codec, model, chromium):
    async def main():
        tokens = Tokens(publish=("right",), listen=("right",))
        async with served(codec, model, tokens=tokens) as server, fresh_page(chromium) as page:
            await page.open(server.page_url)
            await page.do("click", on="#listen")
            await page.do("untilText", on="#listen-status", has="does not accept this token")
            await page.do("click", on="#talk")
            await page.do("untilText", on="#talk-status", has="does not accept this token")
            await page.do("fill", on="#token", text="right")
            await page.do("click", on="#listen")
            await page.do("untilText", on="#listen-status", has="Nobody publishes")
            assert await page.do("evaluate", js="localStorage.length") == 0
            await page.do("click", on="#remember")
            assert await page.do("evaluate", js="localStorage.getItem('streamcodec-token')") == "right"
            await page.do("click", on="#listen")

    run(main())


def test_a_microphone_that_may_not_be_used_is_named_with_what_to_do(codec, model, chromium):
    async def main():
        async with served(codec, model) as server, fresh_page(chromium) as page:
            await page.open(server.page_url)
            denied = "async () => { throw new DOMException('no', 'NotAllowedError'); }"
            await page.do("evaluate", js=f"void (navigator.mediaDevices.getUserMedia = {denied})")
            await page.do("click", on="#talk")
            await page.do("untilText", on="#talk-status", has="Allow it in the address bar")
            assert await page.do("evaluate", js="document.querySelector('#talk').disabled") is False

    run(main())


def test_a_server_that_goes_away_is_waited_for(codec, model, chromium):
    async def main():
        async with served(codec, model) as server, fresh_page(chromium) as page:
            await page.open(server.page_url)
            await page.do("click", on="#listen")
            await page.do("untilText", on="#listen-status", has="Nobody publishes")
            await server.stop()
            await page.do("untilText", on="#listen-status", has="Trying again")
            await page.do("click", on="#listen")

    run(main())


def test_a_model_of_the_server_s_that_the_page_cannot_run_is_coded_by_the_server(codec, chromium):
    async def main():
        async with served(codec, "no such model") as server, fresh_page(chromium) as page:
            await page.open(server.page_url)
            await page.do("click", on="#talk")
            await page.do("untilText", on="#talk-notice", has="The server encodes for this page")
            await page.do("click", on="#listen")
            await page.do("untilText", on="#format", has="PCM")
            await page.do("until", js="Number.parseFloat(document.querySelector('#heard').textContent) > 0.3")
            await page.do("click", on="#listen")
            await page.do("click", on="#talk")
            await until(lambda: not server.registry.streams)

    run(main())


def test_the_page_asks_nobody_but_its_server_and_is_isolated(codec, model, chromium):
    async def main():
        async with served(codec, model) as server, fresh_page(chromium) as page:
            await page.open(server.page_url)
            await page.do("click", on="#listen")
            await page.do("untilText", on="#listen-status", has="Nobody publishes")
            assert await page.do("evaluate", js="crossOriginIsolated") is True
            requests = await page.do("requests")
            assert len(requests) > 5
            assert all(one.startswith((server.page_url, "data:")) for one in requests), requests
            await page.do("click", on="#listen")

    run(main())


def test_the_page_works_by_keyboard_and_tells_a_screen_reader_what_it_shows(codec, model, chromium):
    async def main():
        async with served(codec, model) as server, fresh_page(chromium) as page:
            await page.open(server.page_url)
            reached = []
            for _ in range(14):
                await page.do("press", key="Tab")
                reached.append(await page.do("evaluate", js="document.activeElement.id"))
            talking, listening = (
                ["talk-stream", "microphone", "talk-bandwidth", "echo", "talk"],
                ["listen-stream", "bandwidth", "volume", "listen"],
            )
            order = [*talking, *listening, "token", "remember"]
            assert [one for one in dict.fromkeys(reached) if one in order] == order
            await page.do("evaluate", js="document.querySelector('#listen').focus()")
            await page.do("press", key="Enter")
            await page.do("untilText", on="#listen-status", has="Nobody publishes")
            tree = await page.do("tree")
            for told in ('heading "Talk"', 'heading "Listen"', 'button "Stop listening"', 'slider "Volume"', "status: Nobody publishes"):
                assert told in tree, tree
            await page.do("press", key="Enter")

    run(main())
