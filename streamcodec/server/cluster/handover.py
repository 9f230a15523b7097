"""A stream moves from the node that has it to the node where its publisher says hello, and a copy of it is kept where that node may die.

Whoever needs the stream asks for it: so it is one way for a node that drains, for a publisher that comes in elsewhere by itself, and for
one whose node is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
from collections.abc import Callable
from dataclasses import dataclass

from streamcodec.errors import InputError, RemoteProtocolError, StreamCodecError, WireCode
from streamcodec.protocol import PublishHello
from streamcodec.server.cluster.bus import BusError, NobodyAnswersError
from streamcodec.server.cluster.claims import Purpose
from streamcodec.server.cluster.copies import COPIES, COPY_TTL_S, Copies, read_snapshot
from streamcodec.server.cluster.link import LinkTools, StreamLink
from streamcodec.server.cluster.links import Links
from streamcodec.server.cluster.names import Names, NameTakenError
from streamcodec.server.cluster.origin import OriginTable
from streamcodec.server.cluster.questions import NodeAnswer, NodeQuestion, read_parts, with_length
from streamcodec.server.cluster.records import Claim, RecordError
from streamcodec.server.registry import Registry
from streamcodec.server.snapshot import StreamSnapshot
from streamcodec.server.stream import Stream

__all__ = ["HandOver"]

_GIVE_S = 1.0  # a node that lives finishes the steps that have begun; one that does not is known not to answer much sooner
_PCM_S = 1.0  # of decoded packets, for listeners of PCM that resume at the other node
_FREED_S = 1.0
_GIFT_S = 10.0  # a stream that was given is given again to who asks again: the answer may have come too late
_FETCHED_S, _LOOK_EVERY_S = 2.0, 0.05  # a node that stops waits so long for who has not got it yet
_TELL_S = 30.0  # where a stream went is told to who asks here

log = logging.getLogger("streamcodec.server")


@dataclass(frozen=True)
class _Gift:
    """A stream that is being given, or was: the answer to whoever proves by `secret` that it is its publisher's."""

    name: str
    secret: str
    answer: asyncio.Task[bytes]


