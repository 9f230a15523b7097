"""A stream on its way to its listeners and into its recording."""

from __future__ import annotations

import logging
from collections.abc import Callable

from streamcodec.config import CodecConfig
from streamcodec.protocol import Gap, Packet, StreamEnd
from streamcodec.recording import RecordedEvent
from streamcodec.server.fanout.fan_out import FanOut
from streamcodec.server.recording.backlog import Backlog

__all__ = ["RecordedFanOut"]

log = logging.getLogger("streamcodec.server")


class RecordedFanOut:
    """A `FanOutEntry` whose stream is recorded as well: all of its packets, with all their codebooks, the quiet ones too.

    Whatever goes wrong with the recording, the listeners get the stream.
    """

    def __init__(self, name: str, fan_out: FanOut, backlog: Backlog, config: CodecConfig) -> None:
        self._name = name
        self._fan_out = fan_out
        self._backlog = backlog
        self._config = config
        self._begun = False
        self._told = False

    @property
    def recorded(self) -> bool:
        return self._begun and not self._backlog.closed

    def packet(self, packet: Packet, frames: int) -> None:
        self._fan_out.packet(packet, frames)
        self._put(packet, self._config.packet_s(frames))

    def gap(self, gap: Gap) -> None:
        self._fan_out.gap(gap)
        self._put(gap)

    def epoch(self, reason: str) -> None:
        self._fan_out.epoch(reason)
        if self._begun:
            self._put(self._fan_out.beginning(reason))

    def expect_burst(self) -> None:
        self._fan_out.expect_burst()

    def moved(self) -> None:
        if self._begun:
            self._put(StreamEnd(next_seq=self._fan_out.numbering.next_seq, reason="the stream went on at another server"))
        else:
            self._backlog.close()
        self._fan_out.moved()

    def end(self, message: StreamEnd, finished: Callable[[], None]) -> None:
        if self._begun:
            self._put(message)
        else:  # nothing came of it
            self._backlog.close()
        self._fan_out.end(message, finished)

    def _put(self, event: RecordedEvent, duration_s: float = 0.0) -> None:
        backlog = self._backlog
        try:
            if not self._begun:
                self._begun = True
                backlog.put(self._fan_out.beginning("published"))
            backlog.put(event, duration_s)
        except Exception:
            log.exception("%s: its recording ends", self._name)
            backlog.close()
        if backlog.dropping and not self._told:
            self._told = True
            log.warning("%s: the disk is too slow: packets are missing in its recording", self._name)
