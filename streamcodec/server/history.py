"""The newest packets of a stream, kept unbroken: what a late listener's decoder is warmed with."""

from __future__ import annotations

from collections import deque

from streamcodec.protocol import Packet

__all__ = ["History"]


class History:
    """Packets with their frames, as many as `limit_s` seconds need."""

    def __init__(self, limit_s: float, frame_rate: float) -> None:
        self._limit = limit_s * frame_rate
        self._frame_rate = frame_rate
        self._packets: deque[tuple[Packet, int]] = deque()
        self._frames = 0

    def add(self, packet: Packet, frames: int) -> None:
        """Remember the stream's next packet; what is older than the bound goes."""
        self._packets.append((packet, frames))
        self._frames += frames
        while self._packets and self._frames - self._packets[0][1] >= self._limit:
            self._frames -= self._packets.popleft()[1]

    def clear(self) -> None:
        """Forget all: what follows a gap does not follow what was before it."""
        self._packets.clear()
        self._frames = 0

    def recent(self, seconds: float | None = None) -> list[tuple[Packet, int]]:
        """The newest packets that make up `seconds`, or all there are; oldest first."""
        wanted = self._limit if seconds is None else seconds * self._frame_rate
        frames, taken = 0, 0
        for _, size in reversed(self._packets):
            if frames >= wanted:
                break
            frames += size
            taken += 1
        return list(self._packets)[len(self._packets) - taken :]
