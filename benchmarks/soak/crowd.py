"""The clients' process: as many streams as are asked for, each for a while, and another in the place of each that ends."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.connection import Connection as Pipe

from benchmarks.attacks.streams import OrdinaryStream, OrdinaryStreams, StreamLog
from benchmarks.harness.processes import run_loop
from benchmarks.harness.timing import percentiles
from streamcodec.gc_freeze import freeze_gc

__all__ = ["CrowdLog", "CrowdPlan", "crowd"]

_SHORTEST_S = 5.0
_JOINS_S = 0.2


@dataclass(frozen=True)
class CrowdPlan:
    """How many streams there are at a time, and for how long one lives on average (s)."""

    streams: OrdinaryStreams
    mean_life_s: float
    seed: int = 0


@dataclass
class CrowdLog:
    """What all streams saw together; `late_ms` are percentiles of how late packets were.

    `errors` counts what went wrong by its kind, and `first` has what was told of the first one of each kind.
    """

    streams: int = 0
    packets: int = 0
    lost: int = 0
    told: int = 0
    late_ms: dict[str, float] = field(default_factory=dict)
    errors: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)


def crowd(pipe: Pipe, asked: CrowdPlan) -> None:
    """Run the crowd until told to stop: sends "ready" when all have come, and a `CrowdLog` at the end."""
    pipe.send(run_loop(_run(pipe, asked)))


async def _run(pipe: Pipe, asked: CrowdPlan) -> CrowdLog:
    freeze_gc()
    rng, log, late = random.Random(asked.seed), CrowdLog(), list[float]()
    stopped = asyncio.Event()
    places = [asyncio.create_task(_keep(asked, rng, at, stopped, log, late)) for at in range(asked.streams.count)]
    await asyncio.sleep(_JOINS_S * asked.streams.count)
    pipe.send("ready")
    await asyncio.to_thread(pipe.recv)
    stopped.set()
    await asyncio.gather(*places)
    log.late_ms = percentiles(late) if late else {}
    return log


async def _keep(asked: CrowdPlan, rng: random.Random, place: int, stopped: asyncio.Event, log: CrowdLog, late: list[float]) -> None:
    """One stream after another in one place."""
    await asyncio.sleep(_JOINS_S * place)
    number = place
    while not stopped.is_set():
        stream = OrdinaryStream(asked.streams, number)
        number += asked.streams.count
        try:
            await stream.start()
            try:
                async with asyncio.timeout(_SHORTEST_S + rng.expovariate(1 / asked.mean_life_s)):
                    await stopped.wait()
            except TimeoutError:
                pass
            await stream.stop()
        except (OSError, TimeoutError) as error:
            log.errors[type(error).__name__] += 1
            await asyncio.sleep(1.0)
        add(log, stream.log, late)


def add(log: CrowdLog, one: StreamLog, late: list[float]) -> None:
    """Enter what one stream saw: from the first packet that its listener got to the last."""
    log.streams += 1
    if one.error:
        kind, _, reason = one.error.partition(": ")[2].partition("; ")
        log.errors[kind] += 1
        log.first.setdefault(kind, reason)
    log.told += len(one.told)
    if one.came:
        first, last = min(one.came), max(one.came)
        log.packets += len(one.came)
        log.lost += last + 1 - first - len(one.came)
        late += [1000 * (at - one.dues[seq]) for seq, at in one.came.items()]
