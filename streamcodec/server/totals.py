"""What is counted of one stream: for its publisher, for the server's metrics, and for admission, which asks how long packets wait."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from streamcodec.protocol import Packet, now_us, unwrap_timestamp
from streamcodec.server.info import StreamInfo
from streamcodec.server.metrics import Metrics, PacketTrace

__all__ = ["RecentPackets", "StreamTotals", "Waited"]

Waited = Callable[[float, float], None]
"""Takes a time (s) and how long a packet that came out then had waited (s)."""


class RecentPackets:
    """The last 128 packets of one stream: how much they are, and how long after their audio they came out."""

    def __init__(self) -> None:
        self.at: int | None = None  # when the last one came out (us)
        self._noted: deque[tuple[int, float, float]] = deque(maxlen=128)

    def note(self, now: int, payload_bytes: int, duration_s: float, late_ms: float) -> None:
        """A packet came out."""
        self.at = now
        self._noted.append((payload_bytes, duration_s, late_ms))

    @property
    def kbps(self) -> float | None:
        """Their payloads, per second of audio; None without packets."""
        seconds = sum(duration_s for _, duration_s, _ in self._noted)
        return round(8 * sum(size for size, *_ in self._noted) / seconds / 1000, 2) if seconds else None

    @property
    def late_ms(self) -> dict[str, float] | None:
        """How long they waited from the message that completed them until they went out: median and 95th percentile."""
        waits = sorted(late_ms for *_, late_ms in self._noted)
        if not waits:
            return None
        return {"p50": round(waits[len(waits) // 2], 1), "p95": round(waits[min(len(waits) - 1, len(waits) * 95 // 100)], 1)}


class StreamTotals:
    """Counts the packets of one stream, and its part of `metrics`."""

    def __init__(
        self, info: StreamInfo, metrics: Metrics, waited: Waited, *, received: int = 0, emitted: int = 0, dropped: int = 0
    ) -> None:
        self.received = received
        self.emitted = emitted
        self.dropped = dropped
        self._info = info
        self._metrics = metrics
        self._waited = waited
        self._last_received = 0
        self.recent = RecentPackets()

    def receive(self) -> None:
        """A packet came from the publisher."""
        self.received += 1
        self._metrics.packets_received += 1

    def refuse(self) -> None:
        """A packet came when the stream was ending."""
        self.dropped += 1
        self._metrics.packets_dropped_closing += 1

    def drop(self, count: int, wait_s: float) -> None:
        """So many packets were dropped as the encoder is `wait_s` or more behind."""
        self.dropped += count
        self._metrics.packets_dropped_overload += count
        self.wait(now_us(), wait_s)

    def drop_undecoded(self, count: int) -> None:
        """So many packets were not decoded as the decoder is behind."""
        self._metrics.packets_dropped_decoder += count

    def emit(self, packet: Packet, duration_s: float, times: tuple[int, int, int]) -> None:
        """A packet went out; `times` are when it was complete, and when its encoding began and was done (us)."""
        self.emitted += 1
        self._metrics.packets_emitted += 1
        self._metrics.packets_quiet += packet.n_q < self._info.n_q
        received, started, done = times
        now = now_us()
        if self._info.format != "codes" and received != self._last_received:
            # Of several packets in one message the second waits for the first, however fast the machine is.
            self._last_received = received
            self.wait(now, (now - received) / 1e6)
        captured = unwrap_timestamp(packet.timestamp, now) + round(duration_s * 1e6)
        self._metrics.waited((now - received) / 1e6)
        self.recent.note(now, len(packet.payload), duration_s, (now - received) / 1000)
        self._metrics.came("arrival", (received - captured) / 1e6)
        if self._info.format != "codes":
            self._metrics.came("queue", (started - received) / 1e6)
            self._metrics.came("engine", (done - started) / 1e6)
        self._metrics.came("delivery", (now - done) / 1e6)
        if (trace := self._metrics.on_trace) is not None:
            trace(PacketTrace(self._info.name, packet.seq, captured, received, started, done, now))

    def leave_out(self, reason: str) -> None:
        """A gap goes to the listeners."""
        self._metrics.gap(reason)

    def begin_epoch(self) -> None:
        """The encoder started afresh."""
        self._metrics.epochs += 1

    def wait(self, now: int, wait_s: float) -> None:
        """A packet that came out at `now` (us) waited for the machine. Those of a fast publisher queue up, so they say nothing."""
        if self._info.live:
            self._waited(now / 1e6, wait_s)
