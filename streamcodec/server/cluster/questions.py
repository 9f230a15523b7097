"""What nodes ask each other about a stream, and how they answer, as bytes; this file knows neither a bus nor a stream's life.

A question is one msgpack map. An answer is a map and the messages that belong to it, each as it is on the wire, with its length before it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from streamcodec.errors import ProtocolError
from streamcodec.protocol import Gap, Message, Packet, StreamEnd, StreamStart, parse
from streamcodec.protocol.fields import shown
from streamcodec.protocol.messages import MAX_EPOCH, MAX_SEQ
from streamcodec.protocol.unpacking import pack, unpack
from streamcodec.server.cluster.records import RecordError
from streamcodec.server.info import StreamInfo

__all__ = ["Moved", "NodeAnswer", "NodeQuestion", "StreamState", "Told", "read_live", "read_parts", "with_length"]

_MOST_BYTES = 1 << 19
"""Of an answer: a bus carries messages of 1 MiB as a rule."""
_LENGTH = struct.Struct(">I")
_KINDS = ("join", "alive", "leave", "give")
Told = Packet | Gap | StreamStart | StreamEnd
"""What a stream's listeners are told, and so what nodes tell each other of it."""


@dataclass(frozen=True)
class Moved:
    """The stream has another origin from now on: that node."""

    node: str

    def serialize(self) -> bytes:
        """The message's bytes."""
        return pack({"type": "moved", "node": self.node})


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
        if isinstance(value, dict) and value.get("type") == "moved" and isinstance(node := value.get("node"), str):
            return Moved(node)
    return parse(data)


@dataclass(frozen=True)
class NodeQuestion:
    """A question of `node` to the origin of a stream.

    `join`: what is the stream, and let its messages come for a while; from `next_seq` of `epoch` on they are wanted (None: all that is
    kept). `alive`: how far are these `sessions`; they are wanted still. `leave`: its messages are
    wanted no longer. `give`: the stream's publisher, who has this `secret`, goes on at the node that asks.
    """

    kind: Literal["join", "alive", "leave", "give"]
    node: str
    session: str = ""
    next_seq: int | None = None
    epoch: int = 0
    sessions: tuple[str, ...] = ()
    secret: str = ""

    def pack(self) -> bytes:
        """The question's bytes."""
        return pack(asdict(self))

    @classmethod
    def parse(cls, data: bytes) -> NodeQuestion:
        """The question that `data` is. Raises `RecordError`."""
        try:
            value = unpack(data)
        except ProtocolError as exc:
            raise RecordError(f"a node's question is none: {exc}") from exc
        if not isinstance(value, dict):
            raise RecordError(f"a node's question is {shown(value)}, expected a map")
        found = {one.name: value[one.name] for one in fields(cls) if one.name in value}
        sessions = found.get("sessions", [])
        texts = [found.get(name, "") for name in ("kind", "node", "session", "secret")]
        if not isinstance(sessions, list) or not all(isinstance(text, str) and len(text) <= 256 for text in (*texts, *sessions)):
            raise RecordError("a node's question has other values than texts where texts were expected")
        if found.get("kind") not in _KINDS or not found.get("node"):
            raise RecordError(f"a node's question is {shown(found.get('kind'))}, expected one of {', '.join(_KINDS)}, and who asks")
        next_seq, epoch = found.get("next_seq"), found.get("epoch", 0)
        if (next_seq is not None and not _whole(next_seq, MAX_SEQ + 1)) or not _whole(epoch, MAX_EPOCH):
            raise RecordError(f"a node asks from number {shown(next_seq)} of epoch {shown(epoch)} on")
        return cls(**{**found, "sessions": tuple(sessions)})


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
        state = None if self.state is None else {**asdict(self.state), "info": asdict(self.state.info)}
        head = pack({"kind": self.kind, "node": self.node, "state": state, "reached": [list(one) for one in self.reached]})
        size, taken = len(head), list[bytes]()
        for message in reversed(self.messages):
            data = message.serialize()
            if (size := size + len(data) + _LENGTH.size) > _MOST_BYTES:
                break
            taken.append(data)
        return with_length([head, *reversed(taken)])

    @classmethod
    def parse(cls, data: bytes) -> NodeAnswer:
        """The answer that `data` is. Raises `RecordError`."""
        head, *rest = read_parts(data)
        messages = []
        for part in rest:
            if isinstance(message := read_live(part), Moved):
                raise RecordError("a node's answer has 'moved' among its messages")
            messages.append(message)
        try:
            value: Any = unpack(head)
            state = value["state"]
            return cls(
                kind=value["kind"],
                node=str(value["node"]),
                state=None if state is None else StreamState(**{**state, "info": StreamInfo(**state["info"])}),
                messages=tuple(messages),
                reached=tuple((str(session), int(next_seq)) for session, next_seq in value["reached"]),
            )
        except (ProtocolError, LookupError, TypeError, ValueError) as exc:
            raise RecordError(f"a node's answer makes no sense: {exc}") from exc


@dataclass(frozen=True)
class StreamState:
    """Where a stream is: the number of its next packet, its epoch, and the number with which that began."""

    info: StreamInfo
    epoch: int
    first_seq: int
    next_seq: int


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


def _whole(value: object, most: int) -> bool:
    return type(value) is int and 0 <= value <= most
