"""Where a stream's packets enter its fan-out, whoever brings them: the stream itself, or a link from where the stream is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from streamcodec.protocol import Gap, Packet, StreamEnd

__all__ = ["FanOutEntry"]


class FanOutEntry(Protocol):
    """Takes one stream in order: each number comes once, in a packet or in a gap, as the stream's `Numbering` counts them.

    Everything that listeners get follows from these calls, so whoever can make them can have listeners of his own.
    """

    @property
    def recorded(self) -> bool:
        """Whether the stream is recorded now."""

    def packet(self, packet: Packet, frames: int) -> None:
        """The next packet, of codes, with so many frames."""

    def gap(self, gap: Gap) -> None:
        """The next packets will never come."""

    def epoch(self, reason: str) -> None:
        """The encoder has started afresh before the next packet."""

    def expect_burst(self) -> None:
        """What comes next was held up on its way here: it is no lag of the listeners'."""

    def moved(self) -> None:
        """Nothing more comes by this way: the stream goes on at another server. The fan-out and its listeners stay."""

    def end(self, message: StreamEnd, finished: Callable[[], None]) -> None:
        """The stream is over; calls `finished` when all of it was handed to the listeners' queues."""
