"""A publisher as an application has it: in real time, and where its connection cannot be resumed, it begins anew where it is sent."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from benchmarks.cluster.ear import PACKET_S
from streamcodec.audio import bundled_clip
from streamcodec.client import PublishOptions, publish
from streamcodec.client.publisher import Publisher
from streamcodec.client.reconnect import Destination, keep_trying
from streamcodec.errors import ConnectionFailed, StreamCodecError, printable

__all__ = ["BANDWIDTH", "N_Q", "ClusterSpeaker", "Kind", "Told", "voice"]

Kind = Literal["pcm", "codes"]
BANDWIDTH, N_Q = 6.0, 8
"""Of all streams (kbps, codebooks)."""
_QUEUE_S = 10.0  # what a machine that stalls keeps its own publishers from sending is nothing that a cluster has lost
_RATE, _BLOCK, _FRAMES, _CODEBOOK_SIZE = 24_000, 480, 6, 1024


def voice(kind: Kind, seed: int, count: int) -> Any:
    """The first `count` blocks of what a publisher sends: samples [T] on the 16-bit grid of the wire, or codes [n_q, F]."""
    blocks = list(itertools.islice(_blocks(kind, seed), count))
    return np.concatenate(blocks, axis=-1) if blocks else None


def _blocks(kind: Kind, seed: int) -> Iterator[Any]:
    if kind == "codes":
        rng = np.random.default_rng(seed)
        while True:
            yield rng.integers(0, _CODEBOOK_SIZE, (N_Q, _FRAMES), dtype=np.int32)
    clip = np.round(np.roll(bundled_clip()[0], -_RATE * seed) * 32_768).clip(-32_768, 32_767).astype(np.float32) / np.float32(32_768)
    whole = clip.size // _BLOCK * _BLOCK
    yield from itertools.cycle(np.split(clip[:whole], whole // _BLOCK))


@dataclass(frozen=True)
class Told:
    """What a publisher was told at a time (s of `perf_counter`); `code` is empty for what is no refusal."""

    at: float
    code: str
    reason: str


@dataclass
class ClusterSpeaker:
    """Publishes `name` at `url` from `run` on: until `stop`, a refusal in `gives_up`, or an error that no other attempt can change.

    `sessions` counts streams that it began, and `resumed` connections with which one of them went on. `sent` are blocks of the last stream,
    and `spoken_s` is how long it had something to say, connected or not.
    """

    name: str
    url: str
    fingerprint: str
    kind: Kind = "codes"
    seed: int = 0
    gives_up: tuple[str, ...] = ()
    sessions: int = 0
    resumed: int = 0
    sent: int = 0
    dropped_s: float = 0.0
    told: list[Told] = field(default_factory=list)
    begun: float | None = None
    over: float | None = None
    ended: bool = False
    _stopping: asyncio.Event = field(default_factory=asyncio.Event, repr=False)
    _publisher: Publisher | None = field(default=None, repr=False)

    @property
    def spoken_s(self) -> float:
        """From the first block to the end, or to now."""
        return 0.0 if self.begun is None else (self.over or time.perf_counter()) - self.begun

    @property
    def publishes(self) -> bool:
        """Whether a server has let it in, and has not told it anything else."""
        return self._publisher is not None

    def stop(self) -> None:
        """End the stream in order; `run` returns when the server has all of it."""
        self._stopping.set()

    async def run(self) -> None:
        """Publish."""
        destination = Destination(self.url)
        try:
            await keep_trying(lambda: self._publish(destination), destination=destination, give_up=self._gives_up)
        except (StreamCodecError, OSError) as error:
            if not self.told or self.told[-1].reason != printable(str(error)):
                self._note(error)
        finally:
            self.over = self.over or time.perf_counter()

    def _gives_up(self) -> bool:
        return self._stopping.is_set() or (bool(self.told) and self.told[-1].code in self.gives_up)

    async def _publish(self, destination: Destination) -> None:
        pcm = self.kind == "pcm"
        options = PublishOptions(
            format="pcm_s16le" if pcm else "codes",
            sample_rate=_RATE,
            model=None if pcm else self.fingerprint,
            bandwidth=BANDWIDTH,
            packet_frames=_FRAMES,
            start="primed" if pcm else "exact",
            queue_s=_QUEUE_S,
        )
        try:
            async with publish(destination.url, self.name, options, note=self._again) as publisher:
                self.sessions += 1
                self._publisher = publisher
                await self._speak(publisher, _BLOCK / _RATE if pcm else PACKET_S)
                await publisher.end()
                self.ended = True
        except (ConnectionFailed, OSError) as error:
            self._note(error)
            raise
        finally:
            self.dropped_s += 0.0 if self._publisher is None else self._publisher.dropped_s
            self._publisher = None

    async def _speak(self, publisher: Publisher, block_s: float) -> None:
        blocks, begun, self.sent = _blocks(self.kind, self.seed), time.perf_counter(), 0
        self.begun = self.begun or begun
        while not self._stopping.is_set():
            await asyncio.sleep(max(0.0, begun + (self.sent + 1) * block_s - time.perf_counter()))
            publisher.offer(next(blocks))
            self.sent += 1
            if (closing := publisher.closing) is not None:  # its server stops, and has not sent it elsewhere
                await publisher.end()
                raise closing
        self.over = time.perf_counter()

    def _again(self, line: str) -> None:
        self.resumed += 1
        self.told.append(Told(time.perf_counter(), "resumed", printable(line)))

    def _note(self, error: Exception) -> None:
        self.told.append(Told(time.perf_counter(), getattr(error, "code", ""), printable(str(error))))
