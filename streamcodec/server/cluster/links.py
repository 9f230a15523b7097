"""All links of a node: which streams of other nodes are followed here, from when somebody listens to them until nobody does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from streamcodec.errors import RemoteProtocolError, WireCode
from streamcodec.server.cluster.bus import BusError, Subscription
from streamcodec.server.cluster.claims import Claims
from streamcodec.server.cluster.link import LinkTools, StreamLink, ask_node
from streamcodec.server.cluster.questions import NodeQuestion
from streamcodec.server.cluster.records import Claim, RecordError
from streamcodec.server.fanout.fan_out import FanOut
from streamcodec.server.feeder import Feeder

__all__ = ["ALIVE_EVERY_S", "Links", "LinksOwner"]

ALIVE_EVERY_S = 2.0
"""So often the origins are told which streams are wanted still, and say how far they are."""
LINGER_S = 5.0
"""A stream that nobody listens to any longer is followed for so long."""
_SEEK_EVERY_S = 5.0  # for a name whose beginning was not heard of, as a message was lost
_FIND_S = 1.5
_GONE = "the node of its publisher has it no longer"
_SESSIONS_AT_ONCE = 200  # in one question

log = logging.getLogger("streamcodec.server")


class LinksOwner(Protocol):
    """The registry, as links see it."""

    def heard(self, name: str) -> Feeder | None:
        """What there is to hear under a name."""

    def follow(self, link: Feeder) -> None:
        """Let whoever waits for a stream of another node have it."""


class Links:
    """Opens and closes links. `suits` says whether a node lives and its streams can be followed; `clock` tells seconds."""

    def __init__(
        self, tools: LinkTools, claims: Claims, owner: LinksOwner, suits: Callable[[str], bool], clock: Callable[[], float]
    ) -> None:
        self._tools = tools
        self._claims = claims
        self._owner = owner
        self._suits = suits
        self._clock = clock
        self._links: dict[str, StreamLink] = {}
        self._wanted: dict[str, Subscription] = {}
        self._seeking: dict[str, asyncio.Task[None]] = {}
        self._sought_at: dict[str, float] = {}
        self._told_alive_at = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self._gone: dict[str, asyncio.Event] = {}  # by session

    def __len__(self) -> int:
        return len(self._links)

    def of(self, name: str) -> StreamLink | None:
        """The link to the stream of a name."""
        return self._links.get(name)

    # Listeners -----------------------------------------------------------------------------------------------------------------------

    async def find(self, name: str, session: str | None = None) -> None:
        """Have a link to the stream of a name, if another node has one and answers soon.

        Raises `RemoteProtocolError` TIMEOUT where a listener resumes `session`, and its stream is not over as far as the nodes know: its
        node may be gone, and its publisher on its way to another one.
        """
        try:
            async with asyncio.timeout(_FIND_S):
                await asyncio.shield(self._seek(name))
        except TimeoutError:
            log.info("%s: whether another node has it is not known in time", name)
        if session is not None and self._owner.heard(name) is None and await self._may_go_on(name, session):
            raise RemoteProtocolError(WireCode.TIMEOUT, "the server that has this stream does not answer now")

    def wanted(self, name: str) -> None:
        """Somebody listens to a name."""
        if name not in self._wanted:
            subject = self._tools.subjects.began(name)
            self._wanted[name] = self._tools.bus.subscribe(subject, lambda data: self._began(name, data))
            if self._owner.heard(name) is None:
                self._seek(name)

    def unwanted(self, name: str) -> None:
        """Nobody listens to a name any longer."""
        if (subscription := self._wanted.pop(name, None)) is not None:
            subscription.close()
        self._sought_at.pop(name, None)

    # Streams -------------------------------------------------------------------------------------------------------------------------

    def adopt(self, link: StreamLink) -> None:
        """A stream that was this node's has moved: its listeners here follow it."""
        self._add(link)

    def release(self, claim: Claim) -> FanOut | None:
        """The fan-out of a link's stream, which moves to this node; the link is over."""
        link = self._links.get(claim.name)
        if link is None or link.session != claim.session or link.ending:
            return None
        del self._links[claim.name]
        link.close()
        return link.fan_out

    async def end(self, name: str, reason: str) -> None:
        """End what is heard under a name, as another stream has it; returns when its listeners have all of it."""
        if (link := self._links.get(name)) is not None:
            over = self._gone.setdefault(link.session, asyncio.Event())
            link.end(reason)
            await over.wait()

    def link_gone(self, link: Feeder) -> None:
        """All of a link's stream has gone to its listeners."""
        if self._links.get(link.info.name) is link:
            del self._links[link.info.name]
        if (over := self._gone.pop(link.fan_out.session, None)) is not None:
            over.set()
        if link.info.name in self._wanted:
            self._seek(link.info.name)

    # Nodes ---------------------------------------------------------------------------------------------------------------------------

    def node_gone(self, node: str) -> None:
        """A node is gone: its streams may go on elsewhere."""
        for link in list(self._links.values()):
            if link.node == node:
                log.info("%s: its node is gone", link.name)
                self._origin_gone(link)

    def _origin_gone(self, link: StreamLink) -> None:
        link.origin_gone(lambda: link.end("the node of its publisher is gone"))

    def origin_unknown(self, link: StreamLink) -> None:
        """A node has no such stream, so it is over, or it moves: the store says which."""
        link.origin_gone(lambda: link.end(_GONE))
        self._run(self._look_up(link))

    async def _look_up(self, link: StreamLink) -> None:
        try:
            claim = await self._claims.find_any(link.name)
        except BusError as exc:
            log.debug("%s: %s", link.name, exc)
            return
        if claim is None or claim.session != link.session:
            link.end(_GONE)

    def node_came(self, node: str) -> None:
        """A node is there, perhaps again: the bus may have been away."""
        for link in list(self._links.values()):
            if link.origin == node:
                link.follow(node)

    def stream_gone(self, name: str) -> None:
        """A stream of this node is over: another node may have one of the name by now."""
        if name in self._wanted:
            self._seek(name)

    def bus_back(self) -> None:
        """Messages were lost while the bus was gone: ask for them at once."""
        for link in self._links.values():
            link.bus_back()

    def tick(self) -> None:
        """To be called once a second."""
        now = self._clock()
        for link in list(self._links.values()):
            self._close_unused(link, now)
            if link.node is None:
                self._seek(link.name)
        for name in self._wanted:
            if self._owner.heard(name) is None and now - self._sought_at.get(name, now) >= _SEEK_EVERY_S:
                self._seek(name)
        if now - self._told_alive_at >= ALIVE_EVERY_S:
            self._told_alive_at = now
            self._tell_alive()

    async def close(self) -> None:
        """Follow nothing any longer."""
        for subscription in self._wanted.values():
            subscription.close()
        self._wanted.clear()
        for link in self._links.values():
            link.close()
        tasks = {*self._tasks, *self._seeking.values()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -------------------------------------------------------------------------------------------------------------------------------

    async def _may_go_on(self, name: str, session: str) -> bool:
        try:
            claim = await self._claims.find_any(name)
        except BusError as exc:
            log.debug("%s: %s", name, exc)
            return True
        return claim is not None and claim.session == session and claim.node != self._tools.node

    def _seek(self, name: str) -> asyncio.Task[None]:
        task = self._seeking.get(name)
        if task is None:
            if name in self._wanted:
                self._sought_at[name] = self._clock()
            task = self._seeking[name] = asyncio.get_running_loop().create_task(self._find_and_follow(name))
            task.add_done_callback(lambda _: self._seeking.pop(name, None))
        return task

    async def _find_and_follow(self, name: str) -> None:
        try:
            if (claim := await self._claims.find(name)) is not None:
                await self._follow(claim)
        except BusError as exc:
            log.debug("%s: %s", name, exc)

    def _began(self, name: str, data: bytes) -> None:
        try:
            claim = Claim.parse(data)
        except RecordError as exc:
            log.warning("%s: %s", name, exc)
            return
        if claim.name == name:
            self._run(self._follow_quietly(claim))

    async def _follow_quietly(self, claim: Claim) -> None:
        try:
            await self._follow(claim)
        except BusError as exc:
            log.debug("%s: %s", claim.name, exc)

    async def _follow(self, claim: Claim) -> None:
        """Follow the stream of a claim. Raises `BusError`."""
        name, tools = claim.name, self._tools
        if claim.node == tools.node:
            return
        if (link := self._links.get(name)) is not None:
            if link.session == claim.session:
                if link.node != claim.node and self._suits(claim.node):
                    link.follow(claim.node)
                return
            await self.end(name, "another stream has its name")
        if self._owner.heard(name) is not None or not self._suits(claim.node):
            return
        link = StreamLink(tools, name, claim.session, claim.node)
        if not await link.open() or link.ending:
            return
        if self._owner.heard(name) is None and name not in self._links:
            log.info("%s is followed, whose publisher is at %s", name, claim.address)
            self._add(link)
            link.catch_up()
        else:
            link.close()

    def _add(self, link: StreamLink) -> None:
        self._links[link.name] = link
        self._owner.follow(link)

    def _close_unused(self, link: StreamLink, now: float) -> None:
        # A decoder without listeners is kept for one whose connection was lost.
        if link.fan_out.known or link.decoding or link.ending:
            link.unused_since = None
        elif link.unused_since is None:
            link.unused_since = now
        elif now - link.unused_since >= LINGER_S:
            link.close()
            del self._links[link.name]
            self._tools.owner.link_gone(link)
            if link.node is not None:
                self._run(self._leave(link.node, link.session))

    async def _leave(self, node: str, session: str) -> None:
        try:
            await ask_node(self._tools, node, NodeQuestion("leave", self._tools.node, session), 1.0)
        except BusError as exc:
            log.debug("a stream was not left in order: %s", exc)

    def _tell_alive(self) -> None:
        by_node: dict[str, list[StreamLink]] = {}
        for link in self._links.values():
            if link.node is not None and not link.ending:
                by_node.setdefault(link.node, []).append(link)
        for node, links in by_node.items():
            for at in range(0, len(links), _SESSIONS_AT_ONCE):
                self._run(self._alive(node, links[at : at + _SESSIONS_AT_ONCE]))

    async def _alive(self, node: str, links: list[StreamLink]) -> None:
        question = NodeQuestion("alive", self._tools.node, sessions=tuple(link.session for link in links))
        try:
            answer = await ask_node(self._tools, node, question, 1.0)
        except BusError as exc:
            log.debug("a node does not say how far its streams are: %s", exc)
            return
        reached = dict(answer.reached)
        for link in links:
            if link.node != node:
                continue
            if (next_seq := reached.get(link.session)) is None:
                link.look()
            else:
                link.reached(next_seq)

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
