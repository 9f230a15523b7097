"""The names of this node's streams: each is claimed while its stream is here, also where the bus was not there when it began."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from streamcodec.server.cluster.bus import Bus, BusError
from streamcodec.server.cluster.claims import Claims, Purpose
from streamcodec.server.cluster.records import Claim, secret_hash
from streamcodec.server.cluster.subjects import Subjects
from streamcodec.server.stream import Stream

__all__ = ["NameTakenError", "Names"]

log = logging.getLogger("streamcodec.server")


class NameTakenError(Exception):
    """Another node has the name; `claim` is its."""

    def __init__(self, claim: Claim) -> None:
        super().__init__(claim.name)
        self.claim = claim


@dataclass
class _Held:
    claim: Claim
    known: bool = False  # whether the other nodes know of it


class Names:
    """Claims names for the streams of `node`, whose clients reach it at `address`."""

    def __init__(self, bus: Bus, subjects: Subjects, claims: Claims, node: str, address: Callable[[], str]) -> None:
        self.claims = claims
        self._bus = bus
        self._subjects = subjects
        self._node = node
        self._address = address
        self._held: dict[str, _Held] = {}
        self._to_free: dict[str, Claim] = {}  # those whose streams were over while the bus was gone
        self._freeing: set[asyncio.Task[None]] = set()

    @property
    def num_unclaimed(self) -> int:
        """Streams of which the other nodes do not know."""
        return sum(not held.known for held in self._held.values())

    @property
    def settled(self) -> bool:
        """Whether the store has all that this node wants it to have."""
        return not self.num_unclaimed and not self._to_free

    async def claim(self, stream: Stream, purpose: Purpose) -> None:
        """Claim the name of a stream that begins here, or moves here. Raises `NameTakenError`; call `free` where this is cancelled.

        Where the bus is gone the name is claimed when it is back.
        """
        name = stream.info.name
        held = self._held[name] = _Held(self._claim(stream))
        self._to_free.pop(name, None)
        try:
            await self._take(held, purpose)
        except BusError as exc:
            log.warning("%s begins without a claim, as other nodes cannot be reached: %s", name, exc)
        except NameTakenError:
            if self._held.get(name) is held:
                del self._held[name]
            raise

    async def renew(self, stream: Stream) -> None:
        """Make sure after the bus was gone that the name is still this node's. Raises `NameTakenError`, and `BusError`."""
        if (held := self._held.get(stream.info.name)) is not None:
            await self._take(held, Purpose.RENEW)

    def free(self, name: str, session: str) -> None:
        """The stream is over: others may have its name."""
        held = self._held.get(name)
        if held is None or held.claim.session != session:
            return
        del self._held[name]
        self._to_free[name] = held.claim
        task = asyncio.get_running_loop().create_task(self._free(held.claim))
        self._freeing.add(task)
        task.add_done_callback(self._freeing.discard)

    def give_up(self, name: str, session: str) -> None:
        """The stream goes on elsewhere: its claim is another node's from now on."""
        if (held := self._held.get(name)) is not None and held.claim.session == session:
            del self._held[name]

    async def free_what_is_over(self) -> None:
        """Free the names of streams that were over while the bus was gone. Raises `BusError`."""
        for claim in list(self._to_free.values()):
            await self._release(claim)

    async def elsewhere(self, name: str) -> str | None:
        """The address of another node, that lives, whose stream has the name; None where there is none, or the store is not reached."""
        try:
            claim = await self.claims.find(name)
        except BusError as exc:
            log.debug("%s: %s", name, exc)
            return None
        return None if claim is None or claim.node == self._node or claim.address == self._address() else claim.address

    async def freed(self) -> None:
        """Wait until names are free that were given back."""
        if self._freeing:
            await asyncio.wait(self._freeing, timeout=1.0)

    async def close(self) -> None:
        """Free what was given back, for a moment."""
        await self.freed()
        for task in self._freeing:
            task.cancel()

    # -------------------------------------------------------------------------------------------------------------------------------

    def _claim(self, stream: Stream) -> Claim:
        return Claim(
            name=stream.info.name,
            node=self._node,
            address=self._address(),
            session=stream.fan_out.session,
            secret_hash=secret_hash(stream.lease.secret),
            since=stream.since,
        )

    async def _take(self, held: _Held, purpose: Purpose) -> None:
        held.known = False
        result = await self.claims.take(held.claim, purpose)
        if not result.outcome.ours:
            raise NameTakenError(result.claim)
        held.known = True
        # To nodes where somebody waits for the name.
        self._bus.publish(self._subjects.began(held.claim.name), held.claim.pack())

    async def _free(self, claim: Claim) -> None:
        try:
            await self._release(claim)
        except BusError as exc:
            log.info("the name %s is freed when the bus is back: %s", claim.name, exc)

    async def _release(self, claim: Claim) -> None:
        await self.claims.release(claim)
        if self._to_free.get(claim.name) is claim:
            del self._to_free[claim.name]
