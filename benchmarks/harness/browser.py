"""A real browser that tests and benchmarks drive from Python, line by line, through Playwright in Node.

Chromium, Node and the packages of `clients/web` (`make page-setup`) must be there: `missing_for_browser` says what is not.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["WEB", "Browser", "BrowserError", "DrivenPage", "missing_for_browser"]

WEB = Path(__file__).parents[2] / "clients" / "web"
"""Where the page's sources and its tools lie."""

_CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
_FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--autoplay-policy=no-user-gesture-required", "--use-fake-ui-for-media-stream"),
    "--enable-blink-features=ForceEagerMeasureMemory",  # a page that asks for its memory need not wait for a collection of garbage
)
_AS_BASE64 = """((samples) => {
    const bytes = new Uint8Array(samples.buffer, samples.byteOffset, samples.byteLength);
    let text = "";
    for (const byte of bytes) text += String.fromCharCode(byte);
    return btoa(text);
})"""


class BrowserError(RuntimeError):
    """Something that a browser was told to do went wrong there."""


def missing_for_browser() -> list[str]:
    """What this machine lacks to run a browser."""
    missing = [] if shutil.which("node") else ["node"]
    missing += [] if _CHROMIUM else ["a Chromium"]
    return missing + ([] if (WEB / "node_modules" / "playwright-core").exists() else ["the packages of clients/web (make page-setup)"])


class DrivenPage:
    """One page in a browser that `driver`, a program for Node in this folder, starts with `words`. Each of its verbs is something to `do`.

    `environment` are variables for it, `prefix` a command that starts it, such as `taskset`. Raises `BrowserError` where it does not start.
    """

    def __init__(
        self, driver: str, words: Sequence[str], *, environment: Mapping[str, str] | None = None, prefix: Sequence[str] = ()
    ) -> None:
        # Node 20 has WebSocket behind a flag, later ones take the flag as well.
        node = ["node", "--no-warnings", "--experimental-websocket", str(Path(__file__).with_name(driver))]
        told = {**os.environ, **(environment or {})}
        self._process = subprocess.Popen([*prefix, *node, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=told)
        self._answer()

    @property
    def pid(self) -> int:
        """The driver's process; the browser's are its descendants."""
        return self._process.pid

    def close(self) -> None:
        """End it."""
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
        if not line:
            raise BrowserError("the driver of the browser is gone")
        return json.loads(line)

    def _ask(self, asked: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asked).encode() + b"\n")
        self._process.stdin.flush()
        return self._answer()

    async def do(self, verb: str, **how: Any) -> Any:
        """Do it, and wait until it is done. One at a time. Raises `BrowserError` where it does not work."""
        said = await asyncio.to_thread(self._ask, {"verb": verb, **how})
        if "error" in said:
            raise BrowserError(said["error"])
        return said.get("value")

    async def open(self, url: str) -> None:
        """Open the page and wait until its program runs."""
        await self.do("open", url=url)
        await self.do("until", js="document.documentElement.dataset.ready === 'true'")


class Browser(DrivenPage):
    """A Chromium; `browser_driver.mjs` has the verbs.

    Its microphone hears `wav`, or without one what the machine's default device does, on which it then also plays. For the other arguments
    see `DrivenPage`.
    """

    def __init__(self, wav: Path | None = None, *, environment: Mapping[str, str] | None = None, prefix: Sequence[str] = ()) -> None:
        sound = [] if wav is None else ["--use-fake-device-for-media-stream", f"--use-file-for-fake-audio-capture={wav}"]
        options = {"executablePath": _CHROMIUM, "headless": True, "args": [*_FLAGS, *sound]}
        if wav is None:
            options["ignoreDefaultArgs"] = ["--mute-audio"]
        super().__init__("browser_driver.mjs", [json.dumps(options)], environment=environment, prefix=prefix)

    async def forget_complaints(self, *about: str) -> None:
        """Pass over complaints about what the caller has brought about; others still count."""
        await self.do("forget", about=about)

    async def tap(self, part: str) -> None:
        """Let a worker keep the samples of its packets from now on."""
        await self.do("inWorker", part=part, js="void (self.streamcodecTap = [])")

    async def tapped(self, part: str) -> list[NDArray[np.float32]]:
        """The samples that a worker has kept, packet by packet."""
        js = f"self.streamcodecTap.map((one) => {_AS_BASE64}(one.samples ?? one))"
        return [np.frombuffer(base64.b64decode(text), "<f4") for text in await self.do("inWorker", part=part, js=js)]

    async def tapped_numbers(self, part: str) -> list[int]:
        """The numbers of the packets that a worker has kept."""
        numbers: list[int] = await self.do("inWorker", part=part, js="self.streamcodecTap.map((one) => one.seq)")
        return numbers
