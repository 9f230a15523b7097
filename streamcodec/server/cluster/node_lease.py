"""This node's own entry in the store of nodes. While it is there, this node's claims are good."""

from __future__ import annotations

from streamcodec.server.cluster.bus import KeyChangedError, Store
from streamcodec.server.cluster.records import NodeRecord

__all__ = ["NodeLease"]


class NodeLease:
    """Keeps a node's entry. Other nodes may take this node's claims once it has lapsed, so it must notice when it did."""

    def __init__(self, nodes: Store, node: str) -> None:
        self._nodes = nodes
        self._node = node
        self._revision: int | None = None

    async def renew(self, record: NodeRecord) -> bool:
        """Write the entry; returns whether it had lapsed, as the first time: then renew each claim, after this. Raises `BusError`."""
        value = record.pack()
        if self._revision is not None:
            try:
                self._revision = await self._nodes.update(self._node, value, self._revision)
            except KeyChangedError:
                self._revision = None
            else:
                return False
        self._revision = await self._nodes.put(self._node, value)
        return True

    async def end(self) -> None:
        """Take the entry away, as the last thing that a node does. Raises `BusError`."""
        self._revision = None
        await self._nodes.delete(self._node)
