"""What every measurement in a browser needs: a server with the page, a browser on one processor, and its memory."""

from __future__ import annotations

import importlib.resources
import os
import shutil
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import psutil

from benchmarks.harness.browser import Browser
from benchmarks.harness.programs import Program, serving_url

__all__ = ["BANDWIDTH", "heap_mib", "on_core", "page_of", "part_of", "private_mib", "running", "served", "taskset_is_missing"]

BANDWIDTH = 6.0
"""The bandwidth of all streams unless said otherwise, kbps."""


@contextmanager
def served(model: str, environment: Mapping[str, str] | None = None) -> Iterator[str]:
    """The WebSocket address of `streamcodec serve` with the page, for as long as the block runs."""
    server = Program(["serve", "--port", "0", "--capacity", "off", "--model", model], environment)
    try:
        yield serving_url(server)
    finally:
        server.stop()


def page_of(url: str) -> str:
    """The page at a server's WebSocket address."""
    return url.replace("ws://", "http://").rstrip("/") + "/"


def part_of(page: str, name: str) -> str:
    """The address below `page` of a part that the build has put a hash into the name of."""
    files = importlib.resources.files("streamcodec.server").joinpath("page").iterdir()
    [found] = [file.name for file in files if file.name.startswith(f"{name}-")]
    return page + found.removesuffix(".br")


def on_core(core: int | None) -> list[str]:
    """What starts a program on one processor: `core`, or the last that this process may use."""
    return ["taskset", "-c", str(max(os.sched_getaffinity(0)) if core is None else core)]


def taskset_is_missing() -> bool:
    """Whether this machine cannot start a program on one processor."""
    return not hasattr(os, "sched_getaffinity") or shutil.which("taskset") is None


@asynccontextmanager
async def running(wav: Path | None = None, **how: Any) -> AsyncIterator[Browser]:
    """A browser with a fresh page, whose policy lets a benchmark's own scripts run."""
    browser = Browser(wav, **how)
    try:
        await browser.do("fresh", context={"bypassCSP": True})
        yield browser
    finally:
        browser.close()


def private_mib(browser: Browser) -> float:
    """The memory that belongs to the browser's pages alone, MiB."""
    found = 0
    for process in psutil.Process(browser.pid).children(recursive=True):
        try:
            if "--type=renderer" in process.cmdline():
                found += process.memory_full_info().uss
        except psutil.NoSuchProcess:
            continue
    return found / 2**20


async def heap_mib(browser: Browser) -> float:
    """What JavaScript and WebAssembly keep in the page and its workers, behind a collection of garbage, MiB."""
    counted = await browser.do("evaluate", js="performance.measureUserAgentSpecificMemory().then((found) => found.bytes)")
    return float(counted) / 2**20
