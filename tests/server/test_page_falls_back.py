"""The page where it cannot run the codec, or not yet: the server codes for it, says so, and gives it back as soon as the page can."""

from __future__ import annotations

import itertools

import pytest
from browser_rig import fresh_page, needs_browser
from made_up_models import FEW_LAYERS, save_made_up_model
from page_rig import WatchedPage, codes_are_heard, heard_for, publishing, served
from server_rig import run, until

from streamcodec.client import listen
from streamcodec.protocol import Gap, Packet, StreamEnd
from streamcodec.server import page as page_module

pytestmark = needs_browser

# Whatever lies between two looks at this clock takes a fifth of a second: no step of the codec is in time.
SLOW = "(() => { const now = performance.now.bind(performance); let looks = 0; performance.now = () => now() + 200 * looks++; })()"

# The worker sleeps, while the audio thread goes on.
STALL = "void Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 4000)"

# Tests suspend and resume what the page listens to its microphone with.
REACHABLE = "AudioContext = class extends AudioContext { constructor(...all) { super(...all); self.heardWith = this; } };"

# The worker's clock goes a hundred times too slowly: no step of the codec is late, on any machine.
IN_TIME = """(() => {
    const now = performance.now.bind(performance);
    const from = now();
    performance.now = () => from + (now() - from) / 100;
})()"""


def test_sound_begins_as_pcm_and_changes_over_to_codes_without_a_gap_or_a_repetition(codec, model, chromium):
    watched = WatchedPage(model, held=True)

    async def main():
        async with served(codec, watched) as server, publishing(server, codec, bandwidth=6.0), fresh_page(chromium) as page:
            await until(lambda: "live" in server.registry.streams)
            await page.open(server.page_url)
            await page.do("click", on="#listen")
            await page.tap("listen_worker")
            await page.do("untilText", on="#listen-status", has="Playing “live”")
            await heard_for(page, 0.5)
            assert await page.do("text", on="#format") == "PCM, decoded by the server"
            pcm = len(await page.tapped_numbers("listen_worker"))
            watched.gate.set()
            await page.do("untilText", on="#listen-notice", has="Loading the decoder")
            await codes_are_heard(page)
            assert await page.do("evaluate", js="document.querySelector('#listen-notice').hidden")
            await heard_for(page, 0.5)
            numbers = await page.tapped_numbers("listen_worker")
            assert len(numbers) > pcm > 3
            assert numbers == sorted(set(numbers))
            # A server that has no time to decode is not waited for without end: then the page says what it left out.
            lost = int((await page.do("text", on="#lost")).split()[0])
            assert numbers[-1] - numbers[0] + 1 - len(numbers) == lost
            await until(lambda: len(server.registry.listeners["live"]) == 1, "the server still decodes for the page")
            await page.do("click", on="#listen")

    run(main())


def test_a_device_that_is_too_slow_to_decode_lets_the_server_do_it_and_says_so(codec, model, chromium):
    async def main():
        async with served(codec, model) as server, publishing(server, codec, bandwidth=6.0), fresh_page(chromium) as page:
            await page.open(server.page_url)
            await page.do("click", on="#listen")
            await codes_are_heard(page)
            await page.do("inWorker", part="listen_worker", js=SLOW)
            await page.do("untilText", on="#listen-notice", has="The server decodes for this page: this device is too slow")
            await page.do("untilText", on="#format", has="PCM, decoded by the server")
            await heard_for(page, 0.5)
            await page.do("click", on="#listen")

    run(main())


def test_a_device_that_is_too_slow_to_encode_lets_the_server_do_it_and_says_so(codec, model, chromium):
    async def main():
        async with served(codec, model) as server, fresh_page(chromium) as page:
            await page.open(server.page_url)
            await page.do("click", on="#talk")
            await page.do("untilText", on="#talk-status", has="You are heard")
            await page.do("untilText", on="#encoded", has="here, a packet in")
            await page.do("inWorker", part="talk_worker", js=SLOW)
            await page.do("untilText", on="#talk-notice", has="The server encodes for this page: this device is too slow")
            await page.do("untilText", on="#encoded", has="by the server")
            async with listen(server.url, "live", model=codec.fingerprint) as listener:
                async for event in listener:
                    if isinstance(event, Packet):
                        break
            await page.do("click", on="#talk")
            await until(lambda: not server.registry.streams)

    run(main())


