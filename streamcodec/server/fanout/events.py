"""What a fan-out reports to its stream, which it does not know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["StreamEvents"]


@dataclass(frozen=True)
class StreamEvents:
    """Functions that are called as it happens.

    `progressed()`: something waits no longer. `waited(now, wait_s)`: a decoded packet came out at `now` (us) after a wait for the machine.
    `undecoded(count)`: so many packets were not decoded. `decoder_closed()`: nobody listens to PCM any longer. `broke(exc)`: the decoder
    cannot go on.
    """

    progressed: Callable[[], None]
    waited: Callable[[int, float], None]
    undecoded: Callable[[int], None]
    decoder_closed: Callable[[], None]
    broke: Callable[[Exception], None]
