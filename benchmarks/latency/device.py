"""A sound device that is none: it pulls blocks from an `AdaptivePlayout` as its own clock says, and notes when each packet's turn came.

In real time a thread pulls; in made-up time an hour takes seconds.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from dataclasses import dataclass, field

import numpy as np

from benchmarks.harness.sections import Figures
from streamcodec.audio.playout.adaptive import AdaptivePlayout, PlayoutPolicy, PlayoutStats
from streamcodec.audio.playout.drift import DriftResampler
from streamcodec.types import Samples

__all__ = ["BLOCK_S", "DEVICE_RATE", "Device", "Handed", "Playing", "hour_of_drift"]

DEVICE_RATE = 48_000
BLOCK_S = 0.005
_BLOCK = round(BLOCK_S * DEVICE_RATE)


@dataclass(frozen=True, slots=True)
class Handed:
    """One packet at the device: when its first sample was handed over (None: it was left out, or never), how much of the same block was in
    front of it (s), and how playing went as it came."""

    at: float | None
    within_s: float
    stats: PlayoutStats


@dataclass
class Playing:
    """The books of one playout: samples count from the beginning, at the device's rate."""

    playout: AdaptivePlayout
    rate: float
    _withheld: int = field(init=False)
    _written: int = 0
    _packets: list[tuple[int, PlayoutStats]] = field(default_factory=list)
    _pulled_at: list[float] = field(default_factory=list)
    _read: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._withheld = round(DriftResampler(self.rate, DEVICE_RATE).withheld_s * DEVICE_RATE)

    @property
    def withheld_s(self) -> float:
        """How much the resampler in front of the device holds back."""
        return self._withheld / DEVICE_RATE

    def push(self, samples: Samples, arrived: float, captured: float, decoding_s: float = 0.0) -> None:
        """Take a packet [T]; when it came, when its last sample was captured, and how long after it came it was decoded (s)."""
        before, was = self._buffered(), self.playout.stats
        self.playout.push(samples, arrived, captured, decoding_s=decoding_s)
        stats = self.playout.stats
        self._written += self._buffered() - before
        # From its end, in front of which the playout may have put silence.
        length_s = samples.size / self.rate + stats.lengthened_s - was.lengthened_s - (stats.shortened_s - was.shortened_s)
        self._packets.append((self._written + self._withheld - round(length_s * DEVICE_RATE), stats))

    def pull(self, now: float) -> None:
        """Let the device take a block."""
        self.playout.pull(_BLOCK)
        self._pulled_at.append(now)
        self._read.append(self._written - self._buffered())

    def handed(self) -> list[Handed]:
        """All packets, in order."""
        found = []
        for first, stats in self._packets:
            at = bisect_right(self._read, first)
            # Further behind the last that was read than a block reaches: a jump went over it.
            played = at < len(self._read) and self._read[at] - first <= 2 * _BLOCK
            within = max(0, first - (self._read[at] - _BLOCK)) if played else 0
            found.append(Handed(self._pulled_at[at] if played else None, within / DEVICE_RATE, stats))
        return found

    def _buffered(self) -> int:
        return round(self.playout.stats.buffered_s * DEVICE_RATE)


class Device:
    """A device in real time whose clock is fast by `drift_ppm`, behind a playout that holds back `slack_s` at least; a context manager.

    Its lock is the books' alone, which count on both sides at once.
    """

    def __init__(self, rate: float, drift_ppm: float = 0.0, slack_s: float = PlayoutPolicy.floor_s) -> None:
        self._playing = Playing(AdaptivePlayout(rate, DEVICE_RATE, PlayoutPolicy(floor_s=slack_s), block_s=BLOCK_S), rate)
        self._period = BLOCK_S / (1.0 + drift_ppm * 1e-6)
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._pull, name="device", daemon=True)

    def __enter__(self) -> Device:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def withheld_s(self) -> float:
        """How much the resampler in front of the device holds back."""
        return self._playing.withheld_s

    @property
    def stats(self) -> PlayoutStats:
        """How playing goes."""
        return self._playing.playout.stats

    def push(self, samples: Samples, arrived: float, captured: float, decoding_s: float = 0.0) -> None:
        """Take a packet [T]; when it came, when its last sample was captured, and how long after it came it was decoded (s)."""
        if samples.size:
            with self._lock:
                self._playing.push(samples, arrived, captured, decoding_s)

    def handed(self) -> list[Handed]:
        """All packets, in order."""
        return self._playing.handed()

    def _pull(self) -> None:
        due = time.perf_counter()
        while not self._over.is_set():
            due += self._period
            if (wait := due - time.perf_counter()) > 0:
                time.sleep(wait)
            with self._lock:
                self._playing.pull(time.perf_counter())


def hour_of_drift(sound: Samples, rate: float, packet: int, minutes: float, drift_ppm: float, jitter_s: float = 0.004) -> Figures:
    """Play `sound` [T] over and over for `minutes` of made-up time, in packets that come up to `jitter_s` late."""
    playing = Playing(AdaptivePlayout(rate, DEVICE_RATE, block_s=BLOCK_S), rate)
    rng = np.random.default_rng(0)
    count, packet_s = round(60 * minutes * rate / packet), packet / rate
    period, pulls, arrived = BLOCK_S / (1.0 + drift_ppm * 1e-6), 0, 0.0
    captured, pieces = [], len(sound) // packet
    for i in range(count):
        captured.append((i + 1) * packet_s)
        arrived = max(arrived, captured[-1] + 0.01 + float(rng.uniform(0.0, jitter_s)))
        while pulls * period < arrived:
            playing.pull(pulls * period)
            pulls += 1
        at = i % pieces * packet
        playing.push(sound[at : at + packet], arrived, captured[-1])
    stats = playing.playout.stats
    delays = [(t, h.at + h.within_s - t) for t, h in zip(captured, playing.handed(), strict=True) if h.at is not None]
    return {
        "drift_ppm": drift_ppm,
        "minutes": minutes,
        "delay_ms": _by_slice(delays, 120),
        "steering_ppm": 1e6 * stats.steering,
        "underruns": stats.underruns,
        "jumps": stats.jumps,
        "shortened_s": stats.shortened_s,
        "lengthened_s": stats.lengthened_s,
        "target_ms": 1000 * stats.target_s,
    }


def _by_slice(delays: list[tuple[float, float]], slices: int) -> list[float]:
    """The median delay (ms) of each of so many slices of time."""
    return [round(1000 * float(np.median(part[:, 1])), 3) for part in np.array_split(np.asarray(delays), slices) if len(part)]
