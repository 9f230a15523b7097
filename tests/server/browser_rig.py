"""A real Chromium that a test drives from Python, and what its tests need to be told in advance."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from programs import needs
from web_packages import WEB

__all__ = ["Browser", "fresh_page", "needs_browser", "needs_firefox"]

HERE = Path(__file__).parent
PACKAGES = WEB / "node_modules" / "playwright-core"
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
_MISSING = [] if CHROMIUM else ["a Chromium"]
_MISSING += [] if PACKAGES.exists() else ["the packages of clients/web (make page-setup)"]

FIREFOX = shutil.which("firefox-esr") or shutil.which("firefox")

needs_browser = needs("node", without=" and ".join(_MISSING) or None)
# Distributions have it as they like, so that its absence is never a failure.
needs_firefox = pytest.mark.skipif(shutil.which("node") is None or FIREFOX is None, reason="missing here: node or a Firefox")


class Browser:
    """One page: each verb of a driver is something to `do`. What goes wrong there is an `AssertionError` here."""

    def __init__(self, driver: str, *words: str) -> None:
        # Node 20 has WebSocket behind a flag, later ones take the flag as well.
        command = ["node", "--no-warnings", "--experimental-websocket", str(HERE / driver), *words]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._answer()

    @classmethod
    def chromium(cls, wav: Path) -> Browser:
        """A Chromium whose microphone hears a file."""
        assert CHROMIUM is not None
        return cls("browser_driver.mjs", CHROMIUM, str(wav))

    @classmethod
    def firefox(cls, profile: Path) -> Browser:
        """A Firefox with a profile in an empty folder. It knows fewer verbs."""
        assert FIREFOX is not None
        return cls("firefox_driver.mjs", FIREFOX, str(profile))

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the driver of the browser is gone"
        return json.loads(line)

    def _ask(self, asked: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asked).encode() + b"\n")
        self._process.stdin.flush()
        return self._answer()

    async def do(self, verb: str, **how: Any) -> Any:
        """Do it, and wait until it is done. One at a time."""
        said = await asyncio.to_thread(self._ask, {"verb": verb, **how})
        assert "error" not in said, said["error"]
        return said.get("value")

    async def open(self, url: str) -> None:
        """Open the page and wait until its program runs."""
        await self.do("open", url=url)
        await self.do("until", js="document.documentElement.dataset.ready === 'true'")

    async def forget_complaints(self, *about: str) -> None:
        """Pass over complaints about what the test has brought about; others still count."""
        await self.do("forget", about=about)

    async def tap(self, part: str) -> None:
        """Let a worker keep the samples of its packets from now on."""
        await self.do("inWorker", part=part, js="void (self.streamcodecTap = [])")

    async def tapped(self, part: str) -> list[NDArray[np.float32]]:
        """The samples that a worker has kept, packet by packet."""
        js = """self.streamcodecTap.map((one) => {
            const samples = one.samples ?? one, bytes = new Uint8Array(samples.buffer, samples.byteOffset, samples.byteLength);
            let text = "";
            for (const byte of bytes) text += String.fromCharCode(byte);
            return btoa(text);
        })"""
        return [np.frombuffer(base64.b64decode(text), "<f4") for text in await self.do("inWorker", part=part, js=js)]

    async def tapped_numbers(self, part: str) -> list[int]:
        """The numbers of the packets that a worker has kept."""
        numbers: list[int] = await self.do("inWorker", part=part, js="self.streamcodecTap.map((one) => one.seq)")
        return numbers


@contextlib.asynccontextmanager
async def fresh_page(browser: Browser) -> AsyncIterator[Browser]:
    """The browser with a page that has seen nothing yet, and that must not complain."""
    await browser.do("fresh")
    yield browser
    complaints = await browser.do("complaints")
    assert complaints == [], complaints
