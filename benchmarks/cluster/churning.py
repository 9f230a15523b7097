"""Streams that come and go at three nodes, with listeners at any of them: nothing is lost meanwhile, and nothing is left behind."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from benchmarks.churn.benchmark import slope_per_minute
from benchmarks.cluster.company import Company, CompanyTalk, missed
from benchmarks.cluster.nats_server import stored_messages
from benchmarks.cluster.site import Site, until
from benchmarks.cluster.speaker import ClusterSpeaker
from benchmarks.harness.processes import Address, Processes
from benchmarks.harness.sections import Figures

__all__ = ["ChurnLog", "failures", "measure_churn"]

NODES = 3
_LOOK_EVERY_S = 1.0
_SHORTEST_S = 1.0
_LEFT_S = 60.0  # sessions are kept for 10 s, links for 5 s, copies and marks of deleted keys for 10 s
_FEWEST_S = 300.0  # a slope over less says nothing
_FEW_TASKS = 4  # a question that is just being answered


@dataclass
class ChurnLog:
    """What all streams saw together."""

    streams: int = 0
    packets: int = 0
    told: Counter[str] = field(default_factory=Counter)
    unnamed: int = 0
    repeated: int = 0
    errors: Counter[str] = field(default_factory=Counter)

    def add(self, talk: CompanyTalk) -> None:
        """Enter a stream that is over."""
        self.streams += 1
        ears = list(talk.ears.values())
        found = missed(ears)
        self.packets += sum(len(ear.came) for ear in ears)
        self.told.update(found["told"])
        self.unnamed += found["unnamed"]
        self.repeated += found["repeated"]
        self.errors.update(found["errors"])
        self.errors.update(told.reason for told in talk.speaker.told)
        for ear in ears:
            if len(ear.sessions) != 1 or len(ear.ends) != 1:
                self.errors["a listener heard more or less than one stream from its beginning to its end"] += 1


async def measure_churn(args: argparse.Namespace, site: Site, processes: Processes) -> Figures:  # noqa: ARG001
    """Keep so many streams up for so long, and look what is left behind them."""
    addresses = await site.start([site.nats.url] * NODES, replicate=True)
    log, course, stopped = ChurnLog(), [list[tuple[float, float]]() for _ in addresses], asyncio.Event()
    before = await site.states()
    places = [asyncio.create_task(_keep(args, at, addresses, stopped, log)) for at in range(args.places)]
    begun = time.perf_counter()
    while (now := time.perf_counter() - begun) < 60 * args.minutes:
        for rss, state in zip(course, await site.states(), strict=True):
            rss.append((now, state["usage"]["rss_mib"]))
        await asyncio.sleep(_LOOK_EVERY_S)
    stopped.set()
    await asyncio.gather(*places)

    async def nothing_left() -> bool:
        return not any(_left(before, await site.states(), await stored_messages(site.nats.url)).values())

    with contextlib.suppress(RuntimeError):
        await until(nothing_left, "something is left", _LEFT_S)
    states, stored = await site.states(), await stored_messages(site.nats.url)
    figures = {
        "minutes": args.minutes,
        "places": args.places,
        "mean_life_s": args.mean_life_seconds,
        **{name: dict(value) if isinstance(value, Counter) else value for name, value in vars(log).items()},
        "stored": stored,
        "left": _left(before, states, stored),
        "course": course,
        "memory": [_memory(one, args.warm_up_seconds) for one in course],
        "mib_per_minute_allowed": args.mib_per_minute,
    }
    return {**figures, "failures": failures(figures)}


async def _keep(args: argparse.Namespace, place: int, addresses: list[Address], stopped: asyncio.Event, log: ChurnLog) -> None:
    """One stream after the other, of the same name, each at some node."""
    rng, number = random.Random(place), place
    await asyncio.sleep(rng.uniform(0, 1))
    while not stopped.is_set():
        speaker = ClusterSpeaker(
            f"churn-{place}", rng.choice(addresses).url, addresses[0].fingerprint, rng.choice(("pcm", "codes")), seed=number
        )
        number += args.places
        talk = CompanyTalk(speaker, rng.sample(addresses, 2), rng.choice((("codes",), ("codes",), ("codes", "pcm"))))
        try:
            async with Company() as company:
                await company.begin([talk])
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_SHORTEST_S + rng.expovariate(1 / args.mean_life_seconds)):
                        await stopped.wait()
                await company.end()
                await company.ended()
        except RuntimeError as error:
            log.errors[str(error)] += 1
        log.add(talk)


def _left(before: list[dict[str, Any]], states: list[dict[str, Any]], stored: dict[str, int]) -> dict[str, int]:
    """What is there that was not there before anybody came."""
    left: Counter[str] = Counter()
    for was, state in zip(before, states, strict=True):
        for what, count in state["kept"].items():
            more = count - was["kept"][what]
            left[what] += max(0, more - _FEW_TASKS) if what == "tasks" else max(0, more)
    for bucket, messages in stored.items():
        left[f"messages in the store {bucket}"] = max(0, messages - (len(states) if bucket == "nodes" else 0))
    return dict(left)


def _memory(course: list[tuple[float, float]], warm_up_s: float) -> Figures:
    """Resident memory (MiB) behind the warm-up and at the end, and its slope where that says something."""
    behind = [row for row in course if row[0] >= warm_up_s] or course[-1:]
    long = behind[-1][0] - behind[0][0] >= _FEWEST_S
    slope = slope_per_minute(*zip(*behind, strict=True)) if len(behind) > 1 else None
    return {"start_mib": behind[0][1], "end_mib": behind[-1][1], "mib_per_minute": slope, "long": long}


def failures(figures: Figures) -> list[str]:
    """What is wrong, in words."""
    found = [f"{count} x {what}" for what, count in figures["errors"].items()]
    if any(figures["told"].values()) or figures["unnamed"] or figures["repeated"]:
        found.append(f"gaps {figures['told']}, {figures['unnamed']} packets lost untold, {figures['repeated']} came twice; expected none")
    if not figures["packets"]:
        found.append("no packet came")
    found += [f"{count} {what} left" for what, count in figures["left"].items() if count]
    for at, memory in enumerate(figures["memory"]):
        if memory["long"] and memory["mib_per_minute"] > figures["mib_per_minute_allowed"]:
            found.append(
                f"memory of node {at + 1} grows by {memory['mib_per_minute']:.2f} MiB a minute, expected "
                f"{figures['mib_per_minute_allowed']:g} at most"
            )
    return found
