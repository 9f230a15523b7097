"""The latency ledger of a listener or a publisher: what each packet's way took, as percentiles of the last while and as JSON lines."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from streamcodec.audio import PlayoutStats
from streamcodec.output_file import Input, OutputFile

__all__ = ["Ledger", "PacketTimes"]

_WINDOW = 256  # packets: 20 s of the usual ones


@dataclass(frozen=True, slots=True)
class PacketTimes:
    """One packet at the listener, on `now_us()`: its last sample captured, received, decoded; and what was buffered ahead of it (s).

    `device_s` is the device's part of `buffered_s`.
    """

    seq: int
    captured: int
    received: int
    decoded: int
    buffered_s: float
    device_s: float = 0.0

    @property
    def total_ms(self) -> float:
        """From its last sample's capture to the device, as far as this program knows."""
        return (self.decoded - self.captured) / 1000 + 1000 * self.buffered_s


class Ledger:
    """Keeps the totals of the last packets; with a `path` it writes every packet there as a line of JSON. A context manager.

    A line has `seq` and `captured_us`, when the last sample was captured, on this machine's monotonic clock.

    A publisher's then has `sent_ms` from there until the packet went out, which is its total, and the last `round_trip_ms` to the server.

    A listener's has `arrival_ms` until the packet was here: capture, queue, encode and network in one, as a listener cannot tell them
    apart; `decode_ms`, with the packets in front of it that were not decoded yet; `buffered_ms` of playout and device in front of it, and
    `total_ms`, their sum; `device_ms`, the device's part of what is buffered, as it tells it; then the playout's `target_ms` and
    `margin_ms` and its `underruns` so far, null where no device plays.

    The file appears with its first line; until then, whatever stands at `path` is left alone. Raises `InputError` for a path that cannot
    be a file or is one of `inputs`, and `OSError` with the path where it cannot be written.
    """

    def __init__(self, path: Path | None = None, inputs: Iterable[Input] = ()) -> None:
        self._totals: deque[float] = deque(maxlen=_WINDOW)
        self._output = OutputFile(path, inputs) if path is not None else None

    def add(self, times: PacketTimes, playing: PlayoutStats | None = None) -> None:
        """Enter a packet that was received."""
        line = {
            "seq": times.seq,
            "captured_us": times.captured,
            "arrival_ms": (times.received - times.captured) / 1000,
            "decode_ms": (times.decoded - times.received) / 1000,
            "buffered_ms": round(1000 * times.buffered_s, 3),
            "total_ms": round(times.total_ms, 3),
            "device_ms": round(1000 * times.device_s, 3),
            "target_ms": round(1000 * playing.target_s, 3) if playing else None,
            "margin_ms": round(1000 * playing.margin_s, 3) if playing else None,
            "underruns": playing.underruns if playing else None,
        }
        self._enter(times.total_ms, line)

    def add_sent(self, seq: int, captured: int, sent: int, round_trip_ms: float | None) -> None:
        """Enter a packet that was sent: when its last sample was captured, and when it went (us)."""
        sent_ms = (sent - captured) / 1000
        self._enter(sent_ms, {"seq": seq, "captured_us": captured, "sent_ms": sent_ms, "round_trip_ms": round_trip_ms})

    def _enter(self, total_ms: float, line: dict[str, Any]) -> None:
        self._totals.append(total_ms)
        if self._output is not None:
            with self._output.named_errors():
                self._output.file.write(json.dumps(line).encode() + b"\n")
            self._output.put_in_place()

    def percentiles(self) -> tuple[float, float, float]:
        """The 50th, 95th and 99th of the last packets' totals, in milliseconds; zeros before the first."""
        p50, p95, p99 = np.percentile(list(self._totals) or [0.0], (50, 95, 99))
        return float(p50), float(p95), float(p99)

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        if self._output is not None:
            self._output.close()