class HandOver:
    """Takes streams from other nodes and gives them away; counts both. `lives` says whether a node does."""

    def __init__(
        self,
        tools: LinkTools,
        registry: Registry,
        names: Names,
        links: Links,
        origins: OriginTable,
        lives: Callable[[str], bool],
        fingerprint: str,
        *,
        replicate: bool,
    ) -> None:
        self.taken = 0
        self.given = 0
        self.restored = 0
        self._tools = tools
        self._registry = registry
        self._names = names
        self._links = links
        self._origins = origins
        self._lives = lives
        self._fingerprint = fingerprint
        self._replicates = replicate
        self._copies = Copies(tools.bus.store(COPIES, ttl_s=COPY_TTL_S), fingerprint, tools.worker.engine)
        self._copying: asyncio.Task[None] | None = None
        self._taking: dict[str, asyncio.Task[Stream | None]] = {}  # by secret
        self._given_to: dict[str, str] = {}  # nodes by session, while a stream is on its way
        self._gifts: dict[str, _Gift] = {}  # by session
        self._freeing: set[asyncio.Task[None]] = set()

    @property
    def copied(self) -> int:
        """Copies of streams that went to the bus."""
        return self._copies.copied

    # To this node --------------------------------------------------------------------------------------------------------------------

    async def take(self, hello: PublishHello) -> Stream | None:
        """The stream that `hello` resumes, from wherever it is; None where nobody has it.

        Raises `RemoteProtocolError` SERVER_FULL, SERVER_CLOSING, and TIMEOUT where the other nodes cannot be asked, or where the one that
        has it has not answered yet.
        """
        assert hello.resume is not None
        if self._registry.draining.begun:
            raise self._registry.draining.farewell()
        secret = hello.resume.session
        # Whatever becomes of the connection: a stream that was given must begin here. A client may also ask twice.
        if (taking := self._taking.get(secret)) is None:
            taking = self._taking[secret] = asyncio.get_running_loop().create_task(self._take(hello, secret))
            taking.add_done_callback(lambda done: self._taken(secret, done))
        return await asyncio.shield(taking)

    def _taken(self, secret: str, done: asyncio.Task[Stream | None]) -> None:
        del self._taking[secret]
        if not done.cancelled() and (error := done.exception()) is not None and not isinstance(error, RemoteProtocolError):
            log.error("a stream could not be taken over", exc_info=error)

    async def _take(self, hello: PublishHello, secret: str) -> Stream | None:
        try:
            claim = await self._names.claims.find_any(hello.stream)
            if claim is None or not claim.is_publishers(secret) or hello.stream in self._registry.streams:
                return None
            self._registry.newcomers.admit_moved(hello)
            found = None
            try:
                found = await self._given(claim, secret)
            finally:
                if found is None:
                    self._registry.admission.left(hello.stream)
            if found is None:
                await self._names.claims.free(claim.name, secret)
                return None
            return await self._begin(claim, found, secret)
        except BusError as exc:
            log.info("%s cannot be looked for at other nodes: %s", hello.stream, exc)
            # Not UNKNOWN_SESSION, by which a client gives up its session: another node may know it.
            raise RemoteProtocolError(WireCode.TIMEOUT, "the other servers cannot be asked for this session now") from exc

    async def _given(self, claim: Claim, secret: str) -> StreamSnapshot | None:
        """The stream from the node that has it, or else its copy. Raises `BusError` where that node may answer later."""
        if not self._lives(claim.node):
            return await self._copied(claim)
        question = NodeQuestion("give", self._tools.node, claim.session, secret=secret)
        try:
            if claim.node == self._tools.node:  # it may have been given from here, and has come nowhere
                data = await self.give(question)
            else:
                data = await self._tools.bus.ask(self._tools.subjects.node(claim.node), question.pack(), _GIVE_S)
            head, *rest = read_parts(data)
            if NodeAnswer.parse(head).kind == "ok" and len(rest) == 1:
                return read_snapshot(rest[0], claim, self._fingerprint, self._tools.worker.engine)
        except (NobodyAnswersError, RecordError, InputError) as exc:
            log.warning("%s is not given by its node: %s", claim.name, exc)
        except BusError as exc:
            log.warning("%s is not given by its node yet: %s", claim.name, exc)
            if (copied := await self._copied(claim)) is None:
                raise
            return copied
        return await self._copied(claim)

    async def _copied(self, claim: Claim) -> StreamSnapshot | None:
        if not self._replicates or claim.node == self._tools.node:
            return None
        snapshot = await self._copies.find(claim)
        self.restored += snapshot is not None
        return snapshot

    async def _begin(self, claim: Claim, snapshot: StreamSnapshot, secret: str) -> Stream | None:
        fan_out = self._links.release(claim)
        try:
            stream = self._registry.restore(snapshot, fan_out)
        except InputError as exc:
            log.error("%s cannot go on here: %s", claim.name, exc)
            if fan_out is not None:
                link = StreamLink(self._tools, claim.name, claim.session, claim.node, fan_out)
                self._links.adopt(link)
                link.end("it could not go on at another server")
            await self._names.claims.free(claim.name, secret)
            return None
        try:
            await self._names.claim(stream, Purpose.RESUME)
        except NameTakenError as exc:
            self.lost_to(stream, exc.claim)
            return None
        self._origins.entries[claim.session].announce(self._tools.node)
        self._gifts.pop(claim.session, None)  # it may have been given from here before
        self.taken += 1
        log.info("%s has moved here from %s", claim.name, claim.address)
        return stream

    # From this node ------------------------------------------------------------------------------------------------------------------

    async def give(self, question: NodeQuestion) -> bytes:
        """The answer to a node at which the publisher of a stream of this one has said hello: the same one to who asks again."""
        session, gift = question.session, self._gifts.get(question.session)
        stream = next((one for one in self._registry.streams.values() if one.fan_out.session == session), None)
        if stream is not None and (gift is None or gift.answer.done()):
            if stream.ending or not stream.lease.matches(question.secret):
                return with_length([NodeAnswer("unknown").pack()])
            loop = asyncio.get_running_loop()
            gift = self._gifts[session] = _Gift(stream.info.name, question.secret, loop.create_task(self._give(stream, question)))
            loop.call_later(_GIFT_S, self._forget, session, gift)
        elif gift is None or not hmac.compare_digest(gift.secret.encode(), question.secret.encode()):
            return with_length([NodeAnswer("unknown").pack()])
        elif question.node != self._tools.node:
            if gift.answer.done():
                self._send_on(session, gift.name, question.node)
            else:
                self._given_to[session] = question.node
        return await asyncio.shield(gift.answer)

    def _forget(self, session: str, gift: _Gift) -> None:
        if self._gifts.get(session) is gift:
            del self._gifts[session]
            self._freeing.add(task := asyncio.get_running_loop().create_task(self._free_unfetched(session, gift.name)))
            task.add_done_callback(self._freeing.discard)

    async def _free_unfetched(self, session: str, name: str) -> None:
        """Others may have a name whose stream was given and never went anywhere."""
        try:
            claim = await self._unfetched(session, name)
            if claim is not None and name not in self._registry.streams:
                await self._names.claims.release(claim)
        except BusError as exc:
            log.info("the name %s may be kept until this server stops: %s", name, exc)

    async def _unfetched(self, session: str, name: str) -> Claim | None:
        claim = await self._names.claims.find_any(name)
        return claim if claim is not None and (claim.session, claim.node) == (session, self._tools.node) else None

    def _send_on(self, session: str, name: str, node: str) -> None:
        """The stream was given already, and goes to that node now."""
        if (entry := self._origins.entries.get(session)) is not None and entry.gone_to is not None:
            entry.gone_to = node
        if (link := self._links.of(name)) is not None and link.session == session:
            link.follow(node)

    async def _give(self, stream: Stream, question: NodeQuestion) -> bytes:
        self._given_to[question.session] = question.node
        try:
            snapshot = await stream.give(_PCM_S)
            data = snapshot.to_bytes(self._fingerprint, self._tools.worker.engine)
        except StreamCodecError as exc:
            log.warning("%s cannot move, so it ends, as its publisher is at another node: %s", stream.info.name, exc)
            stream.end("its publisher went to another server")
            await self._freed(stream)
            return with_length([NodeAnswer("unknown").pack()])
        finally:
            self._given_to.pop(question.session, None)
        self.given += 1
        return with_length([NodeAnswer("ok").pack(), data])

    def moved_away(self, stream: Stream) -> None:
        """The stream was given: those who listen here follow it. Nobody does where its name was another's from the start."""
        session = stream.fan_out.session
        if (node := self._given_to.get(session)) is None:
            return
        if (entry := self._origins.entries.get(session)) is not None:
            entry.gone_to = node
            asyncio.get_running_loop().call_later(_TELL_S, self._origins.remove, entry)
        self._names.give_up(stream.info.name, session)
        self._links.adopt(StreamLink(self._tools, stream.info.name, session, node, stream.fan_out))

    def lost_to(self, stream: Stream, claim: Claim) -> None:
        """The name of a stream of this node turned out to be another's: its publisher is told, and its listeners follow the other one."""
        name, same = stream.info.name, claim.session == stream.fan_out.session
        log.warning("%s ends here: %s at %s", name, "it went on" if same else "another publisher has the name", claim.address)
        if same:
            stream.lease.fail(RemoteProtocolError(WireCode.TAKEN_OVER, "this session went on at another server: do not resume it here"))
            self._given_to[claim.session] = claim.node
            stream.abandon()
            del self._given_to[claim.session]
        else:
            stream.lease.fail(RemoteProtocolError(WireCode.STREAM_TAKEN, f"stream {name!r} has another publisher, at another server"))
            stream.end("another publisher has its name")

    async def _freed(self, stream: Stream) -> None:
        try:
            async with asyncio.timeout(_FREED_S):
                await stream.ended.wait()
                await self._names.freed()
        except TimeoutError:
            log.debug("%s takes its time to end", stream.info.name)

    # Copies --------------------------------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """To be called once a second."""
        if self._replicates and self._tools.bus.connected and (self._copying is None or self._copying.done()):
            self._copying = asyncio.get_running_loop().create_task(self._copies.write(self._registry.streams.values()))

    async def keep(self, stream: Stream) -> bool:
        """Leave a copy of a stream, from which it goes on where its publisher resumes; returns whether there is one."""
        return self._replicates and self._tools.bus.connected and await self._copies.write_one(stream)

    async def close(self) -> None:
        """Keep no copies, and take no streams any longer; what was given is still given to who has not got it, for a moment."""
        with contextlib.suppress(BusError, TimeoutError):
            async with asyncio.timeout(_FETCHED_S):
                for session, gift in list(self._gifts.items()):
                    while await self._unfetched(session, gift.name) is not None:  # noqa: ASYNC110 - no node tells that it has it
                        await asyncio.sleep(_LOOK_EVERY_S)
        tasks = [*self._taking.values(), *self._freeing, *([] if self._copying is None else [self._copying])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
