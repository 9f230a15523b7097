"""The other nodes, as their entries say: who lives, who has room, and where clients may go. No clock and no bus."""

from __future__ import annotations

from collections import Counter

from streamcodec.server.cluster.records import NodeRecord

__all__ = ["Nodes"]

_ALTERNATES = 3


class Nodes:
    """The entries of all nodes but `own`, whose model has this `fingerprint`."""

    def __init__(self, own: str, fingerprint: str) -> None:
        self.records: dict[str, NodeRecord] = {}
        self._sent: Counter[str] = Counter()  # since the node has said how full it is
        self._own = own
        self._fingerprint = fingerprint

    def changed(self, node: str, record: NodeRecord | None) -> bool:
        """A node has a new entry, or None any longer; returns whether it came or went."""
        if node == self._own:
            return False
        was = node in self.records
        del self._sent[node]
        if record is None:
            self.records.pop(node, None)
        else:
            self.records[node] = record
        return was is (record is None)

    def lives(self, node: str) -> bool:
        """Whether a node is there."""
        return node == self._own or node in self.records

    def best(self) -> NodeRecord | None:
        """The node where a newcomer fares best, which is sent there; None where no other one takes any."""
        found = min(self._open(), key=self._fullness, default=None)
        if found is not None:
            self._sent[found.node] += 1
        return found

    def alternates(self) -> tuple[str, ...]:
        """The addresses of a few nodes that take newcomers, those with most room first."""
        return tuple(record.address for record in sorted(self._open(), key=self._fullness)[:_ALTERNATES])

    def _open(self) -> list[NodeRecord]:
        return [
            record
            for record in self.records.values()
            if not record.draining and record.fingerprint == self._fingerprint and record.room != 0 and record.listener_room != 0
        ]

    def _fullness(self, record: NodeRecord) -> tuple[float, int]:
        sent = self._sent[record.node]
        places = record.publishers + (record.room or 0)
        return record.load + sent / max(places, 1), record.publishers + record.listeners + sent
