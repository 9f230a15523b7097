"""The process of all clients: publishers and listeners, paced by the clock."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.harness.machine import usage
from benchmarks.harness.processes import run_loop
from benchmarks.load.plan import ListenerPlan, Plan, PublisherPlan, spoken
from streamcodec.audio import pcm_to_float
from streamcodec.client import Listener, Publisher, PublishOptions, listen, publish
from streamcodec.protocol import Gap, Packet, StreamEnd, StreamStart

__all__ = ["ListenerLog", "LoadReport", "Published", "generate"]

_LEAD_S = 0.5
_PATIENCE_S = 300.0


@dataclass
class Published:
    """What a publisher saw: when its first sample was captured (us, `now_us`), and the server's count at the end."""

    begun_us: int = 0
    received: int = 0
    emitted: int = 0
    dropped: int = 0
    dropped_s: float = 0.0
    error: str = ""


@dataclass
class ListenerLog:
    """All that came to one listener: packets as (seq, n_q, timestamp, payload, received), gaps as they were told, first and next number."""

    packets: list[tuple[int, int, int, bytes, int]] = field(default_factory=list)
    gaps: int = 0
    starts: list[tuple[str, float, int]] = field(default_factory=list)
    next_seq: int | None = None
    error: str = ""


@dataclass
class LoadReport:
    """What the load's process hands back."""

    published: list[Published]
    heard: list[ListenerLog]
    usage: tuple[dict[str, float], dict[str, float]]


def generate(pipe: Connection, url: str, plan: Plan, fingerprint: str, codes: dict[int, npt.NDArray[np.int32]]) -> None:
    """Publish and listen as planned: sends "ready" when everybody is connected, begins when answered, and sends a `LoadReport` at the end.

    `codes` are those of the publishers that encode for themselves: encoding them is not the load's work.
    """
    pipe.send(run_loop(_generate(pipe, url, plan, fingerprint, codes)))


async def _generate(pipe: Connection, url: str, plan: Plan, fingerprint: str, codes: dict[int, npt.NDArray[np.int32]]) -> LoadReport:
    published = [Published() for _ in plan.publishers]
    heard = [ListenerLog() for _ in plan.listeners]
    inputs = [_blocks(plan, publisher, codes.get(i)) for i, publisher in enumerate(plan.publishers)]
    inside = _Gathering(len(plan.listeners))
    listeners = [
        asyncio.create_task(_listen(url, plan.publishers[which.stream].name, which, fingerprint, heard[i], inside))
        for i, which in enumerate(plan.listeners)
    ]
    await inside.complete()
    go = asyncio.get_running_loop().create_future()
    inside = _Gathering(len(plan.publishers))
    publishers = [
        asyncio.create_task(_publish(url, plan, publisher, fingerprint, inputs[i], published[i], inside, go))
        for i, publisher in enumerate(plan.publishers)
    ]
    await inside.complete()
    pipe.send("ready")
    await asyncio.to_thread(pipe.recv)
    before = usage()
    go.set_result(time.perf_counter() + _LEAD_S)
    await asyncio.wait(publishers, timeout=plan.seconds + _PATIENCE_S)
    # Who listens to a publisher that was refused hears nothing, and would wait for it in vain.
    served = [task for task, which in zip(listeners, plan.listeners, strict=True) if not published[which.stream].error]
    if served:
        await asyncio.wait(served, timeout=_PATIENCE_S)
    after = usage()
    notes: list[Published | ListenerLog] = [*published, *heard]
    for task, note in zip([*publishers, *listeners], notes, strict=True):
        if not task.done():
            task.cancel()
            note.error = note.error or "did not end"
    return LoadReport(published, heard, (before, after))


class _Gathering:
    """Waits until so many have come, or given up."""

    def __init__(self, expected: int) -> None:
        self._missing = expected
        self._all = asyncio.Event()

    def come(self) -> None:
        self._missing -= 1
        if self._missing <= 0:
            self._all.set()

    async def complete(self) -> None:
        async with asyncio.timeout(_PATIENCE_S):
            await self._all.wait()


def _blocks(plan: Plan, publisher: PublisherPlan, codes: npt.NDArray[np.int32] | None) -> list[npt.NDArray[Any]]:
    """What is offered, block by block: samples as a device hands them over, or packets of codes."""
    if codes is not None:
        frames = round(plan.packet_s * 75)
        return [codes[:, at : at + frames] for at in range(0, codes.shape[1], frames)]
    samples = pcm_to_float(spoken(plan, publisher).tobytes(), "pcm_s16le")
    size = round(plan.block_s * publisher.rate)
    return [samples[at : at + size] for at in range(0, len(samples), size)]


async def _publish(
    url: str,
    plan: Plan,
    publisher: PublisherPlan,
    fingerprint: str,
    blocks: list[npt.NDArray[Any]],
    note: Published,
    inside: _Gathering,
    go: asyncio.Future[float],
) -> None:
    coded = publisher.format == "codes"
    try:
        async with publish(
            url,
            publisher.name,
            PublishOptions(
                format=publisher.format,
                sample_rate=publisher.rate,
                model=fingerprint if coded else None,
                bandwidth=publisher.bandwidth,
                packet_frames=round(plan.packet_s * 75),
                start=publisher.start,
                pace="fast" if plan.fast else "live",
            ),
        ) as connection:
            inside.come()
            begun = await go + publisher.phase_s
            note.begun_us = round(begun * 1e6)
            await _send(connection, blocks, begun, plan.packet_s if coded else plan.block_s, plan.fast)
            ended = await connection.end()
            note.received, note.emitted, note.dropped = ended.received, ended.emitted, ended.dropped
            note.dropped_s = connection.dropped_s
    except Exception as exc:
        note.error = f"{type(exc).__name__}: {exc}"
        inside.come()


async def _send(connection: Publisher, blocks: list[npt.NDArray[Any]], begun: float, each_s: float, fast: bool) -> None:
    """Send each block when its last sample has been captured, or at once; one that is late was still captured when it was due."""
    for at, block in enumerate(blocks):
        captured_us = round((begun + at * each_s) * 1e6)
        if fast:
            await connection.send(block, captured_us)
            continue
        wait = begun + (at + 1) * each_s - time.perf_counter()
        if wait > 0:
            await asyncio.sleep(wait)
        connection.offer(block, captured_us)


async def _listen(url: str, name: str, which: ListenerPlan, fingerprint: str, note: ListenerLog, inside: _Gathering) -> None:
    model = fingerprint if which.format == "codes" else None
    try:
        async with listen(url, name, format=which.format, model=model, bandwidth=which.bandwidth) as listener:
            inside.come()
            await _hear(listener, note)
    except Exception as exc:
        note.error = f"{type(exc).__name__}: {exc}"
        inside.come()


async def _hear(listener: Listener, note: ListenerLog) -> None:
    async for event in listener:
        if isinstance(event, Packet):
            note.packets.append((event.seq, event.n_q, event.timestamp, event.payload, time.perf_counter_ns() // 1000))
        elif isinstance(event, Gap):
            note.gaps += event.count
        elif isinstance(event, StreamStart):
            note.starts.append((event.start, event.bandwidth, event.first_seq))
        elif isinstance(event, StreamEnd):
            note.next_seq = event.next_seq
            return
