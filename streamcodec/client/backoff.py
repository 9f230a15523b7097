"""How long to wait before trying again: longer each time, never in step with everybody else, never for ever."""

from __future__ import annotations

import random
from collections.abc import Iterator

__all__ = ["backoff"]


def backoff(first_s: float = 0.25, max_s: float = 8.0, rng: random.Random | None = None) -> Iterator[float]:
    """Waits in seconds without end: each drawn evenly from half to all of a bound that doubles from `first_s` to `max_s`."""
    rng = rng or random.Random()
    bound = first_s
    while True:
        yield rng.uniform(bound / 2, bound)
        bound = min(max_s, 2 * bound)
