"""Who speaks when, and what became of each packet: a schedule of publishers and a ledger of lateness. Neither reads a clock.

A packet falls due when its last sample is captured. Its lateness runs from there until it is out: in process, until the worker has handed
its codes to the stream's sink; through WebSockets, until the listener's program has parsed the message that carries it.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from streamcodec.audio import bundled_clip

__all__ = ["CODES", "PCM", "PacketLedger", "Sample", "Schedule", "Voice", "back_after", "speech_from"]

Floats = npt.NDArray[np.float64]

CODES, PCM = 0, 1
_SAMPLE_RATE = 24_000


def speech_from(frames: int, hop: int) -> tuple[npt.NDArray[np.float32], int]:
    """The bundled clip, long enough to cut `frames` frames from any place of it, and its length before that."""
    clip, _ = bundled_clip()
    return np.concatenate([clip, clip[: frames * hop]]), len(clip)


@dataclass(slots=True, eq=False)
class Voice:
    """One publisher: its place in the bundled clip (samples), its phase within a packet (s), and when its first sample was captured (s)."""

    index: int
    offset: int
    phase_s: float
    begun: float = math.nan
    sent: int = 0


class Schedule:
    """Live publishers, each handing over `each_s` of audio at a time, at phases spread over `packet_s` by a seeded generator."""

    def __init__(self, packet_s: float, each_s: float, seed: int = 0) -> None:
        self._packet_s = packet_s
        self._each_s = each_s
        self._seed = seed
        self._made = 0
        self._heap: list[tuple[float, int, Voice]] = []
        self._live: dict[int, Voice] = {}

    def __len__(self) -> int:
        return len(self._live)

    def make(self) -> Voice:
        """Another publisher, which does not speak yet."""
        rng = np.random.default_rng([self._seed, self._made])
        self._made += 1
        return Voice(self._made - 1, int(rng.integers(10 * _SAMPLE_RATE)), float(rng.uniform(0, self._packet_s)))

    def begin(self, voice: Voice, now: float) -> None:
        """Let `voice` speak from its next phase after `now` on (s)."""
        voice.begun = voice.phase_s + math.ceil((now - voice.phase_s) / self._packet_s) * self._packet_s
        self._live[voice.index] = voice
        heapq.heappush(self._heap, (voice.begun + self._each_s, voice.index, voice))

    def leave(self, voice: Voice) -> None:
        """Let `voice` say nothing more."""
        self._live.pop(voice.index, None)

    @property
    def next_due(self) -> float:
        """When the next audio is to be handed over (s)."""
        return self._heap[0][0] if self._heap else math.inf

    def take(self, now: float) -> list[tuple[float, Voice]]:
        """What has fallen due by `now`: when, and of whom; each voice's `sent` still counts what was handed over before."""
        taken = []
        while self._heap and self._heap[0][0] <= now:
            due, index, voice = heapq.heappop(self._heap)
            if index in self._live:
                taken.append((due, voice))
                pieces = round((due - voice.begun) / self._each_s)
                heapq.heappush(self._heap, (voice.begun + (pieces + 1) * self._each_s, index, voice))
        return taken


def no_floats(*shape: int) -> Floats:
    """An empty array."""
    return np.empty(shape or (0,), np.float64)


