"""What happens on a server that others may want to hear of: streams that begin, end and lose packets, and clients that are refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["EventKind", "Observer", "ServerEvent"]

EventKind = Literal["stream.started", "stream.ended", "stream.gap", "client.refused"]


@dataclass(frozen=True)
class ServerEvent:
    """One event. Those of a kind with the same `about` can become one, in which the numbers in `data` that are `counted` are added up."""

    kind: EventKind
    data: dict[str, Any]
    about: str | None = None
    counted: tuple[str, ...] = field(default=("count",))

    def and_also(self, later: ServerEvent) -> ServerEvent:
        """Both as one."""
        added = {name: self.data[name] + later.data[name] for name in self.counted}
        return ServerEvent(self.kind, {**later.data, **added}, self.about, self.counted)


Observer = Callable[[ServerEvent], None]
"""Hears of each event at once, on the loop; it waits for nothing and fails with nothing."""
