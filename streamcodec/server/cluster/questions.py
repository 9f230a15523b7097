"""What nodes ask each other about a stream, and how they answer, as bytes; this file knows neither a bus nor a stream's life.

A question is one msgpack map. An answer is a map and the messages that belong to it, each as it is on the wire, with its length before it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, ClassVar, Literal

from streamcodec.errors import LocalProtocolError, ProtocolError
from streamcodec.protocol import Gap, Message, Packet, StreamEnd, StreamStart, parse
from streamcodec.protocol.fields import Check, Checked, from_map, matching, secret, several, text, whole, word
from streamcodec.protocol.messages import MAX_SEQ, Epoch, NextSeq
from streamcodec.protocol.unpacking import MAX_ELEMENTS, pack, unpack
from streamcodec.server.cluster.records import SESSION, ClusterRecord, NodeId, RecordError
from streamcodec.server.info import StreamInfo

__all__ = ["Moved", "NodeAnswer", "NodeQuestion", "StreamState", "Told", "read_live", "read_parts", "with_length"]

_MOST_BYTES = 1 << 19
"""Of an answer: a bus carries messages of 1 MiB as a rule."""
_LENGTH = struct.Struct(">I")
_NEXT_SEQ = whole(0, MAX_SEQ + 1)
_AnySession = Annotated[str, secret(Check(f"nothing, or {SESSION.expected}", lambda value: value == "" or SESSION.accepts(value)))]
_Sessions = Annotated[tuple[str, ...], secret(several(SESSION, MAX_ELEMENTS))]
_Secret = Annotated[str, secret(text(0, 256))]
_Reached = Annotated[
    tuple[list[Any], ...],
    secret(
        several(
            Check(
                "a session and the number of its next packet",
                lambda value: isinstance(value, list) and len(value) == 2 and SESSION.accepts(value[0]) and _NEXT_SEQ.accepts(value[1]),
            ),
            MAX_ELEMENTS,
        )
    ),
]
Told = Packet | Gap | StreamStart | StreamEnd
"""What a stream's listeners are told, and so what nodes tell each other of it."""


@dataclass(frozen=True)
class Moved(Checked):
    """The stream has another origin from now on: that node."""

    node: NodeId

    type: ClassVar[str] = "moved"

    def serialize(self) -> bytes:
        """The message's bytes."""
        return pack({"type": self.type, "node": self.node})


def read_live(data: bytes) -> Told | Moved:
    """A message of a stream's subject. Raises `RecordError`."""
    try:
        message = _parsed(data)
    except ProtocolError as exc:
        raise RecordError(f"a node has sent what is no message: {exc}") from exc
    if not isinstance(message, (Packet, Gap, StreamStart, StreamEnd, Moved)):
        raise RecordError(f"a node has sent {message.type!r}, expected what a stream's listeners are told")
    return message


def _parsed(data: bytes) -> Message | Moved:
    if len(data) < 256 and data[:1] >= b"\x80" and data[:1] < b"\x90":
        value = unpack(data)
        if isinstance(value, dict) and value.get("type") == Moved.type:
            return from_map(Moved, value)
    return parse(data)


@dataclass(frozen=True)
class NodeQuestion(ClusterRecord):
    """A question of `node` to the origin of a stream.

    `join`: what is the stream, and let its messages come for a while; from `next_seq` of `epoch` on they are wanted (None: all that is
    kept). `alive`: how far are these `sessions`; they are wanted still. `leave`: its messages are
    wanted no longer. `give`: the stream's publisher, who has this `secret`, goes on at the node that asks.
    """

    kind: Annotated[Literal["join", "alive", "leave", "give"], word("join", "alive", "leave", "give")]
    node: NodeId
    session: _AnySession = ""
    next_seq: NextSeq | None = None
    epoch: Epoch = 0
    sessions: _Sessions = ()
    secret: _Secret = ""

    type: ClassVar[str] = "question"


@dataclass(frozen=True)
class StreamState(Checked):
    """Where a stream is: the number of its next packet, its epoch, and the number with which that began."""

    info: StreamInfo
    epoch: Epoch
    first_seq: NextSeq
    next_seq: NextSeq

    type: ClassVar[str] = "state"

    def _check_together(self) -> None:
        if self.first_seq > self.next_seq:
            raise LocalProtocolError(f"state: first_seq is {self.first_seq}, expected at most {self.next_seq}, which is next_seq")


@dataclass(frozen=True)
class _AnswerHead(ClusterRecord):
    """An answer without the messages that belong to it."""

    kind: Annotated[Literal["ok", "unknown", "moved"], word("ok", "unknown", "moved")]
    node: Annotated[str, matching(r"[A-Za-z0-9_-]{0,64}", "at most 64 of A-Z a-z 0-9 _ -")]
    state: StreamState | None
    reached: _Reached

    type: ClassVar[str] = "answer"

    def _check_together(self) -> None:
        if self.kind == "moved" and not self.node:
            raise LocalProtocolError("answer: the stream has moved, and node is empty")


@dataclass(frozen=True)
class NodeAnswer:
    """`kind` is `ok`, `unknown` or `moved` (to `node`); `state` and `messages` answer `join`, `reached` answers `alive`."""

    kind: Literal["ok", "unknown", "moved"]
    node: str = ""
    state: StreamState | None = None
    messages: tuple[Told, ...] = ()
    reached: tuple[tuple[str, int], ...] = ()

    def pack(self) -> bytes:
        """The answer's bytes; where they would be too many, the oldest packets are left out."""
        state = None if self.state is None else asdict(self.state)
        head = pack({"kind": self.kind, "node": self.node, "state": state, "reached": [list(one) for one in self.reached]})
        size, taken = len(head) + _LENGTH.size, list[bytes]()
        for message in reversed(self.messages):
            data = message.serialize()
            if (size := size + len(data) + _LENGTH.size) > _MOST_BYTES:
                break
            taken.append(data)
        return with_length([head, *reversed(taken)])

    @classmethod
    def parse(cls, data: bytes) -> NodeAnswer:
        """The answer that `data` is. Raises `RecordError`."""
        if len(data) > _MOST_BYTES:
            raise RecordError(f"a node's answer has {len(data)} bytes, expected at most {_MOST_BYTES}")
        first, *rest = read_parts(data)
        head = _AnswerHead.parse(first)
        messages = []
        for part in rest:
            if isinstance(message := read_live(part), Moved):
                raise RecordError("a node's answer has 'moved' among its messages")
            messages.append(message)
        reached = tuple((session, next_seq) for session, next_seq in head.reached)
        return cls(head.kind, head.node, head.state, tuple(messages), reached)


def with_length(parts: Iterable[bytes]) -> bytes:
    """Pieces of bytes as one."""
    return b"".join(_LENGTH.pack(len(part)) + part for part in parts)


def read_parts(data: bytes) -> Sequence[bytes]:
    """The pieces that `with_length` has joined, at least one. Raises `RecordError`."""
    parts, at = [], 0
    while at < len(data):
        if len(data) - at < _LENGTH.size:
            raise RecordError("a node's answer breaks off")
        [size] = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        if size > len(data) - at:
            raise RecordError(f"a node's answer breaks off: {len(data) - at} bytes are left, expected {size}")
        parts.append(data[at : at + size])
        at += size
    if not parts:
        raise RecordError("a node's answer is empty")
    return parts
