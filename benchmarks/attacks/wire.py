"""An attacker's connection: it writes whatever bytes it likes, and counts what comes back."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Self

import msgpack

from streamcodec.protocol import SUBPROTOCOL

__all__ = ["BINARY", "CONTINUATION", "PING", "PONG", "TEXT", "AttackTarget", "Got", "Wire", "frame", "upgrade"]

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
_LENGTHS = {126: ("!H", 2), 127: ("!Q", 8)}


def frame(opcode: int, data: bytes = b"", *, fin: bool = True, compressed: bool = False) -> bytes:
    """A client's frame; its mask is zero, so that the data stay as they are."""
    first, size = (0x80 if fin else 0) | (0x40 if compressed else 0) | opcode, len(data)
    if size < 126:
        head = bytes((first, 0x80 | size))
    elif size < 1 << 16:
        head = struct.pack("!BBH", first, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", first, 0x80 | 127, size)
    return head + bytes(4) + data


def upgrade(port: int, path: str = "/", more: str = "") -> bytes:
    """The request that opens a WebSocket."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Key: {'A' * 22}==\r\nSec-WebSocket-Protocol: {SUBPROTOCOL}\r\n{more}\r\n"
    ).encode()


@dataclass
class Got:
    """What an attacker did and got: `answers` are words of the server, statuses of HTTP and close codes, each with how often it came."""

    connections: int = 0
    sent_bytes: int = 0
    answers: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class AttackTarget:
    """Whom to attack, from which address, and until when (s of `perf_counter`)."""

    port: int
    fingerprint: str
    until: float
    source: str = "127.0.0.66"
    got: Got = field(default_factory=Got)

    @property
    def goes_on(self) -> bool:
        """Whether it is not time to stop yet."""
        return time.perf_counter() < self.until

    def hello(self, role: str = "listen", stream: str = "attacked", **more: Any) -> bytes:
        """A hello that is legal, in its frame."""
        message: dict[str, Any] = {"type": "hello", "version": 1, "role": role, "stream": stream, "format": "pcm_s16le"}
        if role == "publish":
            message |= {"sample_rate": 24_000, "channels": 1}
        return frame(BINARY, msgpack.packb({**message, **more}))


class Wire:
    """One TCP connection; whatever comes is read and counted, unless it is `deaf`."""

    def __init__(self, target: AttackTarget, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, deaf: bool = False) -> None:
        self.closed = False
        self._target = target
        self._reader = reader
        self._writer = writer
        self._deaf = deaf
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def open(cls, target: AttackTarget, *first: bytes, websocket: bool = True, deaf: bool = False) -> Self | None:
        """Connect, open a WebSocket where that is asked for, and send `first`; None where nobody answers."""
        try:
            async with asyncio.timeout(5):
                reader, writer = await asyncio.open_connection("127.0.0.1", target.port, local_addr=(target.source, 0))
        except OSError as exc:
            target.got.answers[type(exc).__name__] += 1
            return None
        target.got.connections += 1
        wire = cls(target, reader, writer, deaf=deaf)
        if websocket:
            await wire.send(upgrade(target.port))
        for data in first:
            await wire.send(data)
        return wire

    async def send(self, data: bytes) -> bool:
        """Send as much as the connection takes; returns False once it is over."""
        if self.closed:
            await asyncio.sleep(0)
            return False
        try:
            self._writer.write(data)
            self._target.got.sent_bytes += len(data)
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + max(0.0, self._target.until - time.perf_counter())):
                await self._writer.drain()
        except (OSError, RuntimeError) as exc:
            if not isinstance(exc, TimeoutError):
                self.closed = True
        return not self.closed

    async def drop(self, *, reset: bool = False) -> None:
        """Close the connection without a goodbye, or by a TCP reset."""
        self.closed = True
        self._reading.cancel()
        if reset:
            sock = self._writer.get_extra_info("socket")
            with contextlib.suppress(OSError, AttributeError):  # closed already
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()
        await asyncio.gather(self._reading, return_exceptions=True)

    async def over(self) -> None:
        """Wait until the server has closed the connection, or it is time to stop."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, self._target.until - time.perf_counter())):
                await asyncio.shield(self._reading)

    async def _read(self) -> None:
        try:
            if self._deaf:
                await asyncio.Event().wait()  # what nobody reads fills the socket
            await self._read_all()
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            self.closed = True

    async def _read_all(self) -> None:
        answers = self._target.got.answers
        head = await self._reader.readuntil(b"\r\n\r\n")
        status = head.split(b" ", 2)[1].decode("ascii", "replace")
        answers[f"HTTP {status}"] += 1
        if status != "101":
            await self._reader.read()
            return
        while True:
            first, size = await self._reader.readexactly(2)
            if size in _LENGTHS:
                form, width = _LENGTHS[size]
                (size,) = struct.unpack(form, await self._reader.readexactly(width))
            data = await self._reader.readexactly(size)
            opcode = first & 0x0F
            if opcode == CLOSE:
                answers[f"close {int.from_bytes(data[:2], 'big')}"] += 1
            elif opcode == BINARY:
                # Words of maps alone: packets are many.
                found = re.search(rb"(?:\xa4type|\xa4code)[\xa0-\xbf]([a-z_]+)", data[:80])
                answers[found[1].decode() if found else "packet"] += 1
            else:
                answers["pong" if opcode == PONG else "ping"] += 1
