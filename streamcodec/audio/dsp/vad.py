"""Voice activity detection: finds the quiet packets of a stream and cuts their codes to the fewest codebooks. It reads no clock."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt

from streamcodec.config import CodecConfig
from streamcodec.errors import InputError, SnapshotError
from streamcodec.types import Samples

__all__ = ["SILENCE_DB", "QuietPackets", "SilenceDetector", "SilenceState"]

SILENCE_DB = -50.0
"""The default threshold of silence in dBFS: below speech, above the noise of a quiet room."""

_MAX_PART_S = 0.02


@dataclass(frozen=True)
class SilenceState:
    """A detector between two blocks: decisions on packets to come, samples [T] of the next packet, and those since the last loud part."""

    decisions: tuple[bool, ...]
    rest: Samples
    since_loud: float


class SilenceDetector:
    """Decides for each packet of a mono stream, in order, whether it is quiet.

    A packet is `packet_samples` samples at `rate` Hz and is divided into equal parts of 10 to 20 ms. It is quiet if the RMS of each part is
    below `threshold_db` (dBFS; a full-scale sine is -3) and the last loud part ended at least `hangover_s` before the packet. The hangover
    keeps the soft ends of words. A run begins as if silence came before it. Raises `InputError` for invalid arguments.
    """

    def __init__(self, packet_samples: int, threshold_db: float = SILENCE_DB, hangover_s: float = 0.3, *, rate: float = 24_000) -> None:
        if packet_samples < 1 or not rate > 0:
            raise InputError(f"packet_samples is {packet_samples!r} and rate {rate!r}, expected both above 0")
        if not isinstance(threshold_db, Real) or not math.isfinite(threshold_db) or not hangover_s >= 0:
            raise InputError(f"threshold_db is {threshold_db!r} and hangover_s {hangover_s!r}, expected a number of dBFS and 0 s or more")
        self._size: int = packet_samples
        parts: int = max(1, math.ceil(packet_samples / (_MAX_PART_S * rate) - 1e-9))
        self._edges: npt.NDArray[np.int_] = packet_samples * np.arange(parts) // parts
        self._max_power: float = 10 ** (threshold_db / 10)
        self._hangover: float = hangover_s * rate
        self.reset()

    def reset(self) -> None:
        """Begin a new run, and discard the samples and decisions of the last one."""
        self._decisions: deque[bool] = deque()
        self._rest = np.empty(0, np.float64)
        self._since_loud = math.inf  # samples from the last loud part to the next packet

    def feed(self, samples: Samples) -> None:
        """Take a block [T] of any length; the caller may reuse the array."""
        waiting = np.concatenate([self._rest, samples], dtype=np.float64)
        whole = waiting.size - waiting.size % self._size
        self._decisions.extend(self._is_quiet(waiting[at : at + self._size]) for at in range(0, whole, self._size))
        self._rest = waiting[whole:].copy()

    def snapshot(self) -> SilenceState:
        """The detector as a value."""
        return SilenceState(tuple(self._decisions), self._rest.astype(np.float32), float(self._since_loud))

    def restore(self, saved: SilenceState) -> None:
        """Go on from a value of `snapshot`; raises `SnapshotError` for one that does not fit."""
        if saved.rest.ndim != 1 or saved.rest.size >= self._size or not saved.since_loud >= 0:
            told = f"{list(saved.rest.shape)} samples and {saved.since_loud} since a loud one"
            raise SnapshotError(f"the detector of silence has {told}, expected [T] with T below {self._size}, and 0 or more")
        self._decisions = deque(saved.decisions)
        self._rest = saved.rest.astype(np.float64)
        self._since_loud = saved.since_loud

    def next_is_quiet(self) -> bool:
        """Whether the next packet is quiet. Each call is about the packet after that of the last call.

        If no whole packet is left, the answer is about the samples that were fed since: the shorter last packet of a run. Raises
        `InputError` if there are none.
        """
        if not self._decisions:
            if not self._rest.size:
                raise InputError("next_is_quiet was called for a packet before any of its samples was fed")
            self._decisions.append(self._is_quiet(self._rest))
            self._rest = self._rest[:0]
        return self._decisions.popleft()

    def _is_quiet(self, packet: npt.NDArray[np.float64]) -> bool:
        starts = self._edges[self._edges < packet.size]
        ends = np.append(starts[1:], packet.size)
        # NaN is not below the threshold, so it counts as loud.
        loud = ~(np.add.reduceat(np.square(packet), starts) < self._max_power * (ends - starts))
        quiet = not loud.any() and self._since_loud >= self._hangover
        self._since_loud = packet.size - ends[loud][-1] if loud.any() else self._since_loud + packet.size
        return bool(quiet)


class QuietPackets:
    """Cuts the quiet packets of a stream to the fewest codebooks that `config` allows; with `threshold_db` None, no packet is quiet.

    A packet has `packet_frames` frames; the last one of a run may have fewer. Raises `InputError` for invalid arguments, and for a
    threshold where the model codes chunks: none of its packets stands for silence.
    """

    def __init__(self, config: CodecConfig, packet_frames: int, threshold_db: float | None) -> None:
        self._min_n_q = config.min_n_q
        self._detector: SilenceDetector | None = None
        if threshold_db is not None:
            if config.granularity != "frames":
                raise InputError(f"silence_db is {threshold_db!r}, expected none: no packet of a model in chunks stands for silence")
            self._detector = SilenceDetector(packet_frames * config.hop_length, threshold_db, rate=config.sampling_rate)

    def reset(self) -> None:
        """Begin a new run, and discard the samples and decisions of the last one."""
        if self._detector is not None:
            self._detector.reset()

    def feed(self, samples: Samples) -> None:
        """Take a block [T] of any length of the samples that are encoded; the caller may reuse the array."""
        if self._detector is not None:
            self._detector.feed(samples)

    def snapshot(self) -> SilenceState | None:
        """What it knows as a value; None where no packet is quiet."""
        return None if self._detector is None else self._detector.snapshot()

    def restore(self, saved: SilenceState | None) -> None:
        """Go on from a value of `snapshot`; raises `SnapshotError` for one that does not fit."""
        if (saved is None) != (self._detector is None):
            told, expected = ("none", "one") if saved is None else ("one", "none")
            raise SnapshotError(f"there is {told} of a detector of silence, expected {expected} with this threshold")
        if self._detector is not None and saved is not None:
            self._detector.restore(saved)

    def cut(self, packet: Any) -> Any:
        """The codes [n_q, F] of the next packet, or only their first codebooks if it is quiet. Its samples must have been fed before."""
        return packet[: self._min_n_q] if self._detector is not None and self._detector.next_is_quiet() else packet
