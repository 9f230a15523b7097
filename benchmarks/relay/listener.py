"""One listener at as little cost as may be: it reads frames and packets itself, and checks each number and each payload."""

from __future__ import annotations

import asyncio
import base64
import struct
import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import msgpack

from streamcodec.protocol import SUBPROTOCOL, ListenHello, Report

__all__ = ["RelayListener", "RelayLog"]

_BINARY, _CLOSE, _PING = 0x82, 0x88, 0x89
_PONG = 0x8A
_REQUEST = (
    "GET / HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: {subprotocol}\r\n\r\n"
)


def _frame(first: int, data: bytes) -> bytes:
    """A client's frame; its mask is zero, so that the data stay as they are."""
    size = len(data)
    header = bytes((first, 0x80 | size)) if size < 126 else struct.pack("!BBH", first, 0x80 | 126, size)
    return header + bytes(4) + data


@dataclass
class RelayLog:
    """What one listener saw, times in seconds on one clock.

    `asked` is when it began to connect and `answered` when it was told yes or no. Lateness is noted once the stream is live for it: `due`
    and `late` have an entry for each packet. `told` counts packets that gaps named, `unnamed` those that neither came nor were named.
    """

    asked: float = 0.0
    answered: float | None = None
    refused: str = ""
    reason: str = ""
    ended: bool = False
    told: int = 0
    unnamed: int = 0
    differing: int = 0
    first_live: int | None = None
    next_seq: int | None = None
    due: array[float] = field(default_factory=lambda: array("d"))
    late: array[float] = field(default_factory=lambda: array("f"))
    error: str = ""


class RelayListener(asyncio.Protocol):
    """A listener of codes: connects, says hello, and notes in `heard` what comes; `sent` are the payloads that the publisher has sent, or
    None where nobody knows them.

    It reports as the protocol says: with its first packet, and whenever three more have come. `over` is called once when the connection is
    over, `answered` when the hello is.
    """

    def __init__(
        self, hello: ListenHello, sent: Sequence[bytes] | None, packet_s: float, report_every: int, over: Callable[[], None]
    ) -> None:
        self.heard = RelayLog()
        self._hello = hello
        self._sent = sent
        self._packet_s = packet_s
        self._report_every = report_every
        self._over = over
        self._buffer = b""
        self._open = False
        self._live_seq = 0
        self._report_at = 0
        self._transport: asyncio.Transport | None = None

    async def connect(self, host: str, port: int) -> None:
        """Open the connection; what comes is handled as it comes."""
        self.heard.asked = time.perf_counter()
        try:
            await asyncio.get_running_loop().create_connection(lambda: self, host, port)
        except OSError as exc:
            self.heard.error = str(exc)
            self._over()

    def leave(self) -> None:
        """Close the connection."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(_frame(_CLOSE, struct.pack("!H", 1000)))

    # What asyncio calls --------------------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it
        key = base64.b64encode(bytes(16)).decode()
        self._transport.write(_REQUEST.format(host="127.0.0.1", key=key, subprotocol=SUBPROTOCOL).encode())

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        data = self._buffer + data if self._buffer else data
        at = 0
        if not self._open:
            at = data.find(b"\r\n\r\n") + 4
            if at == 3:
                self._buffer = data
                return
            self._open_with(data[:at])
        end = len(data)
        while end - at >= 2:
            size, head = data[at + 1], 2
            if size == 126:
                head = 4
                if end - at < head:
                    break
                size = data[at + 2] << 8 | data[at + 3]
            if end - at < head + size:
                break
            begin = at + head
            self._take(data[at], data[begin : begin + size], now)
            at = begin + size
        self._buffer = data[at:]

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None and not self.heard.error:
            self.heard.error = str(exc)
        self._transport = None
        self._over()

    # Messages ------------------------------------------------------------------------------------------------------------------------

    def _open_with(self, response: bytes) -> None:
        self._open = True
        if b" 101 " not in response.split(b"\r\n", 1)[0]:
            self.heard.error = response.split(b"\r\n", 1)[0].decode(errors="replace")
            return
        self._write(_frame(_BINARY, self._hello.serialize()))

    def _take(self, first: int, data: bytes, now: float) -> None:
        if first == _BINARY:
            message = msgpack.unpackb(data)
            if isinstance(message, list):
                self._packet(message, now)
            else:
                self._control(message, now)
        elif first == _PING:
            self._write(_frame(_PONG, data))
        elif first == _CLOSE:
            self._write(_frame(_CLOSE, data[:2]))
            if self._transport is not None:
                self._transport.close()
        else:
            self.heard.error = f"a frame that begins with {first:#x}"

    def _packet(self, message: list[Any], now: float) -> None:
        seq, _, timestamp, _, payload = message
        heard = self.heard
        if seq != heard.next_seq:
            heard.unnamed += 1
        if self._sent is not None and payload != self._sent[seq]:
            heard.differing += 1
        heard.next_seq = seq + 1
        if seq >= self._live_seq:
            # Both processes read one clock, and a run is shorter than what 32 bits of microseconds hold.
            late_us = (round(now * 1e6) - timestamp) & 0xFFFFFFFF
            late = late_us / 1e6 - self._packet_s
            heard.due.append(now - late)
            heard.late.append(late)
        if seq >= self._report_at:
            self._report_at = seq + self._report_every
            self._write(_frame(_BINARY, Report(received=seq + 1).serialize()))

    def _control(self, message: dict[str, Any], now: float) -> None:
        heard, kind = self.heard, message["type"]
        if kind == "welcome":
            heard.answered = now
        elif kind == "start":
            heard.next_seq = message["first_seq"]
            self._live_seq = heard.first_live = message["live_seq"]
        elif kind == "gap":
            heard.unnamed += message["first_seq"] != heard.next_seq
            heard.told += message["count"]
            heard.next_seq = message["first_seq"] + message["count"]
        elif kind == "stream_end":
            heard.ended = True
            heard.unnamed += message["next_seq"] != heard.next_seq
            self.leave()
        elif kind in ("refuse", "error"):
            heard.answered = heard.answered or now
            heard.refused, heard.reason = message["code"], message["reason"]

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)
