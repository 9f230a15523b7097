"""Where a stream's packets come from: codes that are relayed, or PCM that the worker encodes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from streamcodec.audio import SilenceDetector, StreamResampler, pcm_to_float
from streamcodec.audio.samples import PcmFormat
from streamcodec.config import CodecConfig, Start
from streamcodec.protocol import Packet, pack_codes, payload_frames, sample_width
from streamcodec.protocol.clock import TIMESTAMP_MODULUS
from streamcodec.scheduler.worker import Result, Worker
from streamcodec.types import Codes, Samples

__all__ = ["MAX_BACKLOG_S", "CodesSource", "PcmSource", "Source", "SourceSink"]


MAX_BACKLOG_S = 10.0
"""The most audio of one stream that may wait for the engine, however quick it is: what that takes of memory has a bound."""


class SourceSink(Protocol):
    """What a source tells its stream."""

    def emit(self, payload: bytes, n_q: int, frames: int, timestamp: int, times: tuple[int, int, int]) -> None:
        """A packet of codes of `n_q` codebooks; `timestamp` is its first sample's.

        `times` are when it was complete, encoding began and was done (us).
        """

    def discontinuity(self, missing: int, reason: str) -> None:
        """A new epoch begins behind `missing` packets that will never come."""

    def gap(self, missing: int, reason: str) -> None:
        """`missing` packets will never come; the epoch goes on."""

    def finished(self) -> None:
        """All that was fed has come out."""

    def failed(self, exc: Exception) -> None:
        """What was fed cannot be used, or the engine broke."""


class Source(Protocol):
    """A publisher's packets on their way into a stream."""

    @property
    def backlog_s(self) -> float:
        """Seconds of audio that were fed and have not come out."""

    def feed(self, packet: Packet, now: int) -> None:
        """Take the publisher's next packet, at `now` on the server's clock (us)."""

    def gap(self, count: int, reason: str) -> None:
        """The publisher lost `count` of its packets."""

    def end(self) -> None:
        """Nothing more comes: bring out the rest, then call `finished`."""

    def close(self) -> None:
        """Forget all that is under way."""


class CodesSource:
    """Codes that the client encoded; the session has checked their size, and ten bits cannot name an entry that is not there."""

    backlog_s = 0.0

    def __init__(self, sink: SourceSink, config: CodecConfig) -> None:
        self._sink = sink
        self._bits = config.bits_per_code
        self._epoch = 0

    def feed(self, packet: Packet, now: int) -> None:
        if packet.epoch != self._epoch:
            self._epoch = packet.epoch
            self._sink.discontinuity(0, "publisher")
        frames = payload_frames(packet.payload, packet.n_q, self._bits)
        self._sink.emit(packet.payload, packet.n_q, frames, packet.timestamp, (now, now, now))

    def gap(self, count: int, reason: str) -> None:
        self._sink.gap(count, reason or "publisher")

    def end(self) -> None:
        self._sink.finished()

    def close(self) -> None:
        pass


