"""The page in a real browser: a microphone becomes the codes of Python's encoder, codes become the samples of Python's decoder."""

from __future__ import annotations

import asyncio

import numpy as np
from browser_rig import fresh_page, needs_browser
from page_rig import WatchedPage, codes_are_heard, heard_for, missing_numbers_are_told, publishing, served
from parity import assert_same_codes
from server_rig import run, until, voice

from streamcodec.client import PublishOptions, listen, publish
from streamcodec.protocol import Gap, ListenHello, Packet, StreamEnd, StreamStart, unpack_codes
from streamcodec.server import Tokens
from streamcodec.server.newcomers import Newcomers

pytestmark = needs_browser

PACKETS = 12


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
    packets = codec.stream_encoder(6.0, start="primed").feed(voice(2, 4.0))

    async def main():
        async with served(codec, model) as server, fresh_page(chromium) as page:
            await page.open(f"{server.page_url}?stream=played")
            await page.do("click", on="#listen")
            await page.tap("listen_worker")
            await codes_are_heard(page)
            await page.do("untilText", on="#listen-status", has="Nobody publishes")
            options = PublishOptions(format="codes", model=codec.fingerprint, bandwidth=6.0, start="primed")
            async with publish(server.url, "played", options) as to:
                for at, packet in enumerate(packets[:PACKETS]):
                    to.offer(packet)
                    await asyncio.sleep(0.08 if at else 0)
            await page.do("untilText", on="#listen-status", has="The stream has ended")
            heard = await page.tapped("listen_worker")
            await page.do("click", on="#listen")
            await until(lambda: not server.registry.listeners, "the listener did not leave")
        decoder = codec.stream_decoder(6.0, start="primed")
        expected = decoder.feed(packets[:PACKETS])
        found = np.concatenate(heard)
        assert len(found) == PACKETS * 1920
        np.testing.assert_allclose(found[: len(expected)], expected, rtol=0, atol=1e-3)

    run(main())


def test_who_joins_late_hears_the_stream_and_a_slider_moves_its_bandwidth_live(codec, model, chromium):
    async def main():
        async with served(codec, model) as server, publishing(server, codec), fresh_page(chromium) as page:
            await until(lambda: "live" in server.registry.streams)
            await page.open(server.page_url)
            await page.do("click", on="#listen")
            await page.do("untilText", on="#listen-status", has="Playing “live”")
            await codes_are_heard(page)
            await heard_for(page, 0.3)
            assert await page.do("text", on="#bandwidth-text") == "all that is sent"
            await page.do("evaluate", js="document.querySelector('#bandwidth').focus()")
            await page.do("press", key="Home")
            assert await page.do("text", on="#bandwidth-text") == "at most 1.5 kbps"
            await page.do("until", js="/^(1\\.[0-9]|[2-4]\\.[0-9]) kbps/.test(document.querySelector('#bytes').textContent)")
            await page.do("press", key="End")
            await page.do("until", js="/^(1[5-9]|2[0-9]|3[0-9]) kbps/.test(document.querySelector('#bytes').textContent)")
            await page.do("click", on="#listen")

    run(main())


def test_a_connection_that_breaks_is_resumed_and_what_was_said_meanwhile_is_heard(codec, model, chromium):
    async def main():
        async with served(codec, model) as server, publishing(server, codec, bandwidth=6.0), fresh_page(chromium) as page:
            await page.open(server.page_url)
            await page.do("click", on="#listen")
            await page.do("untilText", on="#listen-status", has="Playing")
            await codes_are_heard(page)
            await heard_for(page, 0.3)
            await page.tap("listen_worker")
            [handler] = [one for one in server._connections if one.peer.session.hello.role == "listen"]
            handler.peer.abort()
            await until(lambda: handler not in server._connections)
            await heard_for(page, 2)
            await page.do("untilText", on="#listen-status", has="Playing")
            assert server.metrics.listeners_resumed == 1
            # A page that has no time to decode leaves packets out, whatever its connection does.
            await missing_numbers_are_told(page)
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


def test_a_publisher_whose_connection_breaks_goes_on_and_its_listeners_lose_nothing(codec, model, chromium):
    async def main():
        async with served(codec, model) as server, fresh_page(chromium) as page:
            await page.open(server.page_url)
            await page.do("click", on="#talk")
            await page.do("untilText", on="#talk-status", has="You are heard")
            async with listen(server.url, "live", model=codec.fingerprint) as listener:
                [handler] = [one for one in server._connections if one.peer.session.hello.role == "publish"]
                numbers, events, broken_at = [], [], None
                async for event in listener:
                    events.append(event)
                    if not isinstance(event, Packet):
                        continue
                    numbers.append(event.seq)
                    if len(numbers) == 5:
                        handler.peer.abort()
                        broken_at = event.seq
                    if broken_at is not None and event.seq > broken_at + 10:
                        break
            # What a machine is too slow for has nothing to do with the connection.
            overload = [event for event in events if isinstance(event, Gap) and event.reason == "overload"]
            named = [seq for gap in overload for seq in range(gap.first_seq, gap.next_seq)]
            assert sorted(numbers + named) == list(range(numbers[0], numbers[-1] + 1))
            assert [event for event in events if isinstance(event, Gap | StreamEnd) and event not in overload] == []
            await page.do("untilText", on="#talk-status", has="You are heard")
            await page.do("click", on="#talk")
            await until(lambda: not server.registry.streams)

    run(main())


