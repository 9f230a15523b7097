r"""Whose turn it is: both ends of a connection as state machines that know messages, not sockets, and no clock.

Three verbs: `feed` takes one WebSocket message and returns what it means, methods queue messages, `data_to_send` hands them over.
Both ends keep the same books: each applies every message, sent or received, to one table of legal transitions and one count of
sequence numbers. A message that breaks them is a `LocalProtocolError` where it is sent and a `RemoteProtocolError` where it arrives.

        HELLO ---hello---> PUBLISH_ASKED ---welcome---> PUBLISHING ---end---> DRAINING ---ended---> CLOSED
          \----hello---> LISTEN_ASKED ----welcome---> WAITING <---start / stream_end---> STREAMING
"""

from __future__ import annotations

from streamcodec.config import MAX_PACKET_FRAMES
from streamcodec.errors import LocalProtocolError, RemoteProtocolError, WireCode
from streamcodec.protocol.clock import TIMESTAMP_MODULUS
from streamcodec.protocol.messages import (
    MAX_EPOCH,
    MAX_TEXT,
    End,
    Ended,
    Error,
    Gap,
    ListenHello,
    Message,
    Packet,
    Ping,
    Pong,
    PublishHello,
    Refuse,
    Report,
    StreamEnd,
    StreamStart,
    Waiting,
    Welcome,
    parse,
)
from streamcodec.protocol.payloads import PayloadRule
from streamcodec.protocol.transitions import LEGAL, TRANSITIONS, Side, State

__all__ = ["ClientSession", "ServerSession"]

NORMAL_CLOSURE = 1000


