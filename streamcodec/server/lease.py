"""Who feeds a stream: one connection at a time, and after a lost connection whoever proves to be the same publisher."""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections.abc import Callable

__all__ = ["Failed", "PublisherLease"]

Failed = Callable[[Exception], None]


class PublisherLease:
    """The right to feed one stream.

    A publisher proves with `secret` that it is the same one when it connects again. `next_seq` and `epoch` are the publisher's own: what it
    is expected to send next.
    """

    def __init__(self, secret: str | None = None, next_seq: int = 0, epoch: int = 0) -> None:
        self.secret = secrets.token_urlsafe(18) if secret is None else secret
        self.next_seq = next_seq
        self.epoch = epoch
        self._holder: object | None = None
        self._failed: Failed = lambda _: None
        self._evict: Callable[[], None] = lambda: None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def holder(self) -> object | None:
        """Who feeds the stream now."""
        return self._holder

    @property
    def waiting(self) -> bool:
        """Whether the publisher's connection is lost and the stream waits for it to connect again."""
        return self._timer is not None

    def matches(self, secret: str) -> bool:
        """Whether `secret` is the publisher's; takes the same time whatever it is."""
        return hmac.compare_digest(secret.encode(), self.secret.encode())

    def take(self, holder: object, failed: Failed, evict: Callable[[], None]) -> None:
        """Give the lease to `holder`: `failed` is called when the stream breaks, `evict` when another holder takes over."""
        self._evict()
        self._holder, self._failed, self._evict = holder, failed, evict
        self.stop_waiting()

    def take_away(self) -> None:
        """Evict the holder, if there is one; nobody is waited for."""
        self._evict()
        self.give_back()
        self.stop_waiting()

    def held_by(self, holder: object) -> bool:
        """Whether nobody has taken over from `holder`."""
        return self._holder is holder

    def give_back(self) -> None:
        """The holder is gone."""
        self._holder, self._failed, self._evict = None, lambda _: None, lambda: None

    def wait(self, seconds: float, expired: Callable[[], None]) -> None:
        """Call `expired` unless somebody takes the lease within `seconds`."""
        self.stop_waiting()
        self._timer = asyncio.get_running_loop().call_later(seconds, expired)

    def stop_waiting(self) -> None:
        """Do not wait for the publisher any longer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def fail(self, exc: Exception) -> None:
        """Tell the holder, if there is one, why its stream cannot go on."""
        self._failed(exc)
