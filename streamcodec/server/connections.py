"""All connections of a server, and the memory of those that have ended.

A connection, its socket and its stream refer to one another in circles, some 100 KB for a publisher and its listener, so Python's garbage
collector has to find them. In a program that has called `freeze_gc` a full collection is rare: there may be an hour of streams between two.
Here one comes once as many connections have ended as there are, so what is left behind takes about as much as what is in use at most.
"""

from __future__ import annotations

import gc

from streamcodec.server.connection import ClientHandler

__all__ = ["Connections"]

_FEWEST = 50


class Connections(set[ClientHandler]):
    """The connections that are open."""

    def __init__(self) -> None:
        super().__init__()
        self._ended = 0

    def discard(self, connection: object) -> None:
        """One has ended."""
        super().discard(connection)
        self._ended += 1
        if self._ended >= max(_FEWEST, len(self)) and gc.get_freeze_count():
            self._ended = 0
            gc.collect()
