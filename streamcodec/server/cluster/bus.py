"""What nodes need of a message bus: messages that may get lost, questions with answers, and keys that one node at a time can have.

Everything runs on the loop's thread. A bus that has lost its connection goes on trying; meanwhile messages are lost, and questions and keys
raise `BusError`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from streamcodec.errors import StreamCodecError

__all__ = ["Answering", "Bus", "BusError", "Entry", "KeyChangedError", "NobodyAnswersError", "Store", "Subscription", "Taking"]

Taking = Callable[[bytes], None]
"""Takes a message; it must not raise and must not wait."""
Answering = Callable[[bytes], Awaitable[bytes]]
"""Answers a question."""


class BusError(StreamCodecError):
    """The bus cannot be reached, or nobody has answered in time."""


class NobodyAnswersError(BusError):
    """No node answers that subject: the one that did is gone, or the bus has lost it."""


class KeyChangedError(StreamCodecError):
    """A key is not what it was expected to be: another node was faster."""


@dataclass(frozen=True)
class Entry:
    """A key's value, and its revision, which any change makes larger."""

    value: bytes
    revision: int


class Subscription(Protocol):
    """Messages of one subject that are taken until `close`."""

    @property
    def dropped(self) -> int:
        """Messages that came and were dropped, as too many waited."""

    def close(self) -> None:
        """Take no more."""


class Store(Protocol):
    """Keys with revisions, for all nodes the same. One that expires is gone `ttl_s` after its last change.

    Raises `BusError` where it cannot be reached.
    """

    async def get(self, key: str) -> Entry | None:
        """What the key has now."""

    async def create(self, key: str, value: bytes) -> int:
        """Give the key its first value; returns the revision. Raises `KeyChangedError` where it has one."""

    async def update(self, key: str, value: bytes, revision: int) -> int:
        """Change the key's value if `revision` is still its newest; returns the new one. Raises `KeyChangedError`."""

    async def put(self, key: str, value: bytes) -> int:
        """Give the key a value, whatever it has; returns the revision."""

    async def delete(self, key: str, revision: int | None = None) -> None:
        """Take the key away, if `revision` is still its newest or None. Raises `KeyChangedError`."""

    def watch(self, changed: Callable[[str, Entry | None], None]) -> Subscription:
        """Call `changed` with each key that there is, and with each change from then on; None: it is gone (also where it has expired)."""


class Bus(Protocol):
    """One node's connection to all others."""

    @property
    def connected(self) -> bool:
        """Whether messages go out now."""

    def on_connected(self, call: Callable[[bool], None]) -> None:
        """Have `call` called with False when the connection is lost, and with True when it is there again."""

    def publish(self, subject: str, data: bytes) -> None:
        """Send a message to all nodes that subscribe to the subject; it is lost where there is no connection, and never waits."""

    def subscribe(self, subject: str, take: Taking, *, max_waiting: int = 1000) -> Subscription:
        """Take a subject's messages in the order in which one node has sent them. Of more than `max_waiting` the newest are dropped."""

    async def flush(self) -> None:
        """Wait until the bus knows of all subscriptions so far. Raises `BusError`."""

    def answer(self, subject: str, answering: Answering) -> Subscription:
        """Answer the questions to a subject. An exception in `answering` is logged, and the asker gets no answer."""

    async def ask(self, subject: str, data: bytes, timeout_s: float) -> bytes:
        """The answer of the node that answers a subject. Raises `BusError` where nobody answers in time, and `NobodyAnswersError` at once
        where nobody could."""

    def store(self, name: str, *, ttl_s: float | None = None) -> Store:
        """The keys of one name; `ttl_s` is the same at all nodes."""

    async def open(self) -> None:
        """Connect. Raises `BusError`."""

    async def close(self) -> None:
        """Leave; what was published before is sent."""
