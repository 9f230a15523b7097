"""PCM that the worker encodes: what is fed and what comes out is matched here, on the loop's thread."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from streamcodec.audio.dsp.vad import QuietPackets
from streamcodec.audio.samples import PcmFormat
from streamcodec.config import Start
from streamcodec.errors import EngineHungError, SnapshotError, StreamCodecError
from streamcodec.protocol import Packet, sample_width
from streamcodec.protocol.clock import TIMESTAMP_MODULUS
from streamcodec.scheduler.rows import EncoderRowState
from streamcodec.scheduler.streams import Result, WorkerStream
from streamcodec.scheduler.worker import Worker
from streamcodec.server.ingest.frontend import FrontendState, PcmFrontend
from streamcodec.server.ingest.source import MAX_BACKLOG_S, IngestSink
from streamcodec.server.ingest.timeline import LONGEST_S, Timeline, TimelineState, WaitMeter

__all__ = ["PcmSource", "PcmState"]


@dataclass(frozen=True)
class PcmFed:
    """What a source of PCM knows of what it was fed: see `PcmSource`. `fed_s` belongs to the run that is being fed."""

    fed_s: float
    dropping_s: float
    lost_s: float
    last_s: float
    epoch: int | None
    expected: int | None


@dataclass(frozen=True)
class PcmState:
    """A source of PCM as a value: all that it was fed has come out, as far as it makes whole packets."""

    row: EncoderRowState
    frontend: FrontendState
    timeline: TimelineState
    fed: PcmFed

    def check(self) -> None:
        """Raise `SnapshotError` where it contradicts itself; what depends on the engine is not looked at."""
        self.timeline.check()
        seconds = self.fed.fed_s, self.fed.dropping_s, self.fed.lost_s, self.fed.last_s
        if not all(0 <= one <= LONGEST_S for one in seconds):
            raise SnapshotError(f"a source of PCM counts {seconds} s, expected 0 or more")


class PcmSource:
    """PCM of any rate that the worker resamples and encodes.

    Where a packet of a live publisher has waited for `wait_s`, whole messages are dropped until the packets that wait have waited for less
    than half of it (None: never). A new epoch follows, and the packets in between count as missing, so that numbers go on with time.
    Where a step of the engine hangs and is given up, what was fed by then is lost, and a new epoch follows. However fast the machine is, at
    most `MAX_BACKLOG_S` of audio waits. With `silence_db` the packets below that level (dBFS), as
    `SilenceDetector` measures it, have only the fewest codebooks. It goes on from `saved`; `SnapshotError` says that it cannot.
    """

    def __init__(
        self,
        sink: IngestSink,
        worker: Worker,
        *,
        format: PcmFormat,
        rate: int,
        channels: int,
        n_q: int,
        packet_frames: int,
        start: Start,
        wait_s: float | None,
        silence_db: float | None = None,
        saved: PcmState | None = None,
    ) -> None:
        config = worker.engine.config
        self._sink = sink
        self._bytes_per_s = rate * channels * sample_width(format)
        self._config = config
        # An incomplete chunk is no backlog: nothing would come out if the publisher waited for it.
        self._held_s = config.chunk_length_s or 0.0
        self._wait_s = wait_s
        self._timeline = Timeline(config.packet_s(packet_frames), None if saved is None else saved.timeline)
        self._waits = WaitMeter(config.chunk_length_s or config.packet_s(packet_frames), self._timeline.backlog_s)
        self._dropping_s = 0.0
        self._lost_s = 0.0  # what the publisher says that it lost, as far as its numbers tell
        self._last_s = 0.0  # its last message
        self._epoch: int | None = None
        self._expected: int | None = None  # the timestamp that would have come next, where something was lost
        self._closed = False
        self._ending = False
        self._not_taken: list[Callable[[Exception], None]] = []  # who waits for it as a value
        if saved is not None:
            saved.row.check(worker.engine, n_q=n_q, packet_frames=packet_frames)
            saved.check()
            fed = saved.fed
            self._dropping_s, self._lost_s, self._last_s = fed.dropping_s, fed.lost_s, fed.last_s
            self._epoch, self._expected = fed.epoch, fed.expected

        def open_encoder(saved: PcmState | None = None) -> WorkerStream:
            quiet = QuietPackets(config, packet_frames, silence_db)
            frontend = PcmFrontend(format, rate, channels, quiet, config)
            if saved is not None:
                frontend.restore(saved.frontend)
            return worker.open_encoder(
                self._on_result,
                n_q=n_q,
                packet_frames=packet_frames,
                start=start,
                prepare=frontend.prepare,
                finish=frontend.pack,
                drain=frontend.drain,
                snapshot=frontend.snapshot,
                saved=None if saved is None else saved.row,
            )

        self._open_encoder = open_encoder
        self._encoder = open_encoder(saved)

    @property
    def backlog_s(self) -> float:
        return max(0.0, self._timeline.backlog_s - self._held_s)

    def waited_s(self, now: int) -> float:
        """How long the oldest packet that is whole and has not come out has waited, at `now` (us)."""
        return self._waits.waited_s(now)

    def feed(self, packet: Packet, now: int) -> None:
        duration_s = len(packet.payload) / self._bytes_per_s
        if self._wait_s is not None and self._must_drop(now, self._wait_s):
            self._dropping_s += duration_s
            self._sink.dropped(1, self._wait_s)
            return
        if self._epoch not in (None, packet.epoch) and self._expected is None:
            # The publisher's input was interrupted: the new epoch comes as long after the last one as the timestamps say.
            self._expected = self._timeline.next_timestamp
        self._epoch = packet.epoch
        if self._dropping_s:
            self._restart(self._dropping_s, "overload")
        elif self._expected is not None:
            late = (packet.timestamp - self._expected + TIMESTAMP_MODULUS // 2) % TIMESTAMP_MODULUS - TIMESTAMP_MODULUS // 2
            # Timestamps that stand still do not tell what was lost: then the numbers have to.
            self._restart(late / 1e6 if late > 0 else self._lost_s, "publisher")
        self._dropping_s, self._lost_s, self._expected, self._last_s = 0.0, 0.0, None, duration_s
        self._timeline.add(duration_s, packet.timestamp)
        if self._wait_s is not None:
            self._waits.feed(duration_s, now)
        self._encoder.feed(packet.payload)

    def gap(self, count: int, reason: str) -> None:  # noqa: ARG002
        # Messages may have any length: how long the gap is shows in the next timestamp, or else in their number.
        self._lost_s += count * self._last_s
        if self._expected is None:
            self._expected = self._timeline.next_timestamp

    def end(self) -> None:
        self._ending = True
        self._encoder.end()

    def close(self) -> None:
        self._closed = True
        self._encoder.close()
        self._take_no_snapshot(StreamCodecError("the stream was closed"))

    def snapshot(self, taken: Callable[[PcmState], None], failed: Callable[[Exception], None]) -> None:
        fed = PcmFed(self._timeline.fed_s, self._dropping_s, self._lost_s, self._last_s, self._epoch, self._expected)
        self._not_taken.append(failed)

        def take(result: Result) -> None:
            if failed not in self._not_taken:  # it was told already
                return
            self._not_taken.remove(failed)
            if result.error is not None:
                failed(result.error)
                return
            [(row, frontend)] = result.outputs
            # All that was fed before has come out, and nothing of what came later: so what is out now belongs to what was fed then.
            taken(PcmState(row, frontend, self._timeline.snapshot(fed.fed_s), fed))

        self._encoder.snapshot(take)

    def _take_no_snapshot(self, exc: Exception) -> None:
        waiting, self._not_taken = self._not_taken, []
        for failed in waiting:
            failed(exc)

    def _must_drop(self, now: int, wait_s: float) -> bool:
        max_wait_s = wait_s / 2 if self._dropping_s else wait_s
        return self.waited_s(now) > max_wait_s or self.backlog_s > MAX_BACKLOG_S

    def _restart(self, missing_s: float, reason: str) -> None:
        self._timeline.begin_run(missing_s, reason)
        if reason == "overload":
            # Bringing out the rest of a packet takes a step of its own: too much for a machine that is overloaded.
            self._encoder.cut()
        else:
            self._encoder.restart()

    def _on_result(self, result: Result) -> None:
        if self._closed:
            return
        try:
            if isinstance(result.error, EngineHungError):
                self._open_anew()
            elif result.error is not None:
                raise result.error
            else:
                self._pass_on(result)
        except Exception as exc:  # a stream that lost count must end: nobody else would end it
            self._take_no_snapshot(exc)
            self._sink.failed(exc)

    def _open_anew(self) -> None:
        """The engine did not come back with what was fed: that is lost, and what follows is another epoch."""
        self._take_no_snapshot(EngineHungError("a step of the engine did not come back"))
        self._waits.done(self._timeline.backlog_s)
        following = self._timeline.lose("internal")
        self._sink.discontinuity(self._timeline.missing_before(following.begins_s), following.reason)
        self._encoder = self._open_encoder()
        if self._ending:
            self._encoder.end()

    def _pass_on(self, result: Result) -> None:
        times = (round(result.due * 1e6), round(result.started * 1e6), round(result.done * 1e6))
        for payload, n_q, frames in result.outputs:
            duration_s = self._config.packet_s(frames)
            timestamp = self._timeline.take(duration_s)
            self._waits.done(duration_s)
            self._sink.emit(payload, n_q, frames, timestamp, times)
        if result.ended:
            self._end_run()

    def _end_run(self) -> None:
        over, following = self._timeline.end_run()
        self._waits.done(over.backlog_s)
        if following is not None:
            self._sink.discontinuity(self._timeline.missing_before(following.begins_s), following.reason)
            return
        if self._dropping_s or self._lost_s:
            reason = "overload" if self._dropping_s else "publisher"
            self._sink.gap(self._timeline.missing_before(over.ends_s + self._dropping_s + self._lost_s), reason)
        self._sink.finished()