@dataclass
class Sample:
    """What happened since the last one: packets [n, 3] (due, out, kind), dropped [m, 2] (due, kind), handed over [k, 2] (due, how late).

    `waiting` [j] are the packets that have fallen due and are not out; `live` counts publishers. All times in seconds of one clock.
    """

    packets: Floats = field(default_factory=lambda: no_floats(0, 3))
    dropped: Floats = field(default_factory=lambda: no_floats(0, 2))
    handed: Floats = field(default_factory=lambda: no_floats(0, 2))
    waiting: Floats = field(default_factory=no_floats)
    live: int = 0
    gaps: int = 0
    refused: list[tuple[str, str]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


class PacketLedger:
    """All packets of a run, by when they fell due."""

    def __init__(self) -> None:
        self._packets: list[npt.NDArray[np.void]] = []
        self._spans: list[tuple[float, float]] = []  # of `due` in each, so that a look at one second passes over the others
        self._dropped: list[Floats] = []
        self._handed: list[Floats] = []
        self._waiting = no_floats()
        self._now = 0.0
        self.failures: list[str] = []
        self.refused: list[tuple[str, str]] = []
        self.gaps = 0

    def add(self, sample: Sample, now: float) -> None:
        """Enter what happened up to `now`."""
        entry = np.empty(len(sample.packets), [("due", "f8"), ("late", "f4"), ("kind", "u1")])
        entry["due"], entry["kind"] = sample.packets[:, 0], sample.packets[:, 2]
        entry["late"] = (sample.packets[:, 1] - sample.packets[:, 0]) * 1000
        if len(entry):
            self._packets.append(entry)
            self._spans.append((float(entry["due"].min()), float(entry["due"].max())))
        if len(sample.dropped):
            self._dropped.append(sample.dropped)
        self._handed.append(sample.handed)
        self._waiting, self._now = sample.waiting, now
        self.failures += sample.failures
        self.refused += sample.refused
        self.gaps += sample.gaps

    @property
    def waiting(self) -> int:
        """Packets that have fallen due and are not out."""
        return len(self._waiting)

    def late_ms(self, begin: float, end: float, kind: int | None = CODES) -> npt.NDArray[np.float32]:
        """The lateness of packets due within [begin, end) that are out, in ms; of both kinds where `kind` is None."""
        found = [np.empty(0, np.float32)]
        for entry, (first, last) in zip(self._packets, self._spans, strict=True):
            if last < begin or first >= end:
                continue
            chosen = (entry["due"] >= begin) & (entry["due"] < end)
            found.append(entry["late"][chosen if kind is None else chosen & (entry["kind"] == kind)])
        return np.concatenate(found)

    def own_ms(self, begin: float, end: float) -> Floats:
        """How late the load itself handed over what was due within [begin, end), in ms."""
        joined = np.concatenate([no_floats(0, 2), *self._handed])
        chosen: Floats = joined[(joined[:, 0] >= begin) & (joined[:, 0] < end), 1]
        return chosen * 1000

    def dropped(self, begin: float, end: float) -> int:
        """How many packets due within [begin, end), of codes and PCM, will never come."""
        joined = np.concatenate([no_floats(0, 2), *self._dropped])[:, 0]
        return int(((joined >= begin) & (joined < end)).sum())

    def p99_ms(self, begin: float, end: float) -> float:
        """The 99th percentile of packets due within [begin, end), the worse of codes and PCM.

        A packet that is not out yet counts with what it has waited so far; nan where nothing was due.
        """
        waiting = self._waiting[(self._waiting >= begin) & (self._waiting < end)]
        codes = np.concatenate([self.late_ms(begin, end), (self._now - waiting) * 1000])
        found = [float(np.percentile(late, 99)) for late in (codes, self.late_ms(begin, end, PCM)) if len(late)]
        return max(found, default=math.nan)

    def seconds(self, begin: float, end: float) -> dict[str, list[float | None]]:
        """Second by second from `begin` on: p50, p99 and the longest of all packets due then (ms), and how many were dropped."""
        columns: dict[str, list[float | None]] = {"p50": [], "p99": [], "max": [], "dropped": []}
        joined = np.concatenate([np.empty(0, [("due", "f8"), ("late", "f4"), ("kind", "u1")]), *self._packets])
        joined = np.sort(joined, order="due")
        drops = np.concatenate([no_floats(0, 2), *self._dropped])[:, 0]
        for at in np.arange(begin, end - 0.5, 1.0):
            first, last = np.searchsorted(joined["due"], (at, at + 1))
            late = joined["late"][first:last]
            spread = [round(float(v), 2) for v in (*np.percentile(late, (50, 99)), late.max())] if len(late) else [None] * 3
            for name, value in zip(("p50", "p99", "max"), spread, strict=True):
                columns[name].append(value)
            columns["dropped"].append(int(((drops >= at) & (drops < at + 1)).sum()))
        return columns


def back_after(ledger: PacketLedger, begin: float, end: float, limit_ms: float) -> float | None:
    """Seconds from `begin` until the first second whose packets are in time: p99 under `limit_ms`, none dropped. None if there is none."""
    for tenths in range(int((end - begin - 1) * 10) + 1):
        at = begin + tenths / 10
        if ledger.p99_ms(at, at + 1) < limit_ms and not ledger.dropped(at, at + 1):
            return tenths / 10
    return None
