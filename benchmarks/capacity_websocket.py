"""Publishers through WebSockets: the server is one process, the load another, on the same cores; this end only asks and notes."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection as Pipe
from typing import Any

from benchmarks.capacity_ledger import Sample
from benchmarks.capacity_wire import WireLoad, generate
from benchmarks.common import rss_mib
from benchmarks.processes import receive, run_loop, usage
from streamcodec.codec import Codec
from streamcodec.gc_freeze import freeze_gc
from streamcodec.server import Server
from streamcodec.server.limits import Limits

__all__ = ["ThroughWebSockets"]


def serve(pipe: Pipe, load_codec: Callable[[], Codec], admission: bool) -> None:
    """Serve until told to stop: sends (url, fingerprint), answers "usage" and "stop"."""
    run_loop(_serve(pipe, load_codec(), admission))


async def _serve(pipe: Pipe, codec: Codec, admission: bool) -> None:
    async with Server(codec, port=0, limits=_limits(admission)) as server:
        freeze_gc()
        pipe.send((server.url, codec.fingerprint))
        while await asyncio.to_thread(pipe.recv) != "stop":
            pipe.send({**usage(), "rss_mib": rss_mib()})
        pipe.send("stopped")


def _limits(admission: bool) -> Limits:
    """The server's own limits, or none on how many come."""
    return Limits() if admission else Limits(max_publishers=100_000, max_listeners=100_000, capacity=None)


class ThroughWebSockets:
    """A server's process and a load's."""

    def __init__(self, load_codec: Callable[[], Codec], plan: Callable[[str, str], WireLoad], *, admission: bool) -> None:
        self._load_codec = load_codec
        self._plan = plan
        self._admission = admission
        self._ends: dict[str, tuple[Pipe, Any]] = {}

    def start(self) -> None:
        """Start both processes, with nobody connected."""
        url, fingerprint = self._spawn("model", serve, self._load_codec, self._admission)
        self._spawn("load", generate, self._plan(url, fingerprint), wait=False)
        self._ask("load", "usage")

    def stop(self) -> None:
        """End both processes."""
        for name in ("load", "model"):
            if name in self._ends:
                pipe, process = self._ends.pop(name)
                if process.is_alive():
                    pipe.send("stop")
                process.join(30)
                if process.is_alive():
                    process.terminate()
                    process.join()

    def want(self, streams: int) -> None:
        """From now on have so many publishers: they join one by one and leave at once, bringing what they said to an end."""
        self._ends["load"][0].send(("want", streams))

    def collect(self) -> Sample:
        """What happened since the last call."""
        sample: Sample = self._ask("load", "collect")
        return sample

    def usage(self) -> dict[str, dict[str, float]]:
        """Processor seconds so far and resident memory of the server's process, and of the load's."""
        return {name: self._ask(name, "usage") for name in self._ends}

    def _spawn(self, name: str, target: Callable[..., None], *arguments: Any, wait: bool = True) -> Any:
        spawn = multiprocessing.get_context("spawn")
        here, there = spawn.Pipe()
        process = spawn.Process(target=target, args=(there, *arguments))
        process.start()
        self._ends[name] = (here, process)
        return receive(here, process) if wait else None

    def _ask(self, name: str, question: str) -> Any:
        pipe, process = self._ends[name]
        pipe.send(question)
        return receive(pipe, process)
