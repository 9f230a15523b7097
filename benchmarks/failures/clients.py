"""A publisher and a listener that connect again and again, and whoever asks for health: each notes what it sees, and when."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

import numpy as np

from streamcodec.client import PublishOptions, listen, publish
from streamcodec.errors import StreamCodecError, printable
from streamcodec.protocol import Gap, Packet, StreamEnd

__all__ = ["Witnesses"]

_STREAM, _RATE, _BLOCK = "witnessed", 24_000, 480
_AGAIN_S = 0.1
_ASK_EVERY_S = 0.05


@dataclass
class Witnesses:
    """What was seen (s of `perf_counter`): packets as they came, gaps with their reasons, errors of clients, health as it changed, and
    packets that did not come although the server went on with later ones or ended the stream in order, and that no gap named.
    """

    port: int
    fingerprint: str
    packets: list[float] = field(default_factory=list)
    gaps: list[tuple[float, int, str]] = field(default_factory=list)
    errors: list[tuple[float, str]] = field(default_factory=list)
    health: list[tuple[float, str]] = field(default_factory=list)
    lost: list[tuple[float, int]] = field(default_factory=list)

    async def run(self) -> None:
        """Publish, listen and ask until cancelled."""
        async with asyncio.TaskGroup() as group:
            for one in (self._publish(), self._listen(), self._ask()):
                group.create_task(one)

    async def until(self, since: float, timeout_s: float) -> float | None:
        """When the first packet came behind `since`; None where none did in time."""
        give_up = time.perf_counter() + timeout_s
        while time.perf_counter() < give_up:
            if self.packets and self.packets[-1] > since:
                return next(at for at in self.packets if at > since)
            await asyncio.sleep(0.01)
        return None

    async def _publish(self) -> None:
        url, rng = f"ws://127.0.0.1:{self.port}", np.random.default_rng(0)
        while True:
            try:
                async with publish(url, _STREAM, PublishOptions(sample_rate=_RATE)) as publisher:
                    begun, sent = time.perf_counter(), 0
                    while True:
                        sent += 1
                        await asyncio.sleep(max(0.0, begun + sent * _BLOCK / _RATE - time.perf_counter()))
                        publisher.offer(rng.normal(0, 0.1, _BLOCK).astype(np.float32))
            except (StreamCodecError, OSError) as error:
                self._note("publisher", error)
            await asyncio.sleep(_AGAIN_S)

    async def _listen(self) -> None:
        url = f"ws://127.0.0.1:{self.port}"
        while True:
            try:
                async with listen(url, _STREAM, model=self.fingerprint) as listener:
                    following: int | None = None
                    async for event in listener:
                        now = time.perf_counter()
                        if isinstance(event, Packet):
                            self.packets.append(now)
                            self._count(now, following, event.seq)
                            following = event.seq + 1
                        elif isinstance(event, Gap):
                            self.gaps.append((now, event.count, event.reason))
                            self._count(now, following, event.first_seq)
                            following = event.next_seq
                        elif isinstance(event, StreamEnd):
                            self._count(now, following, event.next_seq)
                            following = None
            except (StreamCodecError, OSError) as error:
                self._note("listener", error)
            await asyncio.sleep(_AGAIN_S)

    def _count(self, now: float, following: int | None, seq: int) -> None:
        if following is not None and seq > following:
            self.lost.append((now, seq - following))

    def _note(self, who: str, error: Exception) -> None:
        self.errors.append((time.perf_counter(), f"{who}: {printable(str(error))}"))

    async def _ask(self) -> None:
        while True:
            said = await self.get("/readyz")
            if not self.health or self.health[-1][1] != said:
                self.health.append((time.perf_counter(), said))
            await asyncio.sleep(_ASK_EVERY_S)

    async def get(self, path: str) -> str:
        """Status and body of an answer over HTTP, or why there is none."""
        try:
            async with asyncio.timeout(5):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
                head, _, body = (await reader.read(-1)).decode().partition("\r\n\r\n")
                writer.close()
        except OSError as error:  # a timeout, too
            return type(error).__name__
        return f"{head.split()[1]} {body}".strip() if head else "no answer"
