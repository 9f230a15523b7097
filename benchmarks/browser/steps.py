"""How long each step of the page's codec takes in Chromium at a microphone's pace, and whether that or its memory grows."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import time
from argparse import Namespace
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.browser.page import BANDWIDTH, heap_mib, on_core, page_of, part_of, private_mib, running, served
from benchmarks.harness.browser import WEB, Browser
from benchmarks.harness.sections import Figures
from benchmarks.harness.timing import percentiles
from streamcodec.audio import bundled_clip

__all__ = ["BOTH", "measure_steps", "summary"]

BOTH = "encode and decode"
HIGH_KBPS = 24.0
_WINDOW_S = 60.0
_PART_S, _MOST_PARTS = 10.0, 60  # of the picture
_SPOKEN_S = 2.0
_LOOK_EVERY_S = 5.0
_GRACE_S = 300.0  # what a worker may take beyond its time until its models are loaded and its times read

_RUN = """void (window.steps = { state: "running" }, (() => {
    const fail = (why) => Object.assign(window.steps, { state: "failed", why });
    const samples = Float32Array.from(atob(%(samples)s), (one) => one.charCodeAt(0) / 127.5 - 1);
    const source = URL.createObjectURL(new Blob([%(source)s], { type: "text/javascript" }));
    const worker = new Worker(source, { type: "module" });
    worker.onerror = (event) => fail(event.message);
    worker.onmessage = ({ data }) => {
        if (data.type === "ready") worker.postMessage({ ...%(command)s, speech: samples });
        else if (data.type === "failed") fail(data.reason);
        else if (data.type === "begun") window.steps.state = "begun";
        else Object.assign(window.steps, { state: "done", found: { ...data, times: [...data.times], when: [...data.when] } });
    };
})())"""


def bundled_worker() -> str:
    """The worker with the page's codec, bundled as the page's own workers are."""
    words = ["--bundle", "--minify", "--format=esm", "--target=es2022", "--conditions=source", "--legal-comments=none", "--log-level=error"]
    command = [str(WEB / "node_modules" / ".bin" / "esbuild"), str(WEB / "page" / "benchmarks" / "step_worker.ts"), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def measure_steps(args: Namespace) -> Figures:
    """Run the worker for `args.minutes`."""
    return asyncio.run(_measure(args))


async def _measure(args: Namespace) -> Figures:
    with served(args.model) as url:
        async with running(prefix=on_core(args.core)) as browser:
            page = page_of(url)
            await browser.open(page)
            await browser.do("evaluate", js=_RUN % _parts(page, 60 * args.minutes))
            memory, heap = await _watch(browser, 60 * args.minutes)
            found = await browser.do("evaluate", js="window.steps.found")
            version = await browser.do("version")
    return {
        "minutes": args.minutes,
        "low_kbps": BANDWIDTH,
        "high_kbps": HIGH_KBPS,
        "spoken_s": _SPOKEN_S,
        "browser": version,
        "runtime": _runtime(),
        **summary(found, 60 * args.minutes),
        "memory": memory,
        "heap_mib": heap,
    }


def _runtime() -> str:
    """The version of ONNX Runtime that the page has."""
    package = json.loads((WEB / "package.json").read_text(encoding="utf-8"))
    return str(package["dependencies"]["onnxruntime-web"])


def _parts(page: str, seconds: float) -> dict[str, str]:
    """What the script in the page is made of."""
    speech, _ = bundled_clip()
    command = {
        "places": {"wasm": part_of(page, "onnxruntime"), "model": f"{page}model/"},
        "seconds": seconds,
        "spokenS": _SPOKEN_S,
        "lowKbps": BANDWIDTH,
        "highKbps": HIGH_KBPS,
    }
    # Eight bits are enough for what only its time is wanted of.
    samples = np.round((speech + 1) * 127.5).clip(0, 255).astype(np.uint8)
    return {
        "samples": json.dumps(base64.b64encode(samples.tobytes()).decode()),
        "source": json.dumps(bundled_worker()),
        "command": json.dumps(command),
    }


async def _watch(browser: Browser, seconds: float) -> tuple[list[dict[str, float]], dict[str, float]]:
    """The pages' memory as time goes by, and what JavaScript keeps behind the first window and behind all; until the worker is done."""
    memory: list[dict[str, float]] = []
    heap: dict[str, float] = {}
    give_up = time.monotonic() + seconds + _GRACE_S
    begun = None
    while (state := await browser.do("evaluate", js="window.steps.state")) != "done":
        if state == "failed" or time.monotonic() > give_up:
            raise RuntimeError(f"the steps in the browser: {await browser.do('evaluate', js='window.steps.why ?? window.steps.state')}")
        if state == "begun":
            begun = begun or time.monotonic()
            at_s = time.monotonic() - begun
            memory.append({"at_s": at_s, "private_mib": private_mib(browser)})
            if at_s >= min(_WINDOW_S, seconds / 2) and "first" not in heap:
                heap["first"] = await heap_mib(browser)
        await asyncio.sleep(min(_LOOK_EVERY_S, seconds / 10))
    memory.append({"at_s": seconds, "private_mib": private_mib(browser)})
    heap["last"] = await heap_mib(browser)
    heap.setdefault("first", heap["last"])  # a run that is too short to be looked at in between
    return memory, heap


def summary(found: Mapping[str, Any], seconds: float) -> Figures:
    """What the worker's times [packets, steps] say, of each signal and step: in the first and the last minute, and over the time (ms)."""
    times = np.array(found["times"], np.float64).reshape(-1, len(found["steps"]))[: found["count"]]
    when = np.array(found["when"], np.float64)[: found["count"]] / 1000
    window = min(_WINDOW_S, seconds)
    rows, series = [], []
    for at, signal in enumerate(found["signals"]):
        mine = np.arange(at, found["count"], len(found["signals"]))
        values = dict(zip(found["steps"], times[mine].T, strict=True))
        values[BOTH] = values["encode"] + values["decode"]
        for step, ms in values.items():
            first, last = ms[when[mine] < window], ms[when[mine] >= when[-1] - window]
            row = {"signal": signal, "step": step, "very_first_ms": float(ms[0])}
            rows.append({**row, "first": _spread(first), "last": _spread(last), "all": _spread(ms)})
        series.append({"signal": signal, **_series(when[mine] / 60, values[BOTH], seconds / 60)})
    told = {name: found[name] for name in ("late", "packet_ms", "loaded_ms")}
    return {**told, "window_s": window, "packets": found["count"], "rows": rows, "series": series}


def _spread(ms: npt.NDArray[np.float64]) -> dict[str, float]:
    return {**percentiles(list(ms)), "packets": len(ms)}


def _series(minutes: npt.NDArray[np.float64], ms: npt.NDArray[np.float64], most: float) -> dict[str, Sequence[float]]:
    """Median and 99th percentile of equal parts of the time."""
    edges = np.linspace(0, most, max(2, min(_MOST_PARTS, round(60 * most / _PART_S)) + 1))
    middles = (edges[1:] + edges[:-1]) / 2
    parts = [ms[(minutes >= begin) & (minutes < end)] for begin, end in pairwise(edges)]
    told = [(float(middle), percentiles(list(part))) for middle, part in zip(middles, parts, strict=True) if len(part)]
    return {"minutes": [at for at, _ in told], "p50": [part["p50"] for _, part in told], "p99": [part["p99"] for _, part in told]}
