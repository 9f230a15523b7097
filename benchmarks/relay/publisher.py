"""A publisher of packets in real time at as little cost as may be; it sends what it is given, and resumes nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import numpy as np

from benchmarks.capacity.connection import LoadConnection, close_all
from streamcodec.protocol import Ended, Error, Message, PublishHello, Refuse, Welcome, pack_codes

__all__ = ["PacedPublisher", "codes_drawn"]

_CODEBOOK_SIZE, _BITS = 1024, 10
_PATIENCE_S = 60.0


def codes_drawn(seed: int, n_q: int, frames: int) -> Callable[[], bytes]:
    """Payloads of random codes, one for each call."""
    rng = np.random.default_rng(seed)
    return lambda: pack_codes(rng.integers(0, _CODEBOOK_SIZE, (n_q, frames), dtype=np.int32), _BITS)


class PacedPublisher:
    """Sends what `payload` returns whenever a packet of `packet_s` is due.

    `sent` has the payloads, `dues` when each was due (s of `perf_counter`), and `handed_over_late_s` how late this program itself was with
    it. `error` says why the stream ended too soon.
    """

    def __init__(self, url: str, hello: PublishHello, payload: Callable[[], bytes], packet_s: float) -> None:
        self.sent: list[bytes] = []
        self.dues: list[float] = []
        self.handed_over_late_s: list[float] = []
        self.error = ""
        self._payload = payload
        self._packet_s = packet_s
        self._ready = asyncio.Event()
        self._ended = asyncio.Event()
        self._connection = LoadConnection(url, hello, self._hear, self._lost)

    async def start(self) -> None:
        """Connect, and begin to send."""
        self._connection.open()
        async with asyncio.timeout(_PATIENCE_S):
            await self._ready.wait()
        self._task = asyncio.create_task(self._send())

    async def end(self) -> None:
        """End the stream, and wait until the server has sent all of it."""
        self._task.cancel()
        if not self._ended.is_set():
            self._connection.session.end()
            self._connection.flush()
        async with asyncio.timeout(_PATIENCE_S):
            await self._ended.wait()
        await close_all([self._connection])

    async def _send(self) -> None:
        begun = time.perf_counter()
        while True:
            due = begun + (len(self.sent) + 1) * self._packet_s
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            if self._ended.is_set():
                return
            payload = self._payload()
            self.sent.append(payload)
            self.handed_over_late_s.append(time.perf_counter() - due)
            self.dues.append(due)
            self._connection.session.send_packet(payload, round((due - self._packet_s) * 1e6))
            self._connection.flush()

    def _hear(self, message: Message) -> None:
        if isinstance(message, Welcome):
            self._ready.set()
        elif isinstance(message, Ended):
            self._ended.set()
        elif isinstance(message, (Refuse, Error)):
            self._lost(f"{message.code}: {message.reason}")

    def _lost(self, reason: str) -> None:
        if not self._ended.is_set():
            self.error = f"the publisher: {reason}"
        self._ready.set()
        self._ended.set()
