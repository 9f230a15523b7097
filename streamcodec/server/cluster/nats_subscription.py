"""A subscription that lives longer than a connection: it is made anew on each."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

__all__ = ["NatsSubscription"]

_MAX_WAITING_BYTES = 8 << 20


class _Owner(Protocol):
    """What a subscription needs of `NatsBus`."""

    def begun(self, subscription: NatsSubscription) -> None: ...

    def forget(self, subscription: NatsSubscription) -> None: ...


class NatsSubscription:
    """`taken` gets each message. `theirs` is nats-py's subscription on the present connection, if there is one."""

    def __init__(self, owner: _Owner, subject: str, taken: Callable[[Msg], Coroutine[Any, Any, None]], max_waiting: int) -> None:
        self.dropped = 0
        self.closed = False
        self.theirs: Subscription | None = None
        self._owner = owner
        self._subject = subject
        self._taken = taken
        self._max_waiting = max_waiting

    async def begin(self, client: Client) -> None:
        """Subscribe on a connection."""
        if not self.closed:
            most = self._max_waiting
            self.theirs = await client.subscribe(
                self._subject, cb=self._taken, pending_msgs_limit=most, pending_bytes_limit=_MAX_WAITING_BYTES
            )
            self._owner.begun(self)

    def close(self) -> None:
        """Take no more."""
        if not self.closed:
            self.closed = True
            self._owner.forget(self)
