"""What the server counts and times; it prints nothing and decides nothing."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, fields

__all__ = ["Metrics", "PacketTrace"]


@dataclass(frozen=True, slots=True)
class PacketTrace:
    """One packet's times inside the server, all on its clock in microseconds.

    `captured` is when its last sample was captured, `received` when the message that completed it arrived, `started` and `done` bound the
    encoder's step, `emitted` is when it was queued for the listeners. For relayed codes the middle ones are equal.
    """

    stream: str
    seq: int
    captured: int
    received: int
    started: int
    done: int
    emitted: int


@dataclass
class Metrics:
    """Counters since the start, a window of encoder waits, and a hook that sees every packet.

    `packets_quiet` are those of `packets_emitted` that have fewer codebooks than their stream, `packets_thinned` what was not sent to a
    listener because of silence.
    """

    publishers_accepted: int = 0
    listeners_accepted: int = 0
    publishers_resumed: int = 0
    listeners_resumed: int = 0
    refused: int = 0
    refused_for_capacity: int = 0
    failed: int = 0
    packets_received: int = 0
    packets_emitted: int = 0
    packets_quiet: int = 0
    packets_sent: int = 0
    packets_thinned: int = 0
    packets_dropped_overload: int = 0
    packets_dropped_decoder: int = 0
    packets_dropped_listener: int = 0
    bandwidth_steps_down: int = 0
    epochs: int = 0
    on_trace: Callable[[PacketTrace], None] | None = None
    _waits_us: deque[int] = field(default_factory=lambda: deque(maxlen=2048))

    def trace(self, packet: PacketTrace) -> None:
        """Note a packet's way through the server."""
        self._waits_us.append(packet.emitted - packet.received)
        if self.on_trace is not None:
            self.on_trace(packet)

    def render(self, gauges: dict[str, float]) -> str:
        """All figures in the text format that Prometheus reads."""
        waits = sorted(self._waits_us)
        values: dict[str, float] = {f.name + "_total": getattr(self, f.name) for f in fields(self) if f.type == "int"}
        for share in (0.5, 0.95, 0.99):
            if waits:
                values[f'encode_wait_ms{{quantile="{share}"}}'] = waits[min(len(waits) - 1, int(share * len(waits)))] / 1000
        # Every digit: a counter that is rounded stands still for readers.
        return "".join(f"streamcodec_{name} {value}\n" for name, value in {**values, **gauges}.items())
