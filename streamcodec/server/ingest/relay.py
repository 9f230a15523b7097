"""Codes that the publisher encoded itself: they pass as they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from streamcodec.config import CodecConfig
from streamcodec.protocol import Packet, PayloadLayout
from streamcodec.server.ingest.source import IngestSink

__all__ = ["CodesSource", "CodesState"]


@dataclass(frozen=True)
class CodesState:
    """A source of codes as a value: the publisher's own epoch."""

    epoch: int


class CodesSource:
    """Relays codes. The session has checked their size, and each value of a code's bits names an entry of the codebook."""

    backlog_s = 0.0

    def __init__(self, sink: IngestSink, config: CodecConfig, saved: CodesState | None = None) -> None:
        self._sink = sink
        self._layout = PayloadLayout.of(config)
        self._epoch = 0 if saved is None else saved.epoch

    def feed(self, packet: Packet, now: int) -> None:
        if packet.epoch != self._epoch:
            self._epoch = packet.epoch
            self._sink.discontinuity(0, "publisher")
        frames = self._layout.frames(packet.payload, packet.n_q)
        self._sink.emit(packet.payload, packet.n_q, frames, packet.timestamp, (now, now, now))

    def waited_s(self, now: int) -> float:  # noqa: ARG002
        return 0.0

    def gap(self, count: int, reason: str) -> None:
        self._sink.gap(count, reason or "publisher")

    def end(self) -> None:
        self._sink.finished()

    def close(self) -> None:
        pass

    def snapshot(self, taken: Callable[[CodesState], None], failed: Callable[[Exception], None]) -> None:  # noqa: ARG002
        taken(CodesState(self._epoch))
