"""The names of this node's streams, in the store that all nodes have: one node at a time has a name, and the store decides which."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from streamcodec.server.cluster.bus import Bus, BusError, KeyChangedError
from streamcodec.server.cluster.records import Claim, RecordError, secret_hash
from streamcodec.server.cluster.subjects import Subjects, escaped
from streamcodec.server.stream import Stream

__all__ = ["NAMES", "NameTakenError", "Names"]

NAMES = "names"
"""The store of claims."""
_ATTEMPTS = 5

log = logging.getLogger("streamcodec.server")


class NameTakenError(Exception):
    """Another node that lives has the name; `claim` is its."""

    def __init__(self, claim: Claim) -> None:
        super().__init__(claim.name)
        self.claim = claim


@dataclass
class _Held:
    claim: Claim
    revision: int | None = None  # None: the bus has not been there since the stream began


class Names:
    """Claims names for the streams of `node`, whose clients reach it at `address`. `lives` says whether another node does."""

    def __init__(self, bus: Bus, subjects: Subjects, node: str, address: Callable[[], str], lives: Callable[[str], bool]) -> None:
        self._bus = bus
        self._subjects = subjects
        self._node = node
        self._address = address
        self._lives = lives
        self._store = bus.store(NAMES)
        self._held: dict[str, _Held] = {}
        self._to_free: dict[str, str] = {}  # names whose streams were over while the bus was gone, with their sessions
        self._freeing: set[asyncio.Task[None]] = set()

    @property
    def num_unclaimed(self) -> int:
        """Streams of which the other nodes do not know."""
        return sum(held.revision is None for held in self._held.values())

    async def find(self, name: str) -> Claim | None:
        """The claim of a name, whoever made it. Raises `BusError`."""
        entry = await self._store.get(escaped(name))
        return None if entry is None else _read(name, entry.value)

    async def claim(self, stream: Stream, over: Claim | None = None) -> None:
        """Claim the name of a stream that begins here; where the stream has moved here it takes the place of the claim `over`.

        Raises `NameTakenError`. Where the bus is gone the name is claimed when it is back.
        """
        name = stream.info.name
        held = self._held[name] = _Held(self._claim(stream))
        self._to_free.pop(name, None)
        try:
            held.revision = await self._acquire(held.claim, over)
        except BusError as exc:
            log.warning("%s begins without a claim, as other nodes cannot be reached: %s", name, exc)
        except BaseException:
            if self._held.get(name) is held:
                del self._held[name]
            raise
        else:
            self.announce(name)

    def announce(self, name: str) -> None:
        """Tell nodes where somebody waits for the name that its stream is here."""
        if (held := self._held.get(name)) is not None:
            self._bus.publish(self._subjects.began(name), held.claim.pack())

    async def renew(self, stream: Stream) -> None:
        """Make sure after the bus was gone that the name is still this node's. Raises `NameTakenError`, and `BusError`."""
        if (held := self._held.get(stream.info.name)) is not None:
            held.revision = await self._acquire(held.claim)
            self.announce(stream.info.name)

    def free(self, name: str, session: str) -> None:
        """The stream is over: others may have its name. Nothing happens where it is another's by now."""
        held = self._held.get(name)
        if held is None or held.claim.session != session:
            return
        del self._held[name]
        self._to_free[name] = session
        task = asyncio.get_running_loop().create_task(self._free(name, session))
        self._freeing.add(task)
        task.add_done_callback(self._freeing.discard)

    def give_up(self, name: str, session: str) -> None:
        """The stream goes on elsewhere: its claim is another node's from now on."""
        if (held := self._held.get(name)) is not None and held.claim.session == session:
            del self._held[name]

    async def free_claim(self, claim: Claim) -> None:
        """Free the name of a stream that no node has any longer. Raises `BusError`."""
        entry = await self._store.get(escaped(claim.name))
        if entry is not None and (found := _read(claim.name, entry.value)) is not None and found.session == claim.session:
            await self._delete(claim.name, entry.revision)

    async def free_what_is_over(self) -> None:
        """Free the names of streams that were over while the bus was gone. Raises `BusError`."""
        for name, session in list(self._to_free.items()):
            await self._free_now(name, session)

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

    async def _acquire(self, claim: Claim, over: Claim | None = None) -> int:
        key, value = escaped(claim.name), claim.pack()
        for _ in range(_ATTEMPTS):
            entry = await self._store.get(key)
            try:
                if entry is None:
                    return await self._store.create(key, value)
                there = _read(claim.name, entry.value)
                if there is not None and there.node == self._node and there.session == claim.session:
                    return entry.revision
                if there is not None and there.node != self._node and self._lives(there.node) and not _same(there, over):
                    raise NameTakenError(there)
                return await self._store.update(key, value, entry.revision)
            except KeyChangedError:
                continue
        raise BusError(f"the claim of {claim.name} changes all the time")

    async def _free(self, name: str, session: str) -> None:
        try:
            await self._free_now(name, session)
        except BusError as exc:
            log.info("the name %s is freed when the bus is back: %s", name, exc)

    async def _free_now(self, name: str, session: str) -> None:
        entry = await self._store.get(escaped(name))
        there = None if entry is None else _read(name, entry.value)
        if entry is not None and there is not None and there.node == self._node and there.session == session:
            await self._delete(name, entry.revision)
        if self._to_free.get(name) == session:
            del self._to_free[name]

    async def _delete(self, name: str, revision: int) -> None:
        try:
            await self._store.delete(escaped(name), revision)
        except KeyChangedError:
            log.debug("the name %s is another's by now", name)


def _same(one: Claim, other: Claim | None) -> bool:
    return other is not None and (one.node, one.session) == (other.node, other.session)


def _read(name: str, value: bytes) -> Claim | None:
    """A claim; None for one that nobody can read, which counts as none."""
    try:
        return Claim.parse(value)
    except RecordError as exc:
        log.warning("the claim of %s: %s", name, exc)
        return None