def test_a_server_that_goes_away_is_waited_for_until_it_is_back(codec, model, chromium):
    async def main():
        async with fresh_page(chromium) as page:
            async with served(codec, model) as server:
                await page.open(server.page_url)
                await page.do("click", on="#listen")
                await codes_are_heard(page)
                await page.do("untilText", on="#listen-status", has="Nobody publishes")
                await server.stop()
                await page.do("untilText", on="#listen-status", has="Trying again")
            async with served(codec, model, port=server.port) as again, publishing(again, codec):
                await page.do("untilText", on="#listen-status", has="Playing “live”")
                await heard_for(page, 0.3)
                await page.do("click", on="#listen")
                await page.forget_complaints("ERR_CONNECTION_REFUSED")

    run(main())


def test_a_full_server_says_so_and_has_room_once_somebody_has_left(codec, model, chromium):
    async def main():
        async with served(codec, model, limits={"max_listeners": 1}) as server, fresh_page(chromium) as page:
            await page.open(server.page_url)
            async with listen(server.url, "live", format="pcm_s16le"):
                await page.do("click", on="#listen")
                await page.do("untilText", on="#listen-status", has="The server is full")
            await page.do("untilText", on="#listen-status", has="Nobody publishes")
            await page.do("click", on="#listen")

    run(main())


def test_codes_that_take_over_before_somebody_publishes_say_so(codec, model, chromium, monkeypatch):
    no_place = Newcomers._no_place

    def no_place_for_pcm(self, hello):
        return "it has no place for PCM" if isinstance(hello, ListenHello) and hello.format != "codes" else no_place(self, hello)

    async def main():
        async with served(codec, model) as server, fresh_page(chromium) as page:
            monkeypatch.setattr(Newcomers, "_no_place", no_place_for_pcm)
            await page.open(server.page_url)
            await page.do("click", on="#listen")
            await codes_are_heard(page)
            await page.do("untilText", on="#listen-status", has="Nobody publishes")
            await page.do("click", on="#listen")

    run(main())


def test_the_model_s_weights_are_downloaded_once_and_kept_by_the_browser(codec, model, chromium):
    watched = WatchedPage(model)

    async def main():
        async with served(codec, watched) as server, fresh_page(chromium) as page:
            for _ in range(2):
                await page.open(server.page_url)
                await page.do("click", on="#listen")
                await codes_are_heard(page)
                await page.do("click", on="#listen")
        weights = [path for path in watched.asked if not path.endswith("manifest.json")]
        assert len(watched.asked) - len(weights) == 2, "the manifest says each time which model it is"
        assert len(weights) == len(set(weights)) > 1

    run(main())


def test_what_is_heard_is_drawn_and_its_delay_told_by_stage(codec, model, chromium):
    pixels = "((c) => c.getContext('2d').getImageData(0, 0, c.width, c.height).data)(document.querySelector('{}'))"
    drawn = f"{pixels}.some(Boolean)"

    async def main():
        async with served(codec, model) as server, publishing(server, codec), fresh_page(chromium) as page:
            await page.open(server.page_url)
            for canvas in ("#wave", "#delays"):
                assert not await page.do("evaluate", js=drawn.format(canvas))
            await page.do("click", on="#listen")
            await codes_are_heard(page)
            await heard_for(page, 1)
            for canvas in ("#wave", "#delays"):
                await page.do("until", js=drawn.format(canvas))
            for stage in ("way", "decode", "buffer", "total"):
                for share in ("p50", "p95", "p99"):
                    assert (await page.do("text", on=f"#{stage}-{share}")).endswith("s")
            assert "raw PCM would be" in await page.do("text", on="#compared")
            await page.do("click", on="#listen")

    run(main())


def test_the_page_asks_nobody_but_its_server_and_is_isolated(codec, model, chromium):
    async def main():
        async with served(codec, model) as server, fresh_page(chromium) as page:
            await page.open(server.page_url)
            await page.do("click", on="#listen")
            await page.do("untilText", on="#listen-status", has="Nobody publishes")
            assert await page.do("evaluate", js="crossOriginIsolated") is True
            requests = await page.do("requests")
            assert len(requests) > 3
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
