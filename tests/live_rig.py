"""Commands and clients against a real server on a small model, and a listener of the test's own that notes what the server sends."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from made_up_models import small_model
from patience import TIMEOUT_S, patient_limits, run_patiently

import streamcodec
from streamcodec.cli.app import parse
from streamcodec.client import listen
from streamcodec.codec import Codec
from streamcodec.protocol import Gap, Packet, StreamEnd, StreamStart, unpack_codes
from streamcodec.server import Server

Audio = npt.NDArray[np.float32]


@functools.cache
def tiny_codec(thread: str = "server") -> Codec:  # noqa: ARG001 - a codec serves one thread at a time
    return streamcodec.load(small_model())


def a_server(**options: Any) -> Server:
    """A server of the small model on a free port, which waits for a slow machine; `options` are what a test is about."""
    return Server(tiny_codec(), **{"port": 0, "limits": patient_limits(), **options})


def command(*argv: str | Path) -> Coroutine[Any, Any, int]:
    """What `streamcodec` runs for `argv`: awaited, it gives the exit status."""
    outcome = parse([str(word) for word in argv])
    assert isinstance(outcome, Coroutine)
    return outcome


def run(main: Coroutine[Any, Any, Any]) -> Any:
    """Run a test; it may take long, but not for ever."""

    return run_patiently(main)


async def until(condition: Callable[[], Any], what: str = "it never came true") -> None:
    """Wait for `condition` by looking again and again."""
    give_up = time.monotonic() + TIMEOUT_S / 2
    while not condition():
        assert time.monotonic() < give_up, what
        await asyncio.sleep(0.005)


def voice(seconds: float, rate: int = 24_000, channels: int = 1) -> Audio:
    """Something like speech in 16-bit values, [T] or [C, T]; the channels differ."""
    rng = np.random.default_rng(7)
    t = np.arange(round(seconds * rate)) / rate
    x = np.sin(2 * np.pi * (120 + 80 * t) * t) * 0.4 * np.abs(np.sin(3 * t)) + rng.normal(0, 0.02, (channels, len(t)))
    x = np.rint(np.clip(x, -1, 1) * 32_767).astype(np.float32) / 32_768
    return x[0] if channels == 1 else x


def free_port() -> int:
    """A port that nobody uses, and that no outgoing connection is given: those come from 32768 on."""
    ports = random.SystemRandom().sample(range(20_000, 32_000), 100)
    for port in ports:
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


class Tap:
    """A listener of the test's own: the packets and events of one stream, up to its end."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def codes(self) -> npt.NDArray[np.int32]:
        """[n_q, F]"""
        return np.concatenate([unpack_codes(p.payload, p.n_q) for p in self.of(Packet)], axis=1)

    @property
    def kind(self) -> Any:
        """How the stream started."""
        return self.of(StreamStart)[0].start

    def audio(self, n_q: int | None = None) -> Audio:
        """What an offline decode of the stream gives, with its first `n_q` codebooks."""
        assert not self.of(Gap)
        decoder = tiny_codec("test").stream_decoder(start=self.kind)
        return np.concatenate([decoder.feed(self.codes[:n_q]), decoder.flush()])


@contextlib.asynccontextmanager
async def tapped(server: Server, stream: str = "live") -> AsyncIterator[Tap]:
    """Listen beside the program under test; at the end of the block the stream must end."""
    tap = Tap()
    async with listen(server.url, stream, model=server.codec.fingerprint) as listener:

        async def collect() -> None:
            async for event in listener:
                tap.events.append(event)
                if isinstance(event, StreamEnd):
                    return

        task = asyncio.create_task(collect())
        try:
            yield tap
            await task
        finally:
            task.cancel()


@contextlib.asynccontextmanager
async def started(program: Coroutine[Any, Any, int]) -> AsyncIterator[asyncio.Task[int]]:
    """The command running beside the test; it is ended with the block, if it did not end before."""
    task = asyncio.ensure_future(program)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