class PcmSource:
    """PCM of any rate that the worker resamples and encodes.

    Where a packet of a live publisher has waited `wait_s` for the machine, whole messages are dropped until those that wait have done so
    for less than half of it (None: never). What follows is a new epoch, and the packets in between count as missing, so that numbers go on
    with time. However quick the machine is, no more than `MAX_BACKLOG_S` waits. With `silence_db` the packets that are quieter than so
    many dBFS, as a `SilenceDetector` hears them, have only their first codebook.
    """

    def __init__(
        self,
        sink: SourceSink,
        worker: Worker,
        *,
        format: PcmFormat,
        rate: int,
        channels: int,
        n_q: int,
        packet_frames: int,
        start: Start,
        wait_s: float | None,
        dropped: Callable[[int], None],
        silence_db: float | None = None,
    ) -> None:
        config = worker.engine.config
        self._sink = sink
        self._format: PcmFormat = format
        self._channels = channels
        self._bytes_per_s = rate * channels * sample_width(format)
        self._frame_rate = config.frame_rate
        self._packet_s = packet_frames / config.frame_rate
        self._bits = config.bits_per_code
        self._wait_s = wait_s
        self._dropped = dropped
        self._dropping_s = 0.0
        self._lost_s = 0.0  # what the publisher says that it lost, as far as its numbers tell
        self._last_s = 0.0
        self._fed_s = self._done_s = 0.0
        self._arrivals: deque[tuple[float, int]] = deque()  # what was fed up to when, where anybody asks how long it has waited
        self._numbered = 0
        self._epoch: int | None = None
        self._expected: int | None = None
        self._closed = False
        self._runs = deque([_Run()])  # the first is being encoded, the last is being fed
        self._resampler = StreamResampler(rate, config.sampling_rate)
        self._silence: SilenceDetector | None = None
        if silence_db is not None:
            self._silence = SilenceDetector(packet_frames * config.hop_length, silence_db, rate=config.sampling_rate)
        self._quiet_n_q = config.min_n_q
        self._drained = False
        self._encoder = worker.open_encoder(
            self._on_result,
            n_q=n_q,
            packet_frames=packet_frames,
            start=start,
            prepare=self._prepare,
            finish=self._finish,
            drain=self._drain,
        )

    @property
    def backlog_s(self) -> float:
        return sum(run.fed_s - run.out_s for run in self._runs)

    def waited_s(self, now: int) -> float:
        """How long the oldest packet that is whole and has not come out has waited, at `now` (us)."""
        # A packet waits from the message on that made it whole.
        whole_s = self._done_s + self._packet_s - 1e-6
        while self._arrivals and self._arrivals[0][0] < whole_s:
            self._arrivals.popleft()
        return (now - self._arrivals[0][1]) / 1e6 if self._arrivals else 0.0

    def feed(self, packet: Packet, now: int) -> None:
        duration_s = len(packet.payload) / self._bytes_per_s
        if self._wait_s is not None and (
            self.waited_s(now) > (self._wait_s / 2 if self._dropping_s else self._wait_s) or self.backlog_s > MAX_BACKLOG_S
        ):
            self._dropping_s += duration_s
            self._dropped(1)
            return
        if self._epoch not in (None, packet.epoch) and self._expected is None:
            # The publisher's input was interrupted: a new epoch, as long after the last one as the timestamps say.
            self._expected = self._runs[-1].next_timestamp
        self._epoch = packet.epoch
        if self._dropping_s:
            self._restart(self._dropping_s, "overload")
        elif self._expected is not None:
            late = (packet.timestamp - self._expected + TIMESTAMP_MODULUS // 2) % TIMESTAMP_MODULUS - TIMESTAMP_MODULUS // 2
            # Timestamps that stand still say nothing about what was lost, so the numbers must.
            self._restart(late / 1e6 if late > 0 else self._lost_s, "publisher")
        self._dropping_s, self._lost_s, self._expected, self._last_s = 0.0, 0.0, None, duration_s
        self._runs[-1].add(duration_s, packet.timestamp)
        self._fed_s += duration_s
        if self._wait_s is not None:
            self._arrivals.append((self._fed_s, now))
        self._encoder.feed(packet.payload)

    def gap(self, count: int, reason: str) -> None:  # noqa: ARG002
        # How long it was shows in the next timestamp, as messages may have any length: their number is the second best.
        self._lost_s += count * self._last_s
        if self._expected is None:
            self._expected = self._runs[-1].next_timestamp

    def end(self) -> None:
        self._encoder.end()

    def close(self) -> None:
        self._closed = True
        self._encoder.close()

    def _restart(self, missing_s: float, reason: str) -> None:
        self._runs.append(_Run(self._runs[-1].ends_s + missing_s, reason))
        if reason == "overload":
            # Bringing out the rest of a packet takes a step of its own: too much for a machine that has too much to do.
            self._encoder.cut()
        else:
            self._encoder.restart()

    def _missing_before(self, position_s: float) -> int:
        """Packets that were never numbered before a place in the publisher's time: a run's short last packet has counted as one."""
        missing = max(0, round(position_s / self._packet_s) - self._numbered)
        self._numbered += missing
        return missing

    # On the worker's threads, one call at a time. A run's packets have all been finished before the next run's first samples are prepared.

    def _prepare(self, data: bytes) -> Samples:
        return self._hear(self._resampler.feed(pcm_to_float(data, self._format, self._channels)))

    def _drain(self) -> Samples:
        rest = self._hear(self._resampler.flush())
        self._drained = True
        return rest

    def _hear(self, samples: Samples) -> Samples:
        if self._silence is not None:
            if self._drained:
                self._silence.reset()
            self._silence.feed(samples)
        self._drained = False
        return samples

    def _finish(self, codes: Codes) -> tuple[bytes, int, int]:
        if self._silence is not None and self._silence.next_is_quiet():
            codes = codes[: self._quiet_n_q]
        return pack_codes(codes, self._bits), *codes.shape

    # On the loop.

    def _on_result(self, result: Result) -> None:
        if self._closed:
            return
        try:
            if result.error is not None:
                raise result.error
            self._pass_on(result)
        except Exception as exc:  # a stream that lost count must end: nobody else would end it
            self._sink.failed(exc)

    def _pass_on(self, result: Result) -> None:
        times = (round(result.due * 1e6), round(result.started * 1e6), round(result.done * 1e6))
        for payload, n_q, frames in result.outputs:
            timestamp = self._runs[0].take(frames / self._frame_rate)
            self._done_s += frames / self._frame_rate
            self._numbered += 1
            self._sink.emit(payload, n_q, frames, timestamp, times)
        if result.ended:
            over = self._runs.popleft()
            self._done_s += over.fed_s - over.out_s
            if self._runs:
                self._sink.discontinuity(self._missing_before(self._runs[0].begins_s), self._runs[0].reason)
            else:
                if self._dropping_s or self._lost_s:
                    reason = "overload" if self._dropping_s else "publisher"
                    self._sink.gap(self._missing_before(over.ends_s + self._dropping_s + self._lost_s), reason)
                self._sink.finished()


class _Run:
    """One unbroken piece of a publisher's audio: how much went in and came out, and when each moment of it was captured."""

    def __init__(self, begins_s: float = 0.0, reason: str = "") -> None:
        self.begins_s = begins_s
        self.reason = reason
        self.fed_s = 0.0
        self.out_s = 0.0
        self._anchors: deque[tuple[float, int]] = deque()

    @property
    def ends_s(self) -> float:
        """Where it ends in the publisher's time, which began with its first sample."""
        return self.begins_s + self.fed_s

    @property
    def next_timestamp(self) -> int | None:
        """The timestamp that the next message would have if nothing were lost."""
        if not self._anchors:
            return None
        position_s, timestamp = self._anchors[-1]
        return timestamp + round((self.fed_s - position_s) * 1e6)

    def add(self, duration_s: float, timestamp: int) -> None:
        """A message of `duration_s` came in whose first sample has `timestamp`."""
        self._anchors.append((self.fed_s, timestamp))
        self.fed_s += duration_s

    def take(self, duration_s: float) -> int:
        """A packet of `duration_s` comes out: the timestamp of its first sample."""
        while len(self._anchors) > 1 and self._anchors[1][0] <= self.out_s + 1e-9:
            self._anchors.popleft()
        position_s, timestamp = self._anchors[0]
        at = timestamp + round((self.out_s - position_s) * 1e6)
        self.out_s += duration_s
        return at % TIMESTAMP_MODULUS
