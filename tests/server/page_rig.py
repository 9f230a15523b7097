"""Servers with a page, streams for it to hear, and what its tests wait for."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from browser_rig import Browser
from patience import TIMEOUT_S, patient_limits
from server_rig import voice
from websockets.datastructures import Headers

from streamcodec.client import PublishOptions, publish
from streamcodec.codec import Codec
from streamcodec.server import Page, Server
from streamcodec.server.page import Answer

__all__ = ["WatchedPage", "codes_are_heard", "heard_for", "publishing", "served"]


@dataclass(frozen=True)
class _Held(Answer):
    """An answer that comes only once `gate` is open."""

    packed: bool = True
    gate: threading.Event = field(default_factory=threading.Event)

    def unpacked(self) -> Answer:
        assert self.gate.wait(TIMEOUT_S)
        return Answer(self.status, self.headers, self.body)


class WatchedPage(Page):
    """A page that notes what of the model is asked for, and may hold it back until `gate` is open."""

    def __init__(self, model: str | Path, *, held: bool = False) -> None:
        super().__init__(model)
        self.gate = threading.Event()
        self.asked: list[str] = []
        if not held:
            self.gate.set()

    def answer(self, path: str, headers: Headers) -> Answer | None:
        found = super().answer(path, headers)
        if found is None or not path.startswith("/model/"):
            return found
        self.asked.append(path)
        return found if self.gate.is_set() else _Held(found.status, found.headers, found.body, gate=self.gate)


@contextlib.asynccontextmanager
async def served(codec: Codec, page: Page | str | Path, **options: Any) -> AsyncIterator[Server]:
    """A server with the page, or with one of a model, which is ready."""
    page = page if isinstance(page, Page) else Page(page)
    limits = patient_limits(**options.pop("limits", {}))
    async with Server(codec, port=options.pop("port", 0), page=page, limits=limits, **options) as server:
        await server.page_is_ready()
        yield server


async def _publish_for_ever(url: str, codec: Codec, stream: str, bandwidth: float) -> None:
    # The browser gets all of the processor: nothing is encoded meanwhile.
    packets = codec.stream_encoder(bandwidth, start="primed").feed(voice(1, 8.0))
    options = PublishOptions(format="codes", model=codec.fingerprint, bandwidth=bandwidth, start="primed")
    async with publish(url, stream, options) as to:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        for count, packet in enumerate(itertools.cycle(packets)):
            to.offer(packet)
            await asyncio.sleep(begun + 0.08 * (count + 1) - loop.time())


@contextlib.asynccontextmanager
async def publishing(server: Server, codec: Codec, stream: str = "live", bandwidth: float = 24.0) -> AsyncIterator[None]:
    """Somebody publishes in real time."""
    task = asyncio.create_task(_publish_for_ever(server.url, codec, stream, bandwidth))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def codes_are_heard(page: Browser) -> None:
    """Wait until the page decodes by itself."""
    await page.do("untilText", on="#format", has="codes, decoded here")


async def heard_for(page: Browser, seconds: float) -> None:
    """Wait until the page has played so much from now on."""
    now = "Number.parseFloat(document.querySelector('#heard').textContent)"
    before = await page.do("evaluate", js=f"{now} || 0")
    await page.do("until", js=f"{now} > {before + seconds}")


async def missing_numbers_are_told(page: Browser) -> list[int]:
    """The numbers of the packets that the listening page has had, once it says how many it is missing among them."""
    give_up = time.monotonic() + TIMEOUT_S / 2
    while True:
        numbers = await page.tapped_numbers("listen_worker")
        assert numbers == sorted(set(numbers))
        lost = int((await page.do("text", on="#lost")).split()[0])
        if numbers[-1] - numbers[0] + 1 - len(numbers) == lost:
            return numbers
        assert time.monotonic() < give_up, f"{lost} are told: {numbers}"
