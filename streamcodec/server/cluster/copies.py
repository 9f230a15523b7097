"""Copies of streams, from which other nodes go on where this one dies: each second what changes as a whole, and the history in pieces.

A piece is what came since the one before it. Pieces take turns in a few keys and expire as the copies do, so that all of them together are
the history as it was, and none of it is written again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace

from streamcodec.engine.base import Engine
from streamcodec.errors import InputError, SnapshotError, StreamCodecError
from streamcodec.protocol import Gap, Packet
from streamcodec.protocol.values import pack_value, unpack_value
from streamcodec.server.cluster.bus import Store
from streamcodec.server.cluster.records import Claim
from streamcodec.server.fanout.replay import entries_since, first_number, next_number
from streamcodec.server.snapshot import StreamSnapshot
from streamcodec.server.stream import Stream

__all__ = ["COPIES", "COPY_TTL_S", "Copies", "HistoryPiece", "StreamCopy", "read_snapshot", "with_history"]

COPIES = "snapshots"
"""The store of copies."""
COPY_TTL_S = 10.0
_AT_ONCE = 32
_PIECE_EVERY = 2  # copies; in between the copy itself has what came since
_PIECES = 7  # more than are written in the time after which they expire

log = logging.getLogger("streamcodec.server")


@dataclass(frozen=True)
class HistoryPiece:
    """Packets and gaps that follow one another, oldest first."""

    items: tuple[Packet | Gap, ...]


class StreamCopy:
    """What of a stream was written already: `next` says what is to be written next."""

    def __init__(self) -> None:
        self._next_seq = 0  # pieces have all before it
        self._pieces = 0
        self._copies = 0

    def next(self, snapshot: StreamSnapshot) -> tuple[tuple[int, HistoryPiece] | None, StreamSnapshot]:
        """A piece with the number of its key, if one is due, and the snapshot with what no piece has; call `written` then."""
        fresh = tuple(entries_since(snapshot.fan_out.history, self._next_seq))
        piece = None
        if fresh and self._copies % _PIECE_EVERY == 0:
            piece, fresh = (self._pieces % _PIECES, HistoryPiece(fresh)), ()
        return piece, replace(snapshot, fan_out=replace(snapshot.fan_out, history=fresh, decoder=None, pcm=()))

    def written(self, piece: tuple[int, HistoryPiece] | None, next_seq: int) -> None:
        """What `next` has said was written, up to number `next_seq`."""
        self._copies += 1
        if piece is not None:
            self._pieces += 1
            self._next_seq = next_seq


class Copies:
    """Writes copies of this node's streams to `store`, and reads those of others; counts what it has `copied`.

    They are for the model with this `fingerprint`, on `engine`.
    """

    def __init__(self, store: Store, fingerprint: str, engine: Engine) -> None:
        self.copied = 0
        self._store = store
        self._fingerprint = fingerprint
        self._engine = engine
        self._known: dict[str, StreamCopy] = {}  # by session
        self._packing = asyncio.Lock()

    async def write(self, streams: Iterable[Stream]) -> None:
        """Copy all these streams, a few at a time."""
        lasting = [stream for stream in streams if not stream.ending]
        self._known = {session: self._known.get(session) or StreamCopy() for session in (one.fan_out.session for one in lasting)}
        for at in range(0, len(lasting), _AT_ONCE):
            await asyncio.gather(*map(self.write_one, lasting[at : at + _AT_ONCE]))

    async def write_one(self, stream: Stream) -> bool:
        """Copy a stream; returns whether it was copied."""
        session = stream.fan_out.session
        known = self._known.setdefault(session, StreamCopy())
        try:
            snapshot = await stream.snapshot(None)
            async with self._packing:  # one in each turn of the loop: what waits for it are live packets
                piece, rest = known.next(snapshot)
                history = b"" if piece is None else pack_value(piece[1])
                copy = rest.to_bytes(self._fingerprint, self._engine)
                await asyncio.sleep(0)
            if piece is not None:
                await self._store.put(_key(session, piece[0]), history)
            await self._store.put(session, copy)
        except StreamCodecError as exc:  # it ends, its model is one in chunks, or the bus is gone
            log.debug("%s is not copied: %s", stream.info.name, exc)
            return False
        known.written(piece, snapshot.next_seq)
        self.copied += 1
        return True

    async def find(self, claim: Claim) -> StreamSnapshot | None:
        """The last copy of a claim's stream, with its history. Raises `BusError`."""
        keys = [claim.session, *(_key(claim.session, number) for number in range(_PIECES))]
        copy, *pieces = await asyncio.gather(*map(self._store.get, keys))
        if copy is None:
            return None
        try:
            snapshot = read_snapshot(copy.value, claim, self._fingerprint, self._engine)
        except InputError as exc:
            log.warning("the copy of %s cannot be used: %s", claim.name, exc)
            return None
        try:
            # What was written last counts: a stream that went on from a copy before has made some of its packets again.
            written = sorted((piece for piece in pieces if piece is not None), key=lambda piece: piece.revision)
            whole = with_history(snapshot, [unpack_value(HistoryPiece, piece.value) for piece in written])
            whole.check(self._engine)
        except InputError as exc:
            log.warning("the history of %s cannot be used: %s", claim.name, exc)
            return snapshot
        return whole


def read_snapshot(data: bytes, claim: Claim, fingerprint: str, engine: Engine) -> StreamSnapshot:
    """The stream of a claim, from the bytes of another node. Raises `SnapshotError`, also for another stream's."""
    found = StreamSnapshot.from_bytes(data, fingerprint, engine)
    if (found.hello.stream, found.session) != (claim.name, claim.session) or not claim.is_publishers(found.secret):
        raise SnapshotError("the snapshot is of another stream than the claim, or of another publisher")
    return found


def with_history(snapshot: StreamSnapshot, pieces: Iterable[HistoryPiece]) -> StreamSnapshot:
    """The snapshot with as much of its epoch as follows one on the other up to it, from its own history and pieces; the last ones count."""
    fan_out = snapshot.fan_out
    by_end = {next_number(item): item for items in (*(piece.items for piece in pieces), fan_out.history) for item in items}
    history: deque[Packet | Gap] = deque()
    at = snapshot.next_seq
    while (item := by_end.get(at)) is not None:
        at = first_number(item)
        if at < fan_out.first_seq or (isinstance(item, Packet) and item.epoch != snapshot.epoch):
            break
        history.appendleft(item)
    return replace(snapshot, fan_out=replace(fan_out, history=tuple(history)))


def _key(session: str, number: int) -> str:
    return f"{session}.{number}"
