"""Benchmarks of several processes: how one is started, asked and ended, how it runs its loop, and the server that all loads run against."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, fields
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self, TypeVar

from benchmarks.harness.machine import usage
from benchmarks.harness.models import Loading
from benchmarks.harness.several import server_command
from streamcodec.gc_freeze import freeze_gc
from streamcodec.server import Limits, Server

__all__ = ["Address", "Process", "Processes", "Served", "Serving", "Trace", "run_loop", "serve"]

T = TypeVar("T")

_END_S = 30.0
# A packet's way through the server (us, on its clock): its last sample captured, received, the step begun, done, and sent.
Trace = tuple[int, int, int, int, int]


def run_loop(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` on uvloop where it is installed, else on asyncio's own loop."""
    factory: Callable[[], asyncio.AbstractEventLoop] | None
    try:
        import uvloop
    except ImportError:
        factory = None
    else:
        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main)


class Process:
    """A process that was started, and this end of its pipe."""

    def __init__(self, target: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        spawn = multiprocessing.get_context("spawn")
        self.pipe, there = spawn.Pipe()
        self._process = spawn.Process(target=target, args=(there, *arguments))
        self._process.start()
        there.close()  # the process has the only one, so its end is the pipe's

    def send(self, message: object) -> None:
        """Send something that needs no answer."""
        self.pipe.send(message)

    def receive(self) -> Any:
        """The next thing that it sends; raises `RuntimeError` if it died instead."""
        try:
            return self.pipe.recv()
        except EOFError:
            self._process.join(_END_S)
            raise RuntimeError(f"a process of the benchmark ended with exit code {self._process.exitcode}") from None

    def ask(self, question: object) -> Any:
        """Send `question` and wait for the answer."""
        self.send(question)
        return self.receive()

    @property
    def pid(self) -> int:
        """Its number, for signals."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.is_alive()

    def wait(self) -> None:
        """Wait for its end."""
        self._process.join()

    def end(self, patience_s: float = _END_S) -> None:
        """Tell it to stop, wait for its end, and enforce it."""
        with contextlib.suppress(OSError):  # it is over already
            self.pipe.send("stop")
        self._process.join(patience_s)
        if self._process.is_alive():
            self._process.terminate()
            self._process.join()


class Processes:
    """All processes of a run: leaving the `with` ends them, those that were started last first."""

    def __init__(self) -> None:
        self._started: list[Process] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        # After an error nobody waits for what they still have to say.
        self.stop(_END_S if kind is None else 0.0)

    def stop(self, patience_s: float = _END_S) -> None:
        """Tell those that still run to stop, and end them all."""
        for process in reversed(self._started):
            process.end(patience_s)
        self._started.clear()

    def start(self, target: Callable[..., None], *arguments: Any) -> Process:
        """Start `target(pipe, *arguments)` in a process of its own."""
        self._started.append(Process(target, arguments))
        return self._started[-1]


# The server --------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Serving:
    """What a server's process is told: the codec, where to listen, its limits, and the packet to warm up with (frames).

    With `traces` it notes each packet's way. With several `processes` it is `serve --processes`, which warms up by itself, on loopback.
    """

    loading: Loading
    host: str = "127.0.0.1"
    limits: Limits = field(default_factory=Limits)
    warm_up_frames: int | None = None
    traces: bool = False
    processes: int = 1


@dataclass(frozen=True)
class Address:
    """Where a server listens, and its model's fingerprint."""

    port: int
    fingerprint: str

    @property
    def url(self) -> str:
        """Its WebSocket address on this machine."""
        return f"ws://127.0.0.1:{self.port}"


@dataclass(frozen=True)
class Served:
    """What a server tells at its end: each packet's way, steps and their rows, and how long it was at them (s)."""

    traces: list[Trace] = field(default_factory=list)
    steps: int = 0
    rows: int = 0
    busy_s: float = 0.0


def serve(pipe: Connection, serving: Serving) -> None:
    """Serve until told to stop: sends an `Address`, answers "usage" with what it has used so far, and "stop" with a `Served`."""
    if serving.processes > 1:
        _serve_several(pipe, serving)
        return
    codec = serving.loading()
    if serving.warm_up_frames is not None:
        codec.warm_up(serving.warm_up_frames)
    run_loop(_serve(pipe, codec, serving))


async def _serve(pipe: Connection, codec: Any, serving: Serving) -> None:
    traces: list[Trace] = []
    async with Server(codec, serving.host, port=0, limits=serving.limits, insecure=True) as server:
        if serving.traces:
            server.metrics.on_trace = lambda t: traces.append((t.captured, t.received, t.started, t.done, t.emitted))
        freeze_gc()
        pipe.send(Address(server.port, codec.fingerprint))
        while await asyncio.to_thread(pipe.recv) != "stop":
            pipe.send(usage())
        stats = server._worker.stats
    pipe.send(Served(traces, stats.steps, stats.rows, stats.busy_s))


def _serve_several(pipe: Connection, serving: Serving) -> None:
    loading, limits = serving.loading, serving.limits
    told = {one.name: getattr(limits, one.name) for one in fields(limits) if getattr(limits, one.name) != getattr(Limits(), one.name)}
    if limits.capacity is None:
        told["capacity"] = "off"
    settings = {
        "model": str(loading.model),
        "engine": loading.engine,
        "precision": loading.precision,
        "threads": loading.threads,
        "processes": serving.processes,
        "limits": told,
    }
    with server_command(settings) as server:
        pipe.send(Address(int(server.url.rpartition(":")[2]), Loading(loading.model, "torch")().fingerprint))
        while pipe.recv() != "stop":
            pipe.send(server.usage())
    pipe.send(Served())
