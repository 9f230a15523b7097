"""A publisher's time: how much audio went in and came out, when each moment of it was captured, and how many packets are missing.

Arithmetic on the loop's side. Positions are seconds of the publisher's time, which begins with its first sample.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from streamcodec.errors import SnapshotError
from streamcodec.protocol.clock import TIMESTAMP_MODULUS

__all__ = ["LONGEST_S", "EncoderRun", "Timeline", "TimelineState", "WaitMeter"]


LONGEST_S = 2.0**32
"""No stream lives longer; microseconds of it are exact enough."""


@dataclass(frozen=True)
class TimelineState:
    """A timeline whose older runs are over: its one run, and how many packets were numbered. Anchors are positions (s) and timestamps."""

    begins_s: float
    reason: str
    fed_s: float
    out_s: float
    anchors: tuple[tuple[float, int], ...]
    numbered: int

    def check(self) -> None:
        """Raise `SnapshotError` where it contradicts itself."""
        positions = [position_s for position_s, _ in self.anchors]
        possible = all(0 <= seconds <= LONGEST_S for seconds in (self.begins_s, self.fed_s, self.out_s, *positions))
        if not possible or not self.out_s <= self.fed_s + 1 or self.numbered < 0:
            raise SnapshotError(
                f"a run at {self.begins_s} s took {self.fed_s} s and gave {self.out_s} s, expected 0 or more, and less given"
            )
        ordered = positions == sorted(positions) and all(position_s < self.fed_s for position_s in positions)
        if not ordered or bool(positions) != (self.fed_s > 0):
            raise SnapshotError(f"a run of {self.fed_s} s has {len(positions)} timestamps, expected some, in their order, within it")
        if not all(0 <= timestamp < TIMESTAMP_MODULUS for _, timestamp in self.anchors):
            raise SnapshotError(f"a run has timestamps beyond those of packets, expected 0 to {TIMESTAMP_MODULUS - 1}")


class EncoderRun:
    """One unbroken piece of a publisher's audio, which one state of the encoder encodes."""

    def __init__(self, begins_s: float = 0.0, reason: str = "") -> None:
        self.begins_s = begins_s
        self.reason = reason
        self.fed_s = 0.0
        self.out_s = 0.0
        self.anchors: deque[tuple[float, int]] = deque()

    @classmethod
    def restored(cls, saved: TimelineState) -> EncoderRun:
        """The run of a timeline as a value."""
        run = cls(saved.begins_s, saved.reason)
        run.fed_s, run.out_s, run.anchors = saved.fed_s, saved.out_s, deque(saved.anchors)
        return run

    @property
    def ends_s(self) -> float:
        """Where it ends in the publisher's time."""
        return self.begins_s + self.fed_s

    @property
    def backlog_s(self) -> float:
        """Seconds of audio that went in and have not come out."""
        return self.fed_s - self.out_s

    @property
    def next_timestamp(self) -> int | None:
        """The timestamp that the next message has if nothing was lost; None before the first message."""
        if not self.anchors:
            return None
        position_s, timestamp = self.anchors[-1]
        return timestamp + round((self.fed_s - position_s) * 1e6)

    def add(self, duration_s: float, timestamp: int) -> None:
        """A message of `duration_s` came in whose first sample has `timestamp`."""
        self.anchors.append((self.fed_s, timestamp))
        self.fed_s += duration_s

    def take(self, duration_s: float) -> int:
        """A packet of `duration_s` comes out: the timestamp of its first sample."""
        while len(self.anchors) > 1 and self.anchors[1][0] <= self.out_s + 1e-9:
            self.anchors.popleft()
        position_s, timestamp = self.anchors[0]
        at = timestamp + round((self.out_s - position_s) * 1e6)
        self.out_s += duration_s
        return at % TIMESTAMP_MODULUS


class Timeline:
    """The runs of one publisher: the first one is being encoded, the last one is being fed. `packet_s` is a packet's length."""

    def __init__(self, packet_s: float, saved: TimelineState | None = None) -> None:
        self._packet_s = packet_s
        self._runs = deque([EncoderRun() if saved is None else EncoderRun.restored(saved)])
        self._numbered = 0 if saved is None else saved.numbered

    @property
    def backlog_s(self) -> float:
        """Seconds of audio that went in and have not come out."""
        return sum(run.backlog_s for run in self._runs)

    @property
    def next_timestamp(self) -> int | None:
        """The timestamp that the next message has if nothing was lost; None before the first message of a run."""
        return self._runs[-1].next_timestamp

    def add(self, duration_s: float, timestamp: int) -> None:
        """A message of `duration_s` came in whose first sample has `timestamp`."""
        self._runs[-1].add(duration_s, timestamp)

    def begin_run(self, missing_s: float, reason: str) -> None:
        """What comes in from now on belongs to a new run, `missing_s` after the last one."""
        self._runs.append(EncoderRun(self._runs[-1].ends_s + missing_s, reason))

    @property
    def fed_s(self) -> float:
        """Seconds of audio that went into the run that is being fed."""
        return self._runs[-1].fed_s

    def snapshot(self, fed_s: float) -> TimelineState:
        """The timeline as it would be if nothing had come in since the `fed_s` of its first run, which was the last one then."""
        run = self._runs[0]
        anchors = tuple(anchor for anchor in run.anchors if anchor[0] < fed_s)
        return TimelineState(run.begins_s, run.reason, fed_s, run.out_s, anchors, self._numbered)

    def lose(self, reason: str) -> EncoderRun:
        """All that went in and has not come out is lost; returns the run that begins behind it."""
        self.begin_run(0.0, reason)
        while len(self._runs) > 1:
            self._runs.popleft()
        return self._runs[0]

    def take(self, duration_s: float) -> int:
        """The next packet comes out, `duration_s` long: the timestamp of its first sample."""
        self._numbered += 1
        return self._runs[0].take(duration_s)

    def end_run(self) -> tuple[EncoderRun, EncoderRun | None]:
        """All of the first run has come out: that run, and the one that follows on it, if there is one."""
        over = self._runs.popleft()
        return over, self._runs[0] if self._runs else None

    def missing_before(self, position_s: float) -> int:
        """How many packets up to `position_s` have no number; they count as numbered from now on.

        The last packet of a run may be shorter than the others and counts as one.
        """
        missing = max(0, round(position_s / self._packet_s) - self._numbered)
        self._numbered += missing
        return missing


class WaitMeter:
    """Tells how long the oldest packet has waited to come out; `packet_s` is a packet's length."""

    def __init__(self, packet_s: float, fed_s: float = 0.0) -> None:
        """`fed_s` is audio that is there already and does not wait: it came in elsewhere."""
        self._packet_s = packet_s
        self._fed_s = fed_s
        self._done_s = 0.0
        self._arrivals: deque[tuple[float, int]] = deque()  # how much had been fed by when

    def feed(self, duration_s: float, now: int) -> None:
        """A message of `duration_s` came in at `now` (us)."""
        self._fed_s += duration_s
        self._arrivals.append((self._fed_s, now))

    def done(self, duration_s: float) -> None:
        """So much has come out or never will."""
        self._done_s += duration_s

    def waited_s(self, now: int) -> float:
        """How long the oldest packet that is whole and has not come out has waited, at `now` (us)."""
        # A packet waits from the arrival of the message that made it whole.
        whole_s = self._done_s + self._packet_s - 1e-6
        while self._arrivals and self._arrivals[0][0] < whole_s:
            self._arrivals.popleft()
        return (now - self._arrivals[0][1]) / 1e6 if self._arrivals else 0.0
