"""A listener that connects again and again, and notes what it hears and when, and which packets neither came nor were named."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from streamcodec.client import listen
from streamcodec.errors import StreamCodecError, printable
from streamcodec.protocol import Format, Gap, Packet, StreamEnd, StreamStart

__all__ = ["PACKET_S", "ClusterEar", "longest_silence"]

PACKET_S = 0.08
"""Of all streams."""
_AGAIN_S = 0.1


@dataclass
class ClusterEar:
    """Listens to `name` at `url` until cancelled; times are seconds of `perf_counter`.

    Packets as they `came`, with their numbers, and with payloads where they are `kept`; `gaps` with their counts and reasons; `sessions` in
    the order in which they began; `ends` with their reasons. `unnamed` packets are those that the server went on behind without a word,
    `repeated` those that came twice, and `errors` what ended connections that could not be resumed.
    """

    name: str
    url: str
    fingerprint: str
    kind: Literal["pcm", "codes"] = "codes"
    keep: bool = False
    waiting: asyncio.Event = field(default_factory=asyncio.Event, repr=False)
    came: list[float] = field(default_factory=list)
    seqs: list[int] = field(default_factory=list)
    kept: list[bytes] = field(default_factory=list, repr=False)
    gaps: list[tuple[float, int, str]] = field(default_factory=list)
    sessions: list[str] = field(default_factory=list)
    epochs: list[tuple[float, int]] = field(default_factory=list)
    ends: list[tuple[float, str]] = field(default_factory=list)
    unnamed: int = 0
    repeated: int = 0
    resumed: int = 0
    errors: list[tuple[float, str]] = field(default_factory=list)
    _following: int | None = field(default=None, repr=False)

    @property
    def told(self) -> int:
        """Packets that gaps named."""
        return sum(count for _, count, _ in self.gaps)

    async def run(self) -> None:
        """Listen until cancelled."""
        format: Format = "pcm_f32le" if self.kind == "pcm" else "codes"
        model = None if self.kind == "pcm" else self.fingerprint
        while True:
            try:
                async with listen(self.url, self.name, format=format, model=model, note=self._again) as listener:
                    async for event in listener:
                        self.waiting.set()
                        self._hear(event)
            except (StreamCodecError, OSError) as error:
                self.errors.append((time.perf_counter(), printable(str(error))))
            await asyncio.sleep(_AGAIN_S)

    def _hear(self, event: object) -> None:
        now = time.perf_counter()
        if isinstance(event, StreamStart):
            self._begin(now, event)
        elif isinstance(event, Packet):
            self._count(event.seq, event.seq + 1)
            self.came.append(now)
            self.seqs.append(event.seq)
            if self.keep:
                self.kept.append(event.payload)
        elif isinstance(event, Gap):
            self.gaps.append((now, event.count, event.reason))
            self._count(event.first_seq, event.next_seq)
        elif isinstance(event, StreamEnd):
            self._count(event.next_seq, event.next_seq)
            self.ends.append((now, event.reason))
            self._following = None

    def _begin(self, now: float, start: StreamStart) -> None:
        session = start.session or ""
        if not self.sessions or session != self.sessions[-1]:
            self.sessions.append(session)
            self._following = None  # where it begins, and how much of its history comes, is the server's to say
        if not self.epochs or (session, start.epoch) != (self.sessions[-1], self.epochs[-1][1]):
            self.epochs.append((now, start.epoch))

    def _count(self, first: int, following: int) -> None:
        if self._following is not None:
            self.unnamed += max(0, first - self._following)
            self.repeated += max(0, self._following - first)
        self._following = following

    def _again(self, _: str) -> None:
        self.resumed += 1


def longest_silence(came: Sequence[float], begin: float, end: float) -> tuple[float, float] | None:
    """The longest time between two packets in a row of which the second came in this span: begin and end; None where none came."""
    pairs = [(a, b) for a, b in itertools.pairwise(came) if begin <= b < end]
    return max(pairs, key=lambda pair: pair[1] - pair[0], default=None)