class _Session:
    """One end. `next_seq` and `epoch` are the next packet's, once `welcome` (publisher) or `start` (listener) has set them.

    `close_code` is what to close the WebSocket with, None while the session is open.
    """

    _side: Side
    _peer: Side

    def __init__(self) -> None:
        self.state = State.HELLO
        self._enter(State.HELLO)
        self.hello: PublishHello | ListenHello | None = None
        self.welcome: Welcome | None = None
        self.start: StreamStart | None = None
        self.next_seq = 0
        self.epoch = 0
        self.close_code: int | None = None
        self._epoch_is_over = False
        self._payloads: PayloadRule | None = None
        self._outgoing: list[bytes] = []

    def feed(self, data: bytes | str) -> list[Message]:
        """Take one WebSocket message; returns the messages it holds: one, or none once the session is closed.

        What a peer sent before it learned of the end is not an error, so a closed session ignores all that comes. Raises
        `RemoteProtocolError` for what the protocol does not allow: then the answer to it is queued and the session is closed.
        """
        if self.state is State.CLOSED:
            return []
        try:
            if isinstance(data, str):
                raise RemoteProtocolError(WireCode.BAD_MESSAGE, f"a text message of {len(data)} characters, expected binary messages only")
            message = parse(data)
            self._apply(message, self._peer)
        except RemoteProtocolError as exc:
            self.fail(exc)
            raise
        return [message]

    def data_to_send(self) -> list[bytes]:
        """The WebSocket messages queued since the last call, each to be sent as one binary message."""
        outgoing, self._outgoing = self._outgoing, []
        return outgoing

    def fail(self, exc: BaseException) -> int:
        """Close for `exc`, telling the peer why; returns the code to close the WebSocket with.

        A `RemoteProtocolError` is told as it is; anything else is our fault and told as an internal error, without details.
        On a closed session nothing is queued and the first close code stays.
        """
        if self.close_code is not None:
            return self.close_code
        told = exc if isinstance(exc, RemoteProtocolError) else RemoteProtocolError(WireCode.INTERNAL, "internal error")
        self._give_up(told)
        return told.code.close_code

    def _give_up(self, exc: RemoteProtocolError) -> None:
        self._send(Error(code=exc.code, reason=_clipped(exc.reason), go_to=exc.go_to))

    def _send(self, message: Message) -> None:
        data = message.serialize()
        try:
            self._apply(message, self._side)
        except RemoteProtocolError as exc:
            raise LocalProtocolError(exc.reason) from None
        self._outgoing.append(data)

    def _apply(self, message: Message, sender: Side) -> None:
        after = (self._may_send if sender is self._side else self._may_come).get(type(message))
        if after is None:
            raise RemoteProtocolError(WireCode.OUT_OF_TURN, f"the {sender} sent {message.type!r}, not allowed while {self.state}")
        match message:
            case Packet():
                self._take_packet(message)
            case Gap():
                self._take_gap(message, sender)
            case PublishHello() | ListenHello():
                self.hello = message
            case Welcome():
                self._take_welcome(message)
            case StreamStart():
                self._take_start(message)
            case StreamEnd():
                self._expect_seq("stream_end: next_seq", message.next_seq)
            case End():
                self._take_end(message)
            case Ended():
                self.close_code = NORMAL_CLOSURE
            case Refuse() | Error():
                self.close_code = _close_code(message.code)
            case Waiting() | Report() | Ping() | Pong():
                pass
        if after is not self.state:
            self._enter(after)

    @property
    def streamed(self) -> bool:
        """Whether a stream runs for this listener, or did until the session was closed."""
        return (self._before if self.state is State.CLOSED else self.state) is State.STREAMING

    def _enter(self, state: State) -> None:
        self._before = self.state
        self.state = state
        self._may_send, self._may_come = LEGAL[state, self._side], LEGAL[state, self._peer]

    def _take_welcome(self, welcome: Welcome) -> None:
        hello = self.hello
        assert hello is not None
        for name in ("role", "stream", "format"):
            said, asked = getattr(welcome, name), getattr(hello, name)
            if said != asked:
                raise RemoteProtocolError(WireCode.BAD_REQUEST, f"welcome: {name} is {said!r}, expected {asked!r} as in the hello")
        if hello.model not in (None, welcome.model.fingerprint):
            raise RemoteProtocolError(
                WireCode.MODEL_MISMATCH, f"welcome: the model is {welcome.model.fingerprint!r}, expected {hello.model!r} as in the hello"
            )
        self.welcome = welcome
        self.next_seq, self.epoch = welcome.next_seq or 0, welcome.epoch or 0
        if isinstance(hello, PublishHello):
            self._payloads = PayloadRule.of_publisher(hello, welcome)

    def _take_start(self, start: StreamStart) -> None:
        assert self.welcome is not None
        if start.format != self.welcome.format:
            raise RemoteProtocolError(WireCode.BAD_REQUEST, f"start: format is {start.format!r}, expected {self.welcome.format!r}")
        if start.packet_frames > MAX_PACKET_FRAMES and self.welcome.model.chunk_length is None:
            raise RemoteProtocolError(
                WireCode.BAD_REQUEST, f"start: packet_frames is {start.packet_frames}, expected at most {MAX_PACKET_FRAMES} without chunks"
            )
        if start.start == "continued":
            self._check_continued(start)
        elif self.state is State.STREAMING:
            self._expect_seq("start: live_seq", start.live_seq)
        self.start, self.next_seq, self.epoch = start, start.first_seq, start.epoch
        self._payloads = PayloadRule.of_listener(self.welcome, start)

    def _check_continued(self, start: StreamStart) -> None:
        asked = self.hello.resume if self.hello is not None else None
        expected = None if asked is None or self.start is not None else (asked.session, asked.epoch, asked.next_seq)
        if (start.session, start.epoch, start.first_seq) != expected:
            raise RemoteProtocolError(WireCode.BAD_SEQUENCE, "start: it continues what the hello did not ask to resume")

    def _take_gap(self, gap: Gap, sender: Side) -> None:
        if sender is Side.SERVER and self.state is not State.STREAMING:
            assert self.welcome is not None
            first = self.welcome.next_seq or 0
            if not first <= gap.first_seq < gap.next_seq <= self.next_seq:
                raise RemoteProtocolError(
                    WireCode.BAD_SEQUENCE,
                    f"gap: packets {gap.first_seq} to {gap.next_seq - 1} are dropped, but {first} to {self.next_seq - 1} were sent",
                )
        else:
            self._expect_seq("gap: first_seq", gap.first_seq)
            self.next_seq = gap.next_seq

    def _take_end(self, end: End) -> None:
        assert self.welcome is not None
        last = self.next_seq - 1 if self.next_seq != self.welcome.next_seq else None
        # Of a stream that was resumed the last number may be of the connection before.
        resumed = last is None and self.hello is not None and self.hello.resume is not None
        if end.last_seq != last and not (resumed and end.last_seq == self.next_seq - 1):
            raise RemoteProtocolError(WireCode.BAD_SEQUENCE, f"end: last_seq is {end.last_seq}, expected {last}")

    def _expect_seq(self, what: str, seq: int) -> None:
        if seq != self.next_seq:
            fault = f"{seq - self.next_seq} are missing without a gap message" if seq > self.next_seq else "numbers never go back"
            raise RemoteProtocolError(WireCode.BAD_SEQUENCE, f"{what} is {seq}, expected {self.next_seq}: {fault}")

    def _take_packet(self, packet: Packet) -> None:
        publishing = self.state is State.PUBLISHING
        self._expect_seq("packet: seq", packet.seq)
        new_epoch = packet.epoch != self.epoch
        if new_epoch and not (publishing and packet.epoch == _following(self.epoch)):
            expected = f"{self.epoch} or {_following(self.epoch)}" if publishing else f"{self.epoch} until a start message"
            raise RemoteProtocolError(WireCode.BAD_SEQUENCE, f"packet {packet.seq}: epoch is {packet.epoch}, expected {expected}")
        if publishing and self._epoch_is_over and not new_epoch:
            raise RemoteProtocolError(
                WireCode.BAD_PAYLOAD, f"packet {packet.seq} follows a short packet in epoch {self.epoch}, expected a new epoch or the end"
            )
        assert self._payloads is not None
        short = self._payloads.check(packet)
        self.next_seq, self.epoch, self._epoch_is_over = packet.seq + 1, packet.epoch, short


