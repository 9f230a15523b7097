"""Servers that follow a script, so that a client can be tested against what no real server does."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import msgpack
from patience import TIMEOUT_S, run_patiently
from websockets.asyncio.server import ServerConnection, serve

from streamcodec.protocol import (
    MAX_MESSAGE_BYTES,
    SUBPROTOCOL,
    Message,
    ModelInfo,
    Packet,
    PublishHello,
    ServerSession,
    StreamStart,
    Welcome,
    pack_codes,
)

MODEL = ModelInfo(name="small", fingerprint="f00d", sampling_rate=24_000, hop_length=320, codebook_size=1024, num_quantizers=32)


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a test to its end; asyncio must have nothing to complain of."""
    complaints: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            complaints.append(record.getMessage())

    async def guarded() -> None:
        await main
        gc.collect()

    handler = Handler(logging.ERROR)
    logging.getLogger("asyncio").addHandler(handler)
    try:
        run_patiently(guarded())
        gc.collect()
    finally:
        logging.getLogger("asyncio").removeHandler(handler)
    assert complaints == []


async def until(condition: Callable[[], Any]) -> None:
    give_up = time.monotonic() + TIMEOUT_S / 2
    while not condition():
        assert time.monotonic() < give_up
        await asyncio.sleep(0.005)


class Scripted:
    """One connection's server end; what comes is kept in `got`."""

    def __init__(self, ws: ServerConnection) -> None:
        self.ws = ws
        self.session = ServerSession()
        self.got: list[Message] = []

    async def receive(self) -> Message:
        [message] = self.session.feed(await self.ws.recv())
        self.got.append(message)
        return message

    async def send(self, *messages: Message) -> None:
        for message in messages:
            self.session.send(message)
        for data in self.session.data_to_send():
            await self.ws.send(data)

    async def send_raw(self, value: Any) -> None:
        await self.ws.send(value if isinstance(value, (bytes, str)) else msgpack.packb(value))

    async def welcome(self, **changes: Any) -> PublishHello | Any:
        """Take the hello and accept it."""
        hello = await self.receive()
        publishing = isinstance(hello, PublishHello)
        known = {"bandwidth": 6.0, "n_q": 8, "packet_frames": 6, "start": "primed", "epoch": 0, "next_seq": 0} if publishing else {}
        role = "publish" if publishing else "listen"
        fields = {"role": role, "stream": hello.stream, "model": MODEL, "format": hello.format, "time": 1_000_000, **known}  # type: ignore[union-attr]
        self.session.accept(Welcome(**{**fields, **changes}))
        await self.send()
        return hello


Script = Callable[[Scripted], Awaitable[None]]


@contextlib.asynccontextmanager
async def scripted(script: Script, *, subprotocol: str | None = SUBPROTOCOL) -> AsyncIterator[str]:
    """A server that runs `script` with each connection; what a script raises fails the test."""
    failures: list[BaseException] = []

    async def handle(ws: ServerConnection) -> None:
        try:
            await script(Scripted(ws))
        except Exception as exc:
            failures.append(exc)

    subprotocols = None if subprotocol is None else [subprotocol]
    async with serve(handle, "127.0.0.1", 0, subprotocols=subprotocols, compression=None, max_size=MAX_MESSAGE_BYTES) as server:  # type: ignore[arg-type]
        port = next(iter(server.sockets)).getsockname()[1]
        yield f"ws://127.0.0.1:{port}"
    if failures:
        raise failures[0]


def start(**changes: Any) -> StreamStart:
    fields = {
        "epoch": 0,
        "n_q": 8,
        "bandwidth": 6.0,
        "packet_frames": 6,
        "start": "primed",
        "first_seq": 0,
        "live_seq": 0,
        "format": "codes",
        "sample_rate": 24_000,
    }
    return StreamStart(**{**fields, **changes})  # type: ignore[arg-type]


def codes_packet(seq: int, codes: Any, epoch: int = 0) -> Packet:
    return Packet(seq, epoch, 80_000 * seq, codes.shape[0], pack_codes(codes, 10))
