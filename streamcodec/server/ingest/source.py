"""Where a stream's packets come from, as the stream sees it: codes that are relayed, or PCM that the worker encodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from streamcodec.protocol import Packet

__all__ = ["MAX_BACKLOG_S", "IngestSink", "IngestSource"]


MAX_BACKLOG_S = 10.0
"""The most audio of one stream that may wait for the engine, however fast it is: this bounds the memory that it takes."""


class IngestSink(Protocol):
    """What a source tells its stream."""

    def emit(self, payload: bytes, n_q: int, frames: int, timestamp: int, times: tuple[int, int, int]) -> None:
        """A packet of codes of `n_q` codebooks; `timestamp` is that of its first sample.

        `times` are when it was complete, and when its encoding began and was done (us).
        """

    def discontinuity(self, missing: int, reason: str) -> None:
        """A new epoch begins after `missing` packets that will never come."""

    def gap(self, missing: int, reason: str) -> None:
        """`missing` packets will never come; the epoch goes on."""

    def dropped(self, count: int, wait_s: float) -> None:
        """`count` of the publisher's packets were dropped, as others have waited for `wait_s`."""

    def finished(self) -> None:
        """All that was fed has come out."""

    def failed(self, exc: Exception) -> None:
        """What was fed cannot be used, or the engine broke."""


class IngestSource(Protocol):
    """A publisher's packets on their way into a stream."""

    @property
    def backlog_s(self) -> float:
        """Seconds of audio that were fed and have not come out."""

    def waited_s(self, now: int) -> float:
        """How long the oldest packet that is whole and has not come out has waited, at `now` (us); 0 where no bound is set on that."""

    def feed(self, packet: Packet, now: int) -> None:
        """Take the publisher's next packet, at `now` on the server's clock (us)."""

    def gap(self, count: int, reason: str) -> None:
        """The publisher lost `count` of its packets."""

    def end(self) -> None:
        """Nothing more comes: bring out the rest, then call `finished`."""

    def close(self) -> None:
        """Forget all that is on its way."""

    def snapshot(self, taken: Callable[[Any], None], failed: Callable[[Exception], None]) -> None:
        """Call `taken` with the source as a value as soon as all that was fed by now has come out, as far as it makes whole packets.

        The sink has what came out by then, and nothing of what is fed later. One of the two is called, if only when the source is closed.
        """
