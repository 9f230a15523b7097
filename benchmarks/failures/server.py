"""The server's process: it serves as any server does, and fails when its pipe says so."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import threading
from dataclasses import dataclass, field
from multiprocessing.connection import Connection as Pipe
from typing import Any

from benchmarks.harness.models import Loading
from benchmarks.harness.processes import Address, run_loop
from streamcodec.codec import Codec
from streamcodec.gc_freeze import freeze_gc
from streamcodec.server import Limits, Page, Server

__all__ = ["FailingServer", "serve_and_fail"]


@dataclass(frozen=True)
class FailingServer:
    """What the process is told: the model, the port (0 for any), the limits, and whether nothing can be written from the start."""

    loading: Loading
    port: int = 0
    limits: Limits = field(default_factory=Limits)
    full_disk: bool = False


class _ThreadDied(BaseException):
    """No `Exception`, so nothing that runs steps takes it for an error of the engine."""


class _FailingEngine:
    """The engine of a codec; its next step hangs, raises or ends its thread where that is asked for."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self._gate = threading.Event()
        self.next: str | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def encode(self, *args: Any, **options: Any) -> Any:
        failure, self.next = self.next, None
        if failure == "hang":
            self._gate.wait()
        elif failure == "raise":
            raise RuntimeError("the engine broke")
        elif failure == "die":
            raise _ThreadDied
        return self._engine.encode(*args, **options)

    def open(self) -> None:
        """Let steps that hang come back."""
        self._gate.set()


def serve_and_fail(pipe: Pipe, told: FailingServer) -> None:
    """Serve until told to stop: sends an `Address`; "hang", "raise" and "die" are for the next step, "descriptors" spends them all."""
    threading.excepthook = lambda _: None
    if told.full_disk:
        # A write beyond this size fails, as one to a full disk does.
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    run_loop(_serve(pipe, told))


async def _serve(pipe: Pipe, told: FailingServer) -> None:
    found = told.loading()
    engine = _FailingEngine(found.engine)
    codec = Codec(engine, name=found.name, fingerprint=found.fingerprint)
    taken: list[int] = []
    server = Server(codec, port=told.port, limits=told.limits, page=Page(told.loading.model) if told.full_disk else None)
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    async with server:
        await server.page_is_ready()
        freeze_gc()
        pipe.send(Address(server.port, codec.fingerprint))
        asked = asyncio.create_task(_obey(pipe, engine, taken, stop))
        await stop.wait()
        asked.cancel()
    engine.open()
    with contextlib.suppress(OSError):
        pipe.send("stopped")


def _spend(taken: list[int]) -> None:
    """Open files until the system gives this process no more."""
    with contextlib.suppress(OSError):
        while True:
            taken.append(os.open(os.devnull, os.O_RDONLY))


async def _obey(pipe: Pipe, engine: _FailingEngine, taken: list[int], stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    said = asyncio.Queue[str]()
    loop.add_reader(pipe.fileno(), lambda: said.put_nowait(pipe.recv()))
    while (what := await said.get()) != "stop":
        if what == "descriptors":
            while said.empty():  # those that connections give back are taken as well
                _spend(taken)
                await asyncio.sleep(0.005)
        elif what == "give back":
            while taken:
                os.close(taken.pop())
        else:
            engine.next = what
    loop.remove_reader(pipe.fileno())
    stop.set()
