"""What feeds a fan-out, as those see it who care for its listeners: a stream here, or a link to the node that has the stream."""

from __future__ import annotations

from typing import Protocol

from streamcodec.server.capacity.load_model import Kind
from streamcodec.server.fanout.fan_out import FanOut
from streamcodec.server.info import StreamInfo

__all__ = ["Feeder"]


class Feeder(Protocol):
    """A stream that can be heard at this node."""

    @property
    def info(self) -> StreamInfo:
        """What does not change while the stream lives."""

    @property
    def fan_out(self) -> FanOut:
        """Those who listen to it here."""

    @property
    def decoding(self) -> bool:
        """Whether this node decodes it for listeners of PCM."""

    @property
    def needs(self) -> list[tuple[Kind, int]]:
        """The steps of the engine that each of its packets takes here, and of how many frames."""

    @property
    def ending(self) -> bool:
        """Whether nothing more is accepted for it; what was accepted may still be on its way."""
