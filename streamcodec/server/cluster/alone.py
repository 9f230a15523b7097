"""A server that is no node of any cluster: all names are its own, and nothing waits for anybody."""

from __future__ import annotations

from streamcodec.protocol import PublishHello
from streamcodec.server.draining import Role
from streamcodec.server.fanout.entry import FanOutEntry
from streamcodec.server.fanout.fan_out import FanOut
from streamcodec.server.info import StreamInfo
from streamcodec.server.stream import Stream

__all__ = ["Alone"]


class Alone:
    """A `Cluster` of one."""

    alternates: tuple[str, ...] = ()
    named: tuple[str, ...] = ()
    moves = False
    reached = False

    async def claim(self, stream: Stream) -> None:
        pass

    async def take_over(self, hello: PublishHello) -> Stream | None:  # noqa: ARG002
        return None

    def stream_gone(self, stream: Stream) -> None:
        pass

    def stream_moved(self, stream: Stream) -> None:
        pass

    async def keep(self, stream: Stream) -> bool:  # noqa: ARG002
        return False

    def entry(self, info: StreamInfo, fan_out: FanOut, behind: FanOutEntry) -> FanOutEntry:  # noqa: ARG002
        return behind

    async def find(self, name: str, session: str | None = None) -> None:
        pass

    def wanted(self, name: str) -> None:
        pass

    def unwanted(self, name: str) -> None:
        pass

    def node_of(self, name: str) -> str | None:  # noqa: ARG002
        return None

    async def where(self, name: str) -> str | None:  # noqa: ARG002
        return None

    def listed(self) -> list[dict[str, object]]:
        return []

    def better(self, role: Role) -> str | None:  # noqa: ARG002
        return None
