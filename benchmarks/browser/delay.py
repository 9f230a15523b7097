"""Mouth to ear on virtual sound cards: page to page, beside Python to Python."""

from __future__ import annotations

import asyncio
import re
import tempfile
from argparse import Namespace
from pathlib import Path

import numpy as np

import streamcodec
from benchmarks.browser.page import BANDWIDTH, heap_mib, page_of, private_mib, running, served
from benchmarks.harness.browser import Browser
from benchmarks.harness.sections import Figures
from benchmarks.mouth_to_ear.benchmark import measure
from benchmarks.mouth_to_ear.hearing import hear
from benchmarks.mouth_to_ear.virtual_sound import VirtualSound, spoken_in
from streamcodec.audio import bundled_clip
from streamcodec.types import Samples

__all__ = ["PAGES", "PYTHON", "measure_delay"]

PAGES, PYTHON = "page to page", "Python to Python"
_SLACK_S = 0.02  # what both players hold back at least
_LONGEST_S = 1.0  # beyond the slack


def measure_delay(args: Namespace) -> Figures:
    """Send `args.delay_minutes` of speech through both."""
    codec, (clip, rate) = streamcodec.load(args.model), bundled_clip()
    spoken = np.resize(clip, round(60 * args.delay_minutes * rate))
    ours = measure(spoken, codec, slack_ms=1000 * _SLACK_S, serve=["--model", args.model])
    stages = ours.stages_ms
    python = {
        "way": PYTHON,
        **{name: getattr(ours, name) for name in ("delay_ms", "worst_delay_ms", "correlation", "stoi", "intact_s", "underruns", "lost")},
        "stages_ms": _stages(
            ours.delay_ms,
            stages["packet"],
            stages["queue, encode, network"],
            stages["decode"],
            stages["playout"] + stages["speaker, as it says"],
        ),
    }
    pages = asyncio.run(_page_to_page(spoken, codec, args.model))
    return {"minutes": args.delay_minutes, "slack_ms": 1000 * _SLACK_S, "bandwidth": BANDWIDTH, "runs": [python, pages]}


def _stages(delay_ms: float, packet: float, way: float, decode: float, buffer: float) -> dict[str, float]:
    """A delay's parts in ms; the last is what no program accounts for."""
    known = {"packet": packet, "queue, encode, network": way, "decode": decode, "playout and speaker, as it says": buffer}
    return {**known, "sound server, microphone and speaker": delay_ms - sum(known.values())}


async def _page_to_page(spoken: Samples, codec: streamcodec.Codec, model: str) -> Figures:
    """Talk in one Chromium and listen in another, on the same sound cards as the programs before."""
    with tempfile.TemporaryDirectory() as folder, VirtualSound() as sound, served(model, sound.environment) as url:
        path = spoken_in(Path(folder), spoken)
        async with running(environment=sound.environment) as talker, running(environment=sound.environment) as listener:
            await talker.open(page_of(url))
            await talker.do("evaluate", js="document.querySelector('#echo').checked = false")
            await talker.do("choose", on="#talk-bandwidth", value=f"{BANDWIDTH:g}")
            await talker.do("click", on="#talk")
            await talker.do("untilText", on="#talk-status", has="You are heard")
            await listener.open(page_of(url))
            await listener.do("click", on="#listen")
            await listener.do("untilText", on="#format", has="codes, decoded here")
            await listener.do("until", js="Number.parseFloat(document.querySelector('#heard').textContent) > 2")
            await talker.tap("talk_worker")
            before = await _memory(talker, listener)
            talk = await asyncio.to_thread(sound.talk, path, _LONGEST_S + _SLACK_S)
            shown = {name: await _number(listener, f"#{name}-p50") for name in ("way", "decode", "buffer")}
            lost = [int(number) for number in re.findall(r"\d+", await listener.do("text", on="#lost"))]
            captured = np.concatenate(await talker.tapped("talk_worker"))
            after = await _memory(talker, listener)
    heard = hear(talk, captured, codec.sample_rate, codec, _SLACK_S)
    packet_ms = 80.0
    return {
        "way": PAGES,
        "delay_ms": 1000 * heard.delay_s,
        "worst_delay_ms": 1000 * heard.worst_delay_s,
        "correlation": heard.correlation,
        "stoi": heard.stoi,
        "intact_s": heard.intact_s,
        "lost": lost[0],
        "underruns": lost[1],
        "stages_ms": _stages(1000 * heard.delay_s, packet_ms, shown["way"], shown["decode"], shown["buffer"]),
        "memory": {"before": before, "after": after},
    }


async def _number(browser: Browser, on: str) -> float:
    """The number that a text of the page begins with."""
    return float(re.match(r"[\d.]+", await browser.do("text", on=on))[0])  # type: ignore[index]


async def _memory(talker: Browser, listener: Browser) -> Figures:
    pages = {"talker": talker, "listener": listener}
    return {name: {"heap_mib": await heap_mib(page), "private_mib": private_mib(page)} for name, page in pages.items()}
