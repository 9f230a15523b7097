"""A stream of another node as it is heard at this one: its messages come over the bus, in the origin's numbers, into a fan-out here."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from streamcodec.errors import InputError
from streamcodec.protocol import Gap, Packet, PayloadLayout, StreamEnd
from streamcodec.scheduler.worker import Worker
from streamcodec.server.capacity.load_model import Kind
from streamcodec.server.cluster.bus import Bus, BusError, Subscription
from streamcodec.server.cluster.fetching import Fetching
from streamcodec.server.cluster.follower import MAX_HELD, Follower
from streamcodec.server.cluster.questions import Moved, NodeAnswer, NodeQuestion, StreamState, Told, read_live
from streamcodec.server.cluster.records import RecordError
from streamcodec.server.cluster.subjects import Subjects
from streamcodec.server.fanout.events import StreamEvents
from streamcodec.server.fanout.fan_out import FanOut, FanOutState
from streamcodec.server.fanout.fitting import check_history, fitting_frames
from streamcodec.server.feeder import Feeder
from streamcodec.server.info import Numbering, StreamInfo
from streamcodec.server.limits import Limits

__all__ = ["HELD_S", "JOIN_S", "LinkOwner", "LinkTools", "StreamLink", "ask_node"]

JOIN_S = 1.0
"""An origin that has not said by then what its stream is counts as gone."""
HELD_S = 2.0
"""So long messages are held back for what is missing before them; then that is a gap."""
_MOST_MOVES = 4
_YOUNG_S = 2.0

log = logging.getLogger("streamcodec.server")


class LinkOwner(Protocol):
    """What a link reports to."""

    def packet_waited(self, now_s: float, wait_s: float) -> None:
        """A live packet that was decoded now has waited for the machine; both are seconds on the server's clock."""

    def decoder_closed(self, stream: Feeder) -> None:
        """The stream is not decoded any longer."""

    def origin_unknown(self, link: StreamLink) -> None:
        """The node that should have the stream says that it has none."""

    def link_gone(self, link: Feeder) -> None:
        """Nothing more comes of the stream, and all of it has gone to its listeners."""


@dataclass(frozen=True)
class LinkTools:
    """What all links of a node share. `lost` counts packets that were lost between nodes."""

    bus: Bus
    subjects: Subjects
    node: str
    worker: Worker
    limits: Limits
    owner: LinkOwner
    lost: Callable[[int], None]


