"""What this node knows of all nodes, and where a newcomer goes: values and times alone, no bus and no clock."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator

from streamcodec.server.cluster.records import NodeRecord
from streamcodec.server.draining import Role

__all__ = ["MAX_ALTERNATES", "NODE_TTL_S", "RENEW_EVERY_S", "Membership", "Placement"]

NODE_TTL_S = 5.0
"""A node is taken for dead when it has not renewed its entry for so long."""
RENEW_EVERY_S = 1.0
MAX_ALTERNATES = 3


class Membership:
    """All nodes by their last records. Times are in seconds, of any clock that only goes forward."""

    def __init__(self, ttl_s: float = NODE_TTL_S) -> None:
        self._ttl_s = ttl_s
        self._nodes: dict[str, tuple[NodeRecord, float]] = {}
        self._lost_at: float | None = None

    def __len__(self) -> int:
        return len(self._nodes)

    def heard(self, node: str, record: NodeRecord | None, now: float) -> None:
        """A node has written its record, or it is gone."""
        if record is None:
            self._nodes.pop(node, None)
        else:
            self._nodes[node] = record, now

    def bus_lost(self, now: float) -> None:
        """Nothing can be heard from now on: who lives now is taken to live on, as most of them will."""
        if self._lost_at is None:
            self._lost_at = now

    def bus_back(self, now: float) -> None:
        """Nodes can be heard again: each has its whole time to be heard."""
        if self._lost_at is not None:
            lost_at, self._lost_at = self._lost_at, None
            self._nodes = {node: (record, now) for node, (record, at) in self._nodes.items() if lost_at - at < self._ttl_s}

    def lives(self, node: str, now: float) -> bool:
        """Whether a node is taken to live. Who takes its claims asks the store, which knows it for sure."""
        there = self._nodes.get(node)
        return there is not None and self._is_fresh(there[1], now)

    def record(self, node: str) -> NodeRecord | None:
        """The last record of a node that is there."""
        there = self._nodes.get(node)
        return None if there is None else there[0]

    def living(self, now: float) -> Iterator[NodeRecord]:
        """All nodes that are taken to live."""
        return (record for record, at in self._nodes.values() if self._is_fresh(at, now))

    def heard_at(self, node: str) -> float:
        """When a node that is there was heard last."""
        return self._nodes[node][1]

    def _is_fresh(self, at: float, now: float) -> bool:
        return (now if self._lost_at is None else self._lost_at) - at < self._ttl_s


class Placement:
    """Where this node, `own`, sends clients.

    Of two nodes that are drawn at random, more often those with more room, the emptier one is taken: many nodes that place many clients
    from records a second old spread them evenly, where the emptiest of all would get the whole crowd. What this node has sent to another
    since that one's last record counts as being there.
    """

    def __init__(self, membership: Membership, own: str, rng: random.Random) -> None:
        self._membership = membership
        self._own = own
        self._rng = rng
        self._sent: dict[tuple[str, Role], tuple[float, int]] = {}

    def place(self, role: Role, fingerprint: str, now: float, *, without: Collection[str] = ()) -> NodeRecord | None:
        """The node for a newcomer that must not stay here, counted as sent there; None where no node has room.

        `without` are ids of nodes that have refused it.
        """
        candidates, rooms = [], []
        for record in self._suited(fingerprint, now):
            if record.node not in without and (room := self._room(record, role)) > 0:
                candidates.append(record)
                rooms.append(room)
        if not candidates:
            return None
        drawn = self._rng.choices(range(len(candidates)), rooms, k=2)
        best = candidates[min(drawn, key=lambda index: self._fullness(candidates[index], role))]
        if len(self._sent) > 4 * len(self._membership):
            self._sent = {(node, role): sent for (node, role), sent in self._sent.items() if self._membership.record(node) is not None}
        self._sent[best.node, role] = self._membership.heard_at(best.node), self._sent_to(best.node, role) + 1
        return best

    def alternates(self, fingerprint: str, now: float, *, count: int = MAX_ALTERNATES, own_address: str = "") -> list[str]:
        """Addresses of other nodes for a client whose node dies: of all nodes, so that not all clients of one go to the same."""
        addresses = [*dict.fromkeys(record.address for record in self._suited(fingerprint, now) if record.address != own_address)]
        return self._rng.sample(addresses, min(count, len(addresses)))

    def _suited(self, fingerprint: str, now: float) -> Iterator[NodeRecord]:
        for record in self._membership.living(now):
            if record.node != self._own and not record.draining and record.fingerprint == fingerprint:
                yield record

    def _sent_to(self, node: str, role: Role) -> int:
        at, sent = self._sent.get((node, role), (0.0, 0))
        return sent if at == self._membership.heard_at(node) else 0

    def _room(self, record: NodeRecord, role: Role) -> float:
        """How many more clients a node takes. One that does not know is asked by its load."""
        room = record.room if role == "publish" else record.listener_room
        return max(0.0, 1.0 - record.load) if room is None else room - self._sent_to(record.node, role)

    def _fullness(self, record: NodeRecord, role: Role) -> float:
        """The part of a node's places that is taken, 0 to 1; of one that does not know its places, its load."""
        room = record.room if role == "publish" else record.listener_room
        if room is None:
            return record.load
        there = record.publishers if role == "publish" else record.listeners
        return (there + self._sent_to(record.node, role)) / max(1, there + room)
