"""Whose a name is: the decisions as functions of what the store has, and the few calls of a store that carry them out.

The store decides every race: what was decided on an entry is written only if the entry is still the same, and is decided anew otherwise.
So all nodes see one holder of a name, at any time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from streamcodec.server.cluster.bus import BusError, Entry, KeyChangedError, Store
from streamcodec.server.cluster.records import Claim, RecordError
from streamcodec.server.cluster.subjects import escaped

__all__ = ["ClaimOutcome", "ClaimResult", "ClaimStep", "Claims", "Purpose", "decide"]

_MAX_ROUNDS = 16

log = logging.getLogger("streamcodec.server")


class Purpose(StrEnum):
    """Why a node wants a name."""

    BEGIN = "begin"
    """A publisher begins a stream."""
    RESUME = "resume"
    """A publisher has proven, by its secret, that the stream is its own, and goes on here."""
    RENEW = "renew"
    """A stream is here already; its claim may have been lost while the bus could not be reached."""


class ClaimStep(StrEnum):
    """What to do with what the store has."""

    CREATE = "create"
    REPLACE = "replace"
    KEEP = "keep"
    YIELD = "yield"


class ClaimOutcome(StrEnum):
    """How an attempt to have a name ended."""

    CLAIMED = "claimed"
    """The name was free, and is this node's."""
    TAKEN_OVER = "taken_over"
    """Another node's claim is this node's now: that node is dead, or its publisher goes on here."""
    KEPT = "kept"
    """The name was this node's and still is."""
    TAKEN = "taken"
    """Another publisher has the name, at a node that lives."""
    MOVED = "moved"
    """The same publisher goes on at another node."""

    @property
    def ours(self) -> bool:
        """Whether the name is this node's."""
        return self in (ClaimOutcome.CLAIMED, ClaimOutcome.TAKEN_OVER, ClaimOutcome.KEPT)


@dataclass(frozen=True)
class ClaimResult:
    """How an attempt ended. `claim` is what holds now: the own claim, or the other node's."""

    outcome: ClaimOutcome
    claim: Claim


def decide(found: Claim | None, wanted: Claim, purpose: Purpose, *, holder_lives: bool) -> ClaimStep:
    """What to do to have `wanted` where the store has `found`, whose node lives or does not."""
    if found is None:
        return ClaimStep.CREATE
    if found.node == wanted.node:
        return ClaimStep.KEEP if found == wanted else ClaimStep.REPLACE  # a node decides alone which of its streams has a name
    if purpose is Purpose.RESUME and found.secret_hash == wanted.secret_hash:
        return ClaimStep.REPLACE
    return ClaimStep.YIELD if holder_lives else ClaimStep.REPLACE


class Claims:
    """The claims of all nodes. `names` has them, and a claim is good while `nodes` has its node. All calls raise `BusError`."""

    def __init__(self, names: Store, nodes: Store) -> None:
        self._names = names
        self._nodes = nodes

    async def take(self, wanted: Claim, purpose: Purpose) -> ClaimResult:
        """Try to have a name. After a `BusError` nobody knows whether it worked: try again with `Purpose.RENEW`."""
        key, value = escaped(wanted.name), wanted.pack()
        for _ in range(_MAX_ROUNDS):
            entry = await self._names.get(key)
            found = None if entry is None else _read(entry, wanted.name)
            lives = found is not None and found.node != wanted.node and await self.lives(found.node)
            step = decide(found, wanted, purpose, holder_lives=lives)
            if found is not None and step is ClaimStep.YIELD:
                return ClaimResult(_yielded(found, wanted), found)
            try:
                if entry is None:
                    await self._names.create(key, value)
                else:
                    # Also where nothing changes: a node that has seen this one dead, a moment ago, is about to take the name.
                    await self._names.update(key, value, entry.revision)
            except KeyChangedError:
                continue
            return ClaimResult(_had(step), wanted)
        raise BusError(f"the claim of a name has changed {_MAX_ROUNDS} times meanwhile")

    async def find(self, name: str) -> Claim | None:
        """The claim of a name, if its node lives."""
        entry = await self._names.get(escaped(name))
        found = None if entry is None else _read(entry, name)
        return found if found is not None and await self.lives(found.node) else None

    async def find_any(self, name: str) -> Claim | None:
        """The claim of a name, whether its node lives or not: what a publisher that resumes asks for."""
        entry = await self._names.get(escaped(name))
        return None if entry is None else _read(entry, name)

    async def release(self, claim: Claim) -> bool:
        """Give a name back at the end of its stream; returns whether it was still this claim's."""
        return await self._free(claim.name, lambda found: found == claim)

    async def free(self, name: str, publisher_secret: str) -> bool:
        """Free a name whose publisher proves that it is its own and does not go on; returns whether it was."""
        return await self._free(name, lambda found: found.is_publishers(publisher_secret))

    async def lives(self, node: str) -> bool:
        """Whether a node's lease is not over, as the store knows it."""
        return await self._nodes.get(node) is not None

    async def _free(self, name: str, may: Callable[[Claim], bool]) -> bool:
        for _ in range(_MAX_ROUNDS):
            entry = await self._names.get(escaped(name))
            found = None if entry is None else _read(entry, name)
            if entry is None or found is None or not may(found):
                return False
            try:
                await self._names.delete(escaped(name), entry.revision)
            except KeyChangedError:
                continue
            return True
        raise BusError(f"the claim of a name has changed {_MAX_ROUNDS} times meanwhile")


def _had(step: ClaimStep) -> ClaimOutcome:
    return {ClaimStep.CREATE: ClaimOutcome.CLAIMED, ClaimStep.KEEP: ClaimOutcome.KEPT}.get(step, ClaimOutcome.TAKEN_OVER)


def _yielded(found: Claim, wanted: Claim) -> ClaimOutcome:
    return ClaimOutcome.MOVED if found.secret_hash == wanted.secret_hash else ClaimOutcome.TAKEN


def _read(entry: Entry, name: str) -> Claim | None:
    """The claim in an entry; None for what is none, which any node may replace."""
    try:
        claim = Claim.parse(entry.value)
        if claim.name != name:
            raise RecordError("the claim is another name's")
    except RecordError as exc:
        log.warning("the store of names has something else than a claim: %s", exc)
        return None
    return claim