class StreamLink:
    """A `Feeder` that follows the stream with `session`, whose origin is `node`.

    `open` joins it and makes the fan-out, which `catch_up` begins to feed. A `fan_out` that something else has fed until now goes on where
    it is, see `follow`.
    """

    def __init__(self, tools: LinkTools, name: str, session: str, node: str, fan_out: FanOut | None = None) -> None:
        self.name = name
        self.session = session
        self.origin = node
        self.node: str | None = node  # None: the origin is gone, and nobody knows yet whether the stream goes on elsewhere
        self.unused_since: float | None = None
        self._tools = tools
        self._held: list[Told] = []
        self._caught_up = fan_out is not None
        self._follower: Follower | None = None
        self._subscription: Subscription | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self._ending = False
        self._closed = False
        self._giving_up: asyncio.TimerHandle | None = None  # there while something is held back
        bus, limits = tools.bus, tools.limits
        self._fetching = Fetching(self._ask, lambda: bus.connected, max(limits.history_s, limits.resume_s), self._fetched)
        self._info: StreamInfo
        self._fan_out: FanOut
        if fan_out is not None:
            fan_out.report_to(self._events())
            self._subscription = tools.bus.subscribe(tools.subjects.live(session), self._take, max_waiting=MAX_HELD)
            self._feed(fan_out)

    # What a feeder is ----------------------------------------------------------------------------------------------------------------

    @property
    def info(self) -> StreamInfo:
        return self._info

    @property
    def fan_out(self) -> FanOut:
        return self._fan_out

    @property
    def decoding(self) -> bool:
        return self._fan_out.pcm.decoder is not None

    @property
    def needs(self) -> list[tuple[Kind, int]]:
        return [("decode", self._info.packet_frames)] if self.decoding else []

    @property
    def ending(self) -> bool:
        return self._ending

    # Its life ------------------------------------------------------------------------------------------------------------------------

    async def open(self) -> bool:
        """Join the stream; returns False where no node has it. Raises `BusError`."""
        tools = self._tools
        # Subscribed before it joins: what comes between is held until it is known what came before.
        self._subscription = tools.bus.subscribe(tools.subjects.live(self.session), self._take, max_waiting=MAX_HELD)
        try:
            await tools.bus.flush()
            answer = await self._ask(None, JOIN_S)
        except BaseException:
            self.close()
            raise
        if answer.state is None:
            self.close()
            return False
        try:
            self._begin(answer.state, answer.messages)
        except InputError as exc:
            self.close()
            raise BusError(f"what the node of {self.name} says of it does not fit: {exc}") from exc
        return True

    def catch_up(self) -> None:
        """Take what came before there were listeners."""
        held, self._held = self._held, []
        self._caught_up = True
        for message in held:
            self._follow_on(message)

    def follow(self, node: str) -> None:
        """The stream's origin is that node from now on."""
        if self._closed or self._ending:
            return
        self.node = self.origin = node
        if self._follower is not None:
            self._fan_out.expect_burst()
            self._look_anew()

    def origin_gone(self, expired: Callable[[], None]) -> None:
        """The origin is gone: call `expired` where no node has the stream within the time in which its publisher may resume."""
        self.node = None
        if self._expiry is None and not self._ending:
            self._expiry = asyncio.get_running_loop().call_later(self._tools.limits.resume_s, expired)

    def look(self) -> None:
        """Ask the origin for the stream, as it does not say that it has it."""
        if self._follower is not None and self.node is not None:
            self._follower.look()

    def bus_back(self) -> None:
        """Messages were lost while the bus was gone. The origin may find it again a moment later than this node."""
        if self._giving_up is not None:  # only now there may be an answer
            self._giving_up.cancel()
            self._giving_up = None
            self._look_at_held()
        if self.node is not None:
            self._look_anew()

    def reached(self, next_seq: int) -> None:
        """The origin says that it has come so far."""
        if self._follower is not None:
            self._follower.reached(next_seq)

    def end(self, reason: str) -> None:
        """End the stream for its listeners here."""
        if self._follower is not None:
            self._follower.end(reason)

    def close(self) -> None:
        """Take nothing more of the stream, and leave its fan-out as it is."""
        self._closed = True
        if self._subscription is not None:
            self._subscription.close()
            self._subscription = None
        self._settled()
        self._fetching.stop()
        if self._giving_up is not None:
            self._giving_up.cancel()
            self._giving_up = None

    # -------------------------------------------------------------------------------------------------------------------------------

    def _settled(self) -> None:
        """The origin is there."""
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None

    def _begin(self, state: StreamState, messages: tuple[Told, ...]) -> None:
        tools, self._info = self._tools, state.info
        history = tuple(one for one in messages if isinstance(one, (Packet, Gap)))
        config, most_n_q = tools.worker.engine.config, tools.worker.engine.config.num_quantizers
        if state.info.name != self.name or state.info.n_q > most_n_q:
            raise InputError(f"it is {state.info.name} with {state.info.n_q} codebooks, expected {self.name} with at most {most_n_q}")
        layout = PayloadLayout.of(config)
        check_history(history, state.info, layout, epoch=state.epoch, first_seq=state.first_seq, next_seq=state.next_seq)
        numbering, first = Numbering(state.epoch, state.next_seq), history[0] if history else None
        if isinstance(first, Packet) and first.seq == state.first_seq == 0 and state.next_seq * state.info.packet_s <= _YOUNG_S:
            # It has just begun: who has waited for it hears it from its first packet on, in PCM too.
            self._held, history, numbering.next_seq = [*history, *self._held], (), 0
        saved = FanOutState(self.session, state.first_seq, history, None, ())
        self._feed(FanOut(state.info, numbering, self._events(), tools.worker, tools.limits, saved))

    def _feed(self, fan_out: FanOut) -> None:
        self._fan_out, self._info = fan_out, fan_out.info
        layout = PayloadLayout.of(self._tools.worker.engine.config)
        self._follower = Follower(
            fan_out,
            fan_out.numbering,
            partial(self._frames_of, layout=layout),
            ask=self._fetching.ask,
            lost=self._tools.lost,
            ended=self._end_with,
        )

    def _frames_of(self, packet: Packet, layout: PayloadLayout) -> int | None:
        try:
            return fitting_frames(packet, self._info, layout)
        except InputError as exc:
            log.warning("%s: a packet of its node is left out: %s", self.name, exc)
            return None

    def _events(self) -> StreamEvents:
        owner = self._tools.owner

        def broke(exc: Exception) -> None:
            log.error("%s, a stream of another node, cannot be decoded any longer", self.name, exc_info=exc)

        return StreamEvents(
            progressed=lambda: None,
            waited=lambda now, wait_s: owner.packet_waited(now / 1e6, wait_s),
            undecoded=lambda count: None,  # noqa: ARG005
            decoder_closed=lambda: owner.decoder_closed(self),
            broke=broke,
        )

    def _take(self, data: bytes) -> None:
        try:
            message = read_live(data)
        except RecordError as exc:
            log.warning("%s: %s", self.name, exc)
            return
        if isinstance(message, Moved):
            if message.node != self._tools.node:
                self.follow(message.node)
        elif self._follower is not None and self._caught_up:
            self._follow_on(message)
        elif len(self._held) < MAX_HELD:
            self._held.append(message)

    def _follow_on(self, message: Told) -> None:
        if self._follower is not None:
            self._follower.take(message)
            self._look_at_held()

    def _look_at_held(self) -> None:
        """What is held back makes listeners wait: that is bounded, while nothing else is."""
        if self._closed or self._follower is None or not self._follower.holds:
            if self._giving_up is not None:
                self._giving_up.cancel()
                self._giving_up = None
        elif self._giving_up is None:
            self._giving_up = asyncio.get_running_loop().call_later(HELD_S, self._give_up)

    def _give_up(self) -> None:
        self._giving_up = None
        if self._tools.bus.connected:
            self._fetching.stop()
            self._go_on(None, late=True)
        else:  # nothing that is newer comes either
            self._look_at_held()

    def _fetched(self, answer: NodeAnswer | None, late: bool) -> None:
        if answer is None or answer.kind == "unknown":
            self._go_on(None, late=late)
            if answer is not None:
                self._tools.owner.origin_unknown(self)
        else:
            self._settled()
            self._go_on(answer.messages, late=late)

    def _go_on(self, messages: tuple[Told, ...] | None, *, late: bool) -> None:
        assert self._follower is not None
        if late:
            self._fan_out.expect_burst()
        self._follower.answered(messages)
        self._look_at_held()

    def _look_anew(self) -> None:
        """Ask for what comes next, and do not wait for an answer to what was asked before."""
        if self._follower is not None and self._follower.asking:
            self._fetching.ask(self._fan_out.numbering.next_seq)
        else:
            self.look()

    async def _ask(self, next_seq: int | None, within_s: float) -> NodeAnswer:
        """The answer of the origin, wherever it went. Raises `BusError` where there is none now."""
        epoch = 0 if next_seq is None else self._fan_out.numbering.epoch
        for _ in range(_MOST_MOVES):
            if (node := self.node) is None:
                break
            question = NodeQuestion("join", self._tools.node, self.session, next_seq, epoch)
            answer = await ask_node(self._tools, node, question, within_s)
            if answer.kind != "moved":
                return answer
            if self.node == node:
                self.node = self.origin = answer.node
        raise BusError(f"no node has the stream {self.name}")

    def _end_with(self, message: StreamEnd) -> None:
        self._ending = True
        self.close()
        self._fan_out.end(message, self._all_sent)

    def _all_sent(self) -> None:
        self._fan_out.close()
        self._tools.owner.link_gone(self)


async def ask_node(tools: LinkTools, node: str, question: NodeQuestion, within_s: float) -> NodeAnswer:
    """A node's answer to a question. Raises `BusError`."""
    data = await tools.bus.ask(tools.subjects.node(node), question.pack(), within_s)
    try:
        return NodeAnswer.parse(data)
    except RecordError as exc:
        raise BusError(str(exc)) from exc
