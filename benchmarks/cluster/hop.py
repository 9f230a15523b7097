"""The hop between two nodes: each stream has a listener at both of them, in one process, so that all times are of one clock."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection as Pipe
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil

from benchmarks.cluster.ear import PACKET_S
from benchmarks.cluster.site import Site, until
from benchmarks.cluster.speaker import BANDWIDTH, N_Q
from benchmarks.harness.processes import Processes, run_loop
from benchmarks.harness.sections import Figures
from benchmarks.harness.timing import percentiles
from benchmarks.relay.listener import RelayListener, RelayLog
from benchmarks.relay.publisher import PacedPublisher, codes_drawn
from streamcodec.gc_freeze import freeze_gc
from streamcodec.protocol import ListenHello, PublishHello
from streamcodec.protocol.window import LITTLE_S

__all__ = ["HopLoad", "HopReport", "figures_of", "measure_hop", "run_load"]

_RATE, _FRAMES, _HOP = 24_000, 6, 320
_SETTLE_S = 1.0
Columns = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]


@dataclass(frozen=True)
class HopLoad:
    """Streams of codes and of PCM that are published at `url`, each heard there and at `other_url`, for `hold_s`."""

    url: str
    other_url: str
    fingerprint: str
    codes: int
    pcm: int
    hold_s: float


@dataclass
class HopReport:
    """What each stream's two listeners saw, streams of codes first; the time that counts; and what publishers say went wrong."""

    heard: list[tuple[RelayLog, RelayLog]] = field(default_factory=list)
    hold: tuple[float, float] = (0.0, 0.0)
    handed_over_late_s: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


async def measure_hop(args: argparse.Namespace, site: Site, processes: Processes) -> Figures:
    """Run the load against two nodes."""
    here, there = await site.start([site.nats.url] * 2)
    load = HopLoad(here.url, there.url, here.fingerprint, args.codes, args.pcm, args.seconds)
    clients = processes.start(run_load, load)
    used = []
    for _ in ("holding", "held"):
        told = await asyncio.to_thread(clients.receive)
        print(told, file=sys.stderr, flush=True)
        nats = sum(psutil.Process(site.nats.pid).cpu_times()[:2])
        used.append((time.perf_counter(), nats, [state["usage"]["cpu_s"] for state in await site.states()]))
        clients.send("go on")
    report: HopReport = await asyncio.to_thread(clients.receive)
    lost = sum(state["lost_between_nodes"] for state in await site.states())
    (begun, *before), (over, *after) = used
    cores = [(b - a) / (over - begun) for a, b in zip([before[0], *before[1]], [after[0], *after[1]], strict=True)]
    return figures_of(load, report, lost, dict(zip(("nats", "origin", "other"), cores, strict=True)))


def figures_of(load: HopLoad, report: HopReport, lost: int, cores: dict[str, float]) -> Figures:
    """What the report says; `lost` packets are what the nodes have counted."""
    kinds = {"codes": report.heard[: load.codes], "pcm": report.heard[load.codes :]}
    logs = [log for pair in report.heard for log in pair]
    checks = {
        "got no packet": sum(not len(log.due) for log in logs),
        "missed packets that no gap named": sum(log.unnamed > 0 for log in logs),
        "missed packets that gaps named": sum(log.told > 0 for log in logs),
        "got packets that differ from what was sent": sum(log.differing > 0 for log in logs),
        "saw no end of their stream": sum(not log.ended for log in logs),
    }
    return {
        "streams": {"codes": load.codes, "pcm": load.pcm},
        "seconds": load.hold_s,
        "kbps": BANDWIDTH,
        "cores": cores,
        **{kind: _delays(pairs, report.hold) for kind, pairs in kinds.items() if pairs},
        "handed_over_late_ms": percentiles([1000 * late for late in report.handed_over_late_s]),
        "lost_between_nodes": lost,
        "failures": report.errors
        + [log.error for log in logs if log.error][:5]
        + [f"{count} listeners {what}" for what, count in checks.items() if count]
        + ([f"{lost} packets were lost between the nodes"] if lost else []),
    }


