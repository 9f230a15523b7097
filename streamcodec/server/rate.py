"""How often a peer may do what costs this machine something: so much a second, and a little more at once. No clock of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from annotated_types import Ge, Gt

__all__ = ["Rate", "TokenBucket"]


@dataclass(frozen=True)
class Rate:
    """At most `per_s` a second in the long run, and `burst` at once."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "allow_inf_nan": False}

    per_s: Annotated[float, Gt(0)]
    burst: Annotated[float, Ge(1)]


class TokenBucket:
    """Holds `burst` tokens at most and gains `per_s` a second; `clock` tells seconds."""

    def __init__(self, rate: Rate, clock: Callable[[], float]) -> None:
        self.rate = rate
        self._clock = clock
        self._left = rate.burst
        self._filled = clock()

    def take(self, count: float = 1.0) -> float:
        """Take `count` tokens, also those that are not there yet; returns how long to wait (s) until they are: 0 where they are."""
        self._fill()
        self._left -= count
        return max(0.0, -self._left / self.rate.per_s)

    def takes(self, count: float = 1.0) -> bool:
        """Take `count` tokens where they are there; returns whether they were."""
        self._fill()
        if self._left < count:
            return False
        self._left -= count
        return True

    @property
    def full(self) -> bool:
        """Whether it holds all that it can: it need not be remembered then."""
        self._fill()
        return self._left >= self.rate.burst

    def wait_s(self, count: float = 1.0) -> float:
        """How long (s) until `count` tokens are there."""
        self._fill()
        return max(0.0, (count - self._left) / self.rate.per_s)

    def _fill(self) -> None:
        now = self._clock()
        self._left = min(self.rate.burst, self._left + (now - self._filled) * self.rate.per_s)
        self._filled = now