def test_what_a_stalled_worker_misses_is_a_gap_and_where_that_happens_again_the_server_encodes(codec, model, chromium):
    async def main():
        async with served(codec, model) as server, fresh_page(chromium) as page:
            await page.open(server.page_url)
            async with listen(server.url, "live", model=codec.fingerprint) as listener:
                await page.do("click", on="#talk")
                await page.do("inWorker", part="talk_worker", js=IN_TIME)
                await page.do("untilText", on="#talk-status", has="You are heard")
                notice = "document.querySelector('#talk-notice').textContent"
                while "The server encodes for this page: this device is too slow to encode" not in await page.do("evaluate", js=notice):
                    await page.do("inWorker", part="talk_worker", js=STALL)
                await page.do("untilText", on="#encoded", has="by the server")
                dropped_s = await page.do("evaluate", js="Number.parseFloat(document.querySelector('#dropped').textContent)")
                stream = []
                async for event in listener:
                    if isinstance(event, StreamEnd):
                        break
                    if isinstance(event, Packet | Gap):
                        stream.append(event)
                async for event in listener:
                    if isinstance(event, Packet):
                        break
            await page.do("click", on="#talk")
            await until(lambda: not server.registry.streams)
        numbers = [(one.seq, one.seq + 1) if isinstance(one, Packet) else (one.first_seq, one.next_seq) for one in stream]
        assert all(before == first for (_, before), (first, _) in itertools.pairwise(numbers)), numbers
        # Gaps that follow each other are one hole.
        lost = [at for at, one in enumerate(stream) if isinstance(one, Gap) and one.reason == "overload"]
        holes = [at for at in lost if at - 1 not in lost]
        assert len(holes) == 2, "the stream goes on behind the first hole, and ends behind the second"
        assert all(stream[at].count * 0.08 > 0.9 for at in holes), "a second is dropped at once"
        assert 0.08 * sum(stream[at].count for at in lost) <= dropped_s + 0.1

    run(main())


def test_a_microphone_that_stood_still_is_live_again_and_nothing_was_lost(codec, model, chromium):
    async def stands_still(page):
        await page.do("evaluate", js="heardWith.suspend().then(() => { self.stillFrom = performance.now(); })")
        await page.do("until", js="performance.now() - stillFrom > 3000")
        # As when a page is seen again.
        await page.do("evaluate", js="void document.dispatchEvent(new Event('visibilitychange'))")

    async def main():
        async with served(codec, model) as server, fresh_page(chromium) as page:
            await page.do("beforeScripts", js=REACHABLE)
            await page.open(server.page_url)
            await page.do("click", on="#talk")
            await page.do("untilText", on="#talk-status", has="You are heard")
            async with listen(server.url, "live", model=codec.fingerprint) as listener:
                packets, went_on = [], False
                async for event in listener:
                    if not isinstance(event, Packet):
                        continue
                    packets.append(event)
                    if len(packets) % 20 == 10:  # once more where this machine was too slow meanwhile
                        await stands_still(page)
                    went_on = len(packets) > 1 and (
                        packets[-1].seq == packets[-2].seq + 1 and (packets[-1].timestamp - packets[-2].timestamp) % 2**32 > 2e6
                    )
                    if went_on:
                        break
            assert went_on, "no packet is missing, and the time goes on"
            await page.do("untilText", on="#talk-status", has="You are heard")
            await page.do("click", on="#talk")
            await until(lambda: not server.registry.streams)

    run(main())


@pytest.mark.parametrize("why", ["the server has no model for the page", "its model has changed"])
def test_a_model_that_the_page_cannot_run_is_coded_by_the_server(why, codec, chromium, tmp_path):
    offered = "no such model" if "no model" in why else save_made_up_model(tmp_path, seed=7, **FEW_LAYERS)

    async def main():
        async with served(codec, offered) as server, fresh_page(chromium) as page:
            await page.open(server.page_url)
            await page.do("click", on="#talk")
            await page.do("untilText", on="#talk-notice", has=f"The server encodes for this page: {why}")
            await page.do("untilText", on="#talk-status", has="You are heard")
            await page.do("click", on="#listen")
            await page.do("untilText", on="#listen-notice", has=f"The server decodes for this page: {why}")
            await page.do("untilText", on="#format", has="PCM, decoded by the server")
            await heard_for(page, 0.3)
            await page.do("click", on="#listen")
            await page.do("click", on="#talk")
            await until(lambda: not server.registry.streams)

    run(main())


def test_a_page_whose_threads_may_share_no_memory_plays_by_messages(codec, model, chromium, monkeypatch):
    monkeypatch.delitem(page_module._SECURITY, "Cross-Origin-Embedder-Policy")

    async def main():
        async with served(codec, model) as server, publishing(server, codec), fresh_page(chromium) as page:
            await page.open(server.page_url)
            assert await page.do("evaluate", js="crossOriginIsolated") is False
            await page.do("click", on="#listen")
            await codes_are_heard(page)
            await heard_for(page, 0.5)
            await page.do("until", js="Number.parseFloat(document.querySelector('#buffered').textContent) > 0")
            await page.do("until", js="document.querySelector('#listen-level').value > -60")
            await page.do("click", on="#listen")

    run(main())