class ServerSession(_Session):
    """The server's end of one connection; answer a hello with `accept` or `refuse`."""

    _side = Side.SERVER
    _peer = Side.CLIENT

    def accept(self, welcome: Welcome) -> None:
        """Say yes to the hello."""
        self._send(welcome)

    def refuse(
        self, code: WireCode, reason: str, retry: bool | None = None, retry_after_ms: int | None = None, go_to: str | None = None
    ) -> int:
        """Say no to the hello, or to a peer that has not sent one; returns the code to close the WebSocket with."""
        retry = code.retry if retry is None else retry
        self._send(Refuse(code=code, reason=_clipped(reason), retry=retry, retry_after_ms=retry_after_ms, go_to=go_to))
        return code.close_code

    def fail(self, exc: BaseException) -> int:
        """As any end does; a client that does not know `moved` is told `server_closing`, which it knows."""
        if isinstance(exc, RemoteProtocolError) and exc.code is WireCode.MOVED and not (self.hello is not None and self.hello.can_move):
            code = WireCode.SERVER_CLOSING
            exc = RemoteProtocolError(code, exc.reason, exc.retry_after_ms, resumable=exc.resumable, go_to=exc.go_to)
        return super().fail(exc)

    @property
    def takes_reports(self) -> bool:
        """Whether the client may send a report now; reports change nothing here, so one that it may send need not be fed."""
        return Report in self._may_come

    def send(self, message: Message) -> None:
        """Queue any message that a server may send now."""
        self._send(message)

    def relay(self, packet: Packet) -> bytes:
        """Account for the stream's next packet and return its bytes, which the caller sends at once; nothing else may be queued."""
        rule = self._payloads
        if self.state is State.STREAMING and packet.seq == self.next_seq and packet.epoch == self.epoch and rule and rule.last is packet:
            self.next_seq += 1  # its payload was checked for another listener of the same stream
            return packet.serialize()
        self._send(packet)
        return self._outgoing.pop()

    def _give_up(self, exc: RemoteProtocolError) -> None:
        if (self.state, self._side, Refuse) in TRANSITIONS:
            self.refuse(exc.code, exc.reason, retry_after_ms=exc.retry_after_ms, go_to=exc.go_to)
        else:
            super()._give_up(exc)


class ClientSession(_Session):
    """A client's end of one connection; the hello is queued from the start."""

    _side = Side.CLIENT
    _peer = Side.SERVER

    def __init__(self, hello: PublishHello | ListenHello) -> None:
        super().__init__()
        self._send(hello)

    def send_packet(self, payload: bytes, timestamp: int, new_epoch: bool = False, n_q: int | None = None) -> Packet:
        """Queue the publisher's next packet and return it: sequence number and epoch are filled in.

        `timestamp` is the server's clock, microseconds, when the first sample was captured (see `ClockEstimate.to_server`);
        `new_epoch` says that the encoder started afresh with this packet. `n_q` is how many codebooks it has: the welcome's where None.
        """
        if n_q is None:
            coded = self.hello is not None and self.hello.format == "codes"
            n_q = (self.welcome.n_q or 0) if self.welcome is not None and coded else 0
        epoch = _following(self.epoch) if new_epoch else self.epoch
        packet = Packet(self.next_seq, epoch, timestamp % TIMESTAMP_MODULUS, n_q, payload)
        self._send(packet)
        return packet

    def send_gap(self, count: int, reason: str) -> None:
        """Say that the next `count` packets of this publisher will never come."""
        self._send(Gap(first_seq=self.next_seq, count=count, reason=_clipped(reason)))

    def end(self) -> None:
        """Say that the publisher is done; the server answers `ended`."""
        unused = self.welcome is None or self.next_seq == self.welcome.next_seq
        self._send(End(last_seq=None if unused else self.next_seq - 1))

    def report(self, report: Report) -> None:
        """Say how this listener fares."""
        self._send(report)

    def ping(self, time: int) -> None:
        """Ask for the server's time; `time` is ours in microseconds and comes back in the pong."""
        self._send(Ping(time=time))


def _following(epoch: int) -> int:
    return (epoch + 1) % (MAX_EPOCH + 1)


def _close_code(code: str) -> int:
    """The close code of a word; one that this version does not know closes normally."""
    return next((known.close_code for known in WireCode if known == code), NORMAL_CLOSURE)


def _clipped(reason: str) -> str:
    return reason.encode(errors="replace")[:MAX_TEXT].decode(errors="ignore")
