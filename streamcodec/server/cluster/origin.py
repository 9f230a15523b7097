"""The origin's side of a stream that other nodes listen to: its messages go out while somebody has joined, and questions are answered."""

from __future__ import annotations

import logging
from collections.abc import Callable

from streamcodec.protocol import Gap, Packet, StreamEnd
from streamcodec.server.cluster.questions import Moved, NodeAnswer, NodeQuestion, StreamState, Told
from streamcodec.server.fanout.entry import FanOutEntry
from streamcodec.server.fanout.fan_out import FanOut
from streamcodec.server.info import StreamInfo

__all__ = ["JOINED_S", "OriginEntry", "OriginTable"]

JOINED_S = 7.0
"""A node that has not said for so long that it wants a stream's messages gets them no longer."""
_AFTER_MOVE_S = 3.0  # whoever followed the stream at its last origin has not joined yet

log = logging.getLogger("streamcodec.server")

Publishing = Callable[[bytes], None]


class OriginEntry:
    """A `FanOutEntry` before `behind`, from which a stream's messages also go to `publish` while a node has joined.

    `clock` tells seconds.
    """

    def __init__(
        self,
        info: StreamInfo,
        fan_out: FanOut,
        behind: FanOutEntry,
        publish: Publishing,
        clock: Callable[[], float],
    ) -> None:
        self.info = info
        self.fan_out = fan_out
        self.followers: dict[str, float] = {}  # by node, until when
        self.gone_to: str | None = None
        self.published = 0
        self._behind = behind
        self._publish = publish
        self._clock = clock
        self._end: StreamEnd | None = None
        self._always_until = 0.0

    @property
    def recorded(self) -> bool:
        return self._behind.recorded

    @property
    def lives(self) -> bool:
        """Whether the stream is here and goes on."""
        return self._end is None and self.gone_to is None

    def packet(self, packet: Packet, frames: int) -> None:
        self._behind.packet(packet, frames)
        if self.followers or self._always_until:
            self._send(packet)

    def gap(self, gap: Gap) -> None:
        self._behind.gap(gap)
        self._send(gap)

    def epoch(self, reason: str) -> None:
        self._behind.epoch(reason)
        self._send(self.fan_out.beginning(reason))

    def expect_burst(self) -> None:
        self._behind.expect_burst()

    def moved(self) -> None:
        self._behind.moved()

    def end(self, message: StreamEnd, finished: Callable[[], None]) -> None:
        self._end = message
        self._behind.end(message, finished)
        self._send(message)

    def announce(self, node: str) -> None:
        """Tell whoever follows the stream that this node has it now."""
        self._always_until = self._clock() + _AFTER_MOVE_S
        self._publish(Moved(node).serialize())

    # Questions -----------------------------------------------------------------------------------------------------------------------

    def answer(self, question: NodeQuestion) -> NodeAnswer:
        """The answer to `join` or `leave`."""
        if self.gone_to is not None:
            return NodeAnswer("moved", node=self.gone_to)
        if question.kind == "leave":
            self.followers.pop(question.node, None)
            return NodeAnswer("ok")
        if question.next_seq is None and self._end is not None:
            return NodeAnswer("unknown")  # who has nothing of it yet has nothing to wait for
        self.renew(question.node)
        here = self.fan_out.numbering
        first_seq = self.fan_out.beginning("").first_seq
        state = StreamState(self.info, here.epoch, first_seq, here.next_seq)
        return NodeAnswer("ok", state=state, messages=tuple(self._since(question, first_seq)))

    def renew(self, node: str) -> None:
        """A node wants the stream's messages for a while."""
        if self.lives:
            self.followers[node] = self._clock() + JOINED_S

    def forget(self, node: str | None = None) -> None:
        """Forget a node that is gone, and those that have not asked for too long."""
        now = self._clock()
        self.followers = {one: until for one, until in self.followers.items() if until > now and one != node}
        if self._always_until < now:
            self._always_until = 0.0

    def _since(self, question: NodeQuestion, first_seq: int) -> list[Told]:
        history: list[Told] = list(self.fan_out.codes.history.entries)
        if question.next_seq is not None:
            history = [entry for entry in history if _next(entry) > question.next_seq]
            if question.epoch != self.fan_out.numbering.epoch or question.next_seq < first_seq:
                history.insert(0, self.fan_out.beginning(""))
        return history if self._end is None else [*history, self._end]

    def _send(self, message: Told) -> None:
        if self.followers or self._always_until:
            self.published += 1
            self._publish(message.serialize())


class OriginTable:
    """The streams of this node that others may ask for, by session: those that are over are kept for `keep_s` by whoever adds them."""

    def __init__(self) -> None:
        self.entries: dict[str, OriginEntry] = {}
        self._published = 0

    @property
    def published(self) -> int:
        """Messages that went to other nodes."""
        return self._published + sum(entry.published for entry in self.entries.values())

    def remove(self, entry: OriginEntry) -> None:
        """Forget a stream, unless it has come back since."""
        if self.entries.get(entry.fan_out.session) is entry:
            del self.entries[entry.fan_out.session]
            self._published += entry.published

    @property
    def num_joined(self) -> int:
        """Pairs of a stream and a node that has joined it."""
        return sum(len(entry.followers) for entry in self.entries.values())

    def answer(self, question: NodeQuestion) -> NodeAnswer:
        """The answer to any question about streams but `give`."""
        if question.kind == "alive":
            reached = []
            for session in question.sessions:
                # One that is over or elsewhere is not named, so that who follows it asks.
                if (entry := self.entries.get(session)) is not None and entry.lives:
                    entry.renew(question.node)
                    reached.append((session, entry.fan_out.numbering.next_seq))
            return NodeAnswer("ok", reached=tuple(reached))
        entry = self.entries.get(question.session)
        return NodeAnswer("unknown") if entry is None else entry.answer(question)

    def forget(self, node: str | None = None) -> None:
        """Forget a node that is gone, and those that have not asked for too long."""
        for entry in self.entries.values():
            entry.forget(node)


def _next(entry: Told) -> int:
    return entry.seq + 1 if isinstance(entry, Packet) else entry.next_seq if isinstance(entry, (Gap, StreamEnd)) else entry.first_seq
