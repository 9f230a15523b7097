"""What a server asks of the cluster that it is a node of; a server that is no node of any asks `Alone`."""

from __future__ import annotations

from typing import Protocol

from streamcodec.protocol import PublishHello
from streamcodec.server.draining import Role
from streamcodec.server.fanout.entry import FanOutEntry
from streamcodec.server.fanout.fan_out import FanOut
from streamcodec.server.info import StreamInfo
from streamcodec.server.stream import Stream

__all__ = ["Cluster"]


class Cluster(Protocol):
    """The other nodes, as the registry sees them. What a stream of theirs needs here, the registry is told."""

    # Publishers ----------------------------------------------------------------------------------------------------------------------

    async def claim(self, stream: Stream) -> None:
        """Make sure that no other node has a stream of this name, before anybody hears of `stream`.

        Raises `RemoteProtocolError` STREAM_TAKEN. Where the other nodes cannot be reached, the stream begins all the same.
        """

    async def take_over(self, hello: PublishHello) -> Stream | None:
        """The stream that `hello` resumes, moved here from the node that has it; None where that cannot be."""

    def stream_gone(self, stream: Stream) -> None:
        """A stream of this node is over: its name is free."""

    def stream_moved(self, stream: Stream) -> None:
        """A stream of this node was given to another one: its listeners here go on."""

    async def keep(self, stream: Stream) -> bool:
        """Leave the state of a stream with the other nodes, before this one is gone; returns whether it can go on there then."""

    def entry(self, info: StreamInfo, fan_out: FanOut, behind: FanOutEntry) -> FanOutEntry:
        """What a stream of this node goes into, so that other nodes can have it as well; `behind` is where it goes from there."""

    # Listeners -----------------------------------------------------------------------------------------------------------------------

    async def find(self, name: str, session: str | None = None) -> None:
        """Where another node has a stream of this name, let the registry have it, before somebody begins to listen to it here.

        Raises `RemoteProtocolError` TIMEOUT where somebody resumes `session`, which may go on and cannot be heard here now.
        """

    def wanted(self, name: str) -> None:
        """Somebody listens to this name from now on."""

    def unwanted(self, name: str) -> None:
        """Nobody listens to this name any longer."""

    # Other nodes ---------------------------------------------------------------------------------------------------------------------

    def better(self, role: Role) -> str | None:
        """The address of a node that has room for a newcomer, which is sent there; None where there is none."""

    def node_of(self, name: str) -> str | None:
        """The address of the node that has the stream of a name that is followed here."""

    def listed(self) -> list[dict[str, object]]:
        """All nodes, this one first, for whoever runs the server; none without a cluster."""

    async def where(self, name: str) -> str | None:
        """The address of the other node that has the stream of a name; None where none has, or nobody can say it."""

    @property
    def moves(self) -> bool:
        """Whether streams can go on at other nodes, be there any or not."""

    @property
    def reached(self) -> bool:
        """Whether other nodes can ask this one for its streams now."""

    @property
    def alternates(self) -> tuple[str, ...]:
        """The addresses of a few other nodes, which a client may try where this one is gone."""

    @property
    def named(self) -> tuple[str, ...]:
        """Those that a welcome names: these, and this node's own one where others have it as well."""
