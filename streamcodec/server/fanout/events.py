"""What a fan-out reports to its stream, which it does not know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["UNHEARD", "StreamEvents"]


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


UNHEARD = StreamEvents(
    progressed=lambda: None,
    waited=lambda now, wait_s: None,  # noqa: ARG005
    undecoded=lambda count: None,  # noqa: ARG005
    decoder_closed=lambda: None,
    broke=lambda exc: None,  # noqa: ARG005
)
"""For a fan-out that nothing feeds now."""
