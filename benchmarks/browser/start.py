"""What a browser downloads before it listens or talks, and how long it takes from a cold start to the first sound."""

from __future__ import annotations

import asyncio
import tempfile
import urllib.request
from argparse import Namespace
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

import streamcodec
from benchmarks.browser.page import BANDWIDTH, on_core, page_of, part_of, running, served
from benchmarks.harness.browser import Browser
from benchmarks.harness.sections import Figures
from benchmarks.link import Conditions, Direction, Link
from streamcodec.audio import bundled_clip, write_audio
from streamcodec.client import PublishOptions, publish
from streamcodec.types import Samples

__all__ = ["LOOPBACK", "SLOW", "kind_of", "loud", "measure_start"]

LOOPBACK, SLOW = "loopback", "10 Mbit/s"
_SLOW = Direction(delay_s=0.01, rates=((0.0, 10e6 / 8),), buffer_bytes=1 << 16)
_SCRIPT = Path(__file__).with_name("first_sound.js")
_MARKS = ("ready", "playing", "sound", "codes")
_LOUD = 0.02  # of full scale, RMS: no packet of what is published is silent


def measure_start(args: Namespace) -> Figures:
    """Start `args.starts` times over each link, and count what is downloaded."""
    return asyncio.run(_measure(args))


async def _measure(args: Namespace) -> Figures:
    codec = streamcodec.load(args.model)
    packets = codec.stream_encoder(BANDWIDTH, start="primed").feed(loud(bundled_clip()[0], 1920))
    with served(args.model) as url, tempfile.TemporaryDirectory() as folder:
        wav = Path(folder) / "spoken.wav"
        write_audio(wav, bundled_clip()[0], 24_000)
        async with _published(url, codec, packets), running(wav, prefix=on_core(args.core)) as browser:
            links = [{"link": LOOPBACK, "starts": [await _start(browser, page_of(url)) for _ in range(args.starts)]}]
            weight = {"listen": await _weight(browser, part_of(page_of(url), "playout"))}
            port = urlsplit(url).port
            assert port is not None
            conditions = Conditions(up=_SLOW, down=_SLOW, shared=True)
            async with Link(port, conditions) as link:
                link.begin()
                slow = [await _start(browser, page_of(link.url)) for _ in range(args.starts)]
            links.append({"link": SLOW, "starts": slow})
            weight["talk"] = await _talk(browser, page_of(url))
    return {"bandwidth": BANDWIDTH, "round_trip_ms": 2000 * _SLOW.delay_s, "links": links, "weight": weight}


def loud(speech: Samples, size: int) -> Samples:
    """The packets of `speech` that are not silent, joined."""
    packets = speech[: len(speech) // size * size].reshape(-1, size)
    found: Samples = packets[np.sqrt(np.mean(np.square(packets), axis=1)) > _LOUD].reshape(-1)
    return found


@asynccontextmanager
async def _published(url: str, codec: streamcodec.Codec, packets: Sequence[Any]) -> AsyncIterator[None]:
    """The packets as a live stream, over and over."""

    async def go_on() -> None:
        options = PublishOptions(format="codes", model=codec.fingerprint, bandwidth=BANDWIDTH, start="primed")
        async with publish(url, "live", options) as publisher:
            begun = asyncio.get_running_loop().time()
            for at in range(10**9):
                publisher.offer(packets[at % len(packets)])
                await asyncio.sleep(max(0.0, begun + 0.08 * (at + 1) - asyncio.get_running_loop().time()))

    async with asyncio.TaskGroup() as group:  # where publishing fails, so does what listens
        task = group.create_task(go_on())
        yield
        task.cancel()


async def _fresh(browser: Browser) -> None:
    """A page with an empty cache."""
    await browser.do("fresh", context={"bypassCSP": True})


async def _start(browser: Browser, page: str) -> dict[str, float]:
    """Open the page with an empty cache and listen: when what was there, ms since the address was entered."""
    await _fresh(browser)
    await browser.do("beforeScripts", js=_SCRIPT.read_text(encoding="utf-8"))
    await browser.do("open", url=page)
    await browser.do("until", js=f"{list(_MARKS)}.every((one) => one in window.benchmarkMarks)")
    marks: dict[str, float] = await browser.do("evaluate", js="window.benchmarkMarks")
    return marks


async def _talk(browser: Browser, page: str) -> list[Figures]:
    """What a page downloads that talks."""
    await _fresh(browser)
    await browser.open(f"{page}?stream=another")
    await browser.do("click", on="#talk")
    await browser.do("untilText", on="#talk-status", has="You are heard")
    return await _weight(browser, part_of(page, "capture"))


async def _weight(browser: Browser, worklet: str) -> list[Figures]:
    """What the page has asked for since it was opened, by kind: files and bytes on the wire, without headers.

    Playwright does not tell of a worklet's code.
    """
    asked = {worklet, *(url for url in await browser.do("requests") if url.startswith("http"))}
    kinds: dict[str, list[int]] = {}
    for url in sorted(asked):
        kinds.setdefault(kind_of(urlsplit(url).path), []).append(await asyncio.to_thread(_bytes_of, url))
    return [{"kind": kind, "files": len(sizes), "bytes": sum(sizes)} for kind, sizes in sorted(kinds.items())]


def _bytes_of(url: str) -> int:
    request = urllib.request.Request(url, headers={"Accept-Encoding": "br"})
    with urllib.request.urlopen(request) as answer:
        return len(answer.read())


def kind_of(path: str) -> str:
    """What a file of the page's server is."""
    if path.endswith(".wasm"):
        return "ONNX Runtime"
    if path.endswith(".weights"):
        return "the model's weights"
    return "the model's graphs, states and manifest" if path.startswith("/model/") else "the page and its scripts"
