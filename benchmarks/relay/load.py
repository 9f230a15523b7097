"""The load's process: one publisher of codes and all listeners, on one event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection as Pipe

from benchmarks.harness.machine import usage
from benchmarks.harness.processes import run_loop
from benchmarks.relay.listener import RelayListener, RelayLog
from benchmarks.relay.publisher import PacedPublisher, codes_drawn
from streamcodec.gc_freeze import freeze_gc
from streamcodec.protocol import ListenHello, PublishHello
from streamcodec.protocol.window import LITTLE_S

__all__ = ["RelayLoad", "RelayReport", "generate"]

_STREAM = "relayed"
_FRAME_RATE = 75
_PATIENCE_S = 60.0
_SETTLE_S = 1.0


@dataclass(frozen=True)
class RelayLoad:
    """What comes: `listeners` within `join_s`, which then listen for `hold_s`; then half as many more at the same pace, for `over_s`.

    The publisher sends packets of `frames` frames and `n_q` codebooks in real time.
    """

    url: str
    fingerprint: str
    listeners: int
    join_s: float
    hold_s: float
    over_s: float
    n_q: int = 8
    frames: int = 6
    seed: int = 0

    @property
    def packet_s(self) -> float:
        """A packet's duration."""
        return self.frames / _FRAME_RATE

    @property
    def newcomers(self) -> int:
        """Those that come on top."""
        return self.listeners // 2


@dataclass
class RelayReport:
    """What the load saw: `held` and `newcomers` as they came, when it was held, when the load was over, and what this process used.

    `handed_over_late_s` is how late the publisher itself was with each packet.
    """

    held: list[RelayLog] = field(default_factory=list)
    newcomers: list[RelayLog] = field(default_factory=list)
    hold: tuple[float, float] = (0.0, 0.0)
    over: tuple[float, float] = (0.0, 0.0)
    usage: list[dict[str, float]] = field(default_factory=list)
    handed_over_late_s: list[float] = field(default_factory=list)
    dues: list[float] = field(default_factory=list)
    publisher_error: str = ""


def generate(pipe: Pipe, load: RelayLoad) -> None:
    """Run the load; sends "holding", "held" and "over" as it gets there, each to be answered, and a `RelayReport` at the end."""
    pipe.send(run_loop(_Load(load).run(pipe)))


class _Load:
    def __init__(self, load: RelayLoad) -> None:
        self._load = load
        self._report = RelayReport()
        self._live = 0
        self._opening: set[asyncio.Task[None]] = set()

    async def run(self, pipe: Pipe) -> RelayReport:
        """All of it, in order."""
        freeze_gc()
        load, report = self._load, self._report
        hello = PublishHello(stream=_STREAM, format="codes", model=load.fingerprint, bandwidth=load.n_q * 0.75, packet_frames=load.frames)
        publisher = PacedPublisher(load.url, hello, codes_drawn(load.seed, load.n_q, load.frames), load.packet_s)
        await publisher.start()

        async def tell(where: str) -> None:
            pipe.send(where)
            await asyncio.to_thread(pipe.recv)
            report.usage.append(usage())

        held = await self._join(load.listeners, publisher)
        await tell("holding")
        report.hold = await _spend(load.hold_s)
        await tell("held")
        newcomers: list[RelayListener] = []
        if load.over_s:
            newcomers = await self._join(load.newcomers, publisher)
            report.over = await _spend(load.over_s)
        await tell("over")
        await publisher.end()
        await _until(lambda: self._live == 0)
        for listener in (*held, *newcomers):
            listener.leave()
        report.held, report.newcomers = ([one.heard for one in group] for group in (held, newcomers))
        report.dues, report.handed_over_late_s, report.publisher_error = publisher.dues, publisher.handed_over_late_s, publisher.error
        return report

    async def _join(self, count: int, publisher: PacedPublisher) -> list[RelayListener]:
        """Let `count` come at an even pace, and wait until each is answered, or has given up."""
        load, joined = self._load, list[RelayListener]()
        hello = ListenHello(stream=_STREAM, format="codes", model=load.fingerprint)
        report_every = max(1, int(LITTLE_S / load.packet_s) + 1)
        begun, each_s = time.perf_counter(), load.join_s / load.listeners
        for at in range(count):
            await asyncio.sleep(max(0.0, begun + at * each_s - time.perf_counter()))
            one = RelayListener(hello, publisher.sent, load.packet_s, report_every, self._one_left)
            self._live += 1
            joined.append(one)
            task = asyncio.create_task(one.connect("127.0.0.1", int(load.url.rsplit(":", 1)[1])))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)
        await _until(lambda: all(one.heard.answered is not None or one.heard.error for one in joined))
        await asyncio.sleep(_SETTLE_S)
        return joined

    def _one_left(self) -> None:
        self._live -= 1


async def _spend(seconds: float) -> tuple[float, float]:
    begun = time.perf_counter()
    await asyncio.sleep(seconds)
    return begun, time.perf_counter()


async def _until(condition: Callable[[], bool]) -> None:
    """Wait for `condition`, as long as there is patience."""
    give_up = time.perf_counter() + _PATIENCE_S
    while not condition() and time.perf_counter() < give_up:  # noqa: ASYNC110 - a few rounds, once for each crowd
        await asyncio.sleep(0.05)