def _delays(pairs: list[tuple[RelayLog, RelayLog]], span: tuple[float, float]) -> Figures:
    """How late packets were at both nodes, and by how much later the same packet was at the other one (ms)."""
    late, added = [np.empty(0)], [np.empty(0)]
    for here, there in pairs:
        (at, due), (at_other, _) = _columns(here), _columns(there)
        # Both begin with the first packet; a packet that is missing makes the run fail, and the stream does not count.
        if len(at) != len(at_other) or here.first_live != there.first_live:
            continue
        inside = (due >= span[0]) & (due < span[1])
        late.append(1000 * (at - due)[inside])
        added.append(1000 * (at_other - at)[inside])
    here_ms, added_ms = np.concatenate(late), np.concatenate(added)
    return {
        "packets": len(added_ms),
        "late_ms": percentiles(list(here_ms)),
        "other_late_ms": percentiles(list(here_ms + added_ms)),
        "added_ms": percentiles(list(added_ms)),
    }


def _columns(log: RelayLog) -> Columns:
    due, late = np.array(log.due), np.array(log.late, np.float64)
    return due + late, due


# The load's process -----------------------------------------------------------------------------------------------------------------


def run_load(pipe: Pipe, load: HopLoad) -> None:
    """Run the load; sends "holding" and "held" as it gets there, each to be answered, and a `HopReport` at the end."""
    pipe.send(run_loop(_run(pipe, load)))


async def _run(pipe: Pipe, load: HopLoad) -> HopReport:
    freeze_gc()
    report, streams = HopReport(), [_HopStream(load, at) for at in range(load.codes + load.pcm)]
    for stream in streams:
        await stream.listen()
    await until(lambda: all(stream.answered for stream in streams), "a listener is not answered")
    for stream in streams:
        await stream.publish()
        await asyncio.sleep(PACKET_S / len(streams))  # their packets are due at an even pace
    await asyncio.sleep(_SETTLE_S)

    async def tell(where: str) -> float:
        pipe.send(where)
        await asyncio.to_thread(pipe.recv)
        return time.perf_counter()

    begun = await tell("holding")
    await asyncio.sleep(load.hold_s)
    report.hold = begun, time.perf_counter()
    await tell("held")
    await asyncio.gather(*(stream.publisher.end() for stream in streams))
    await until(lambda: all(stream.over for stream in streams), "a listener's stream does not end")
    for stream in streams:
        report.heard.append((stream.listeners[0].heard, stream.listeners[1].heard))
        report.handed_over_late_s += stream.publisher.handed_over_late_s
        report.errors += [stream.publisher.error] if stream.publisher.error else []
    return report


class _HopStream:
    """One publisher and its two listeners."""

    def __init__(self, load: HopLoad, at: int) -> None:
        pcm, name = at >= load.codes, f"hop-{at}"
        self._left = 0
        self._urls = (load.url, load.other_url)
        told: dict[str, Any] = {"format": "pcm_s16le", "sample_rate": _RATE, "channels": 1} if pcm else {"format": "codes"}
        hello = PublishHello(stream=name, model=None if pcm else load.fingerprint, bandwidth=BANDWIDTH, packet_frames=_FRAMES, **told)
        payload = _noise(at) if pcm else codes_drawn(at, N_Q, _FRAMES)
        self.publisher = PacedPublisher(load.url, hello, payload, PACKET_S)
        listening = ListenHello(stream=name, format="codes", model=load.fingerprint)
        report_every = int(LITTLE_S / PACKET_S) + 1
        sent = None if pcm else self.publisher.sent
        self.listeners = [RelayListener(listening, sent, PACKET_S, report_every, self._one_left) for _ in self._urls]

    @property
    def answered(self) -> bool:
        return all(one.heard.answered is not None or one.heard.error for one in self.listeners)

    @property
    def over(self) -> bool:
        return self._left == len(self.listeners)

    async def listen(self) -> None:
        for one, url in zip(self.listeners, self._urls, strict=True):
            await one.connect("127.0.0.1", int(url.rpartition(":")[2]))

    async def publish(self) -> None:
        await self.publisher.start()

    def _one_left(self) -> None:
        self._left += 1


def _noise(seed: int) -> Callable[[], bytes]:
    rng = np.random.default_rng(seed)
    return lambda: rng.normal(0, 3000, _FRAMES * _HOP).astype("<i2").tobytes()
