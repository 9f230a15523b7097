"""What nodes write for one another into the stores, as values: checked when they are made and when they are read.

A record is a msgpack map. A reader ignores keys that it does not know, so nodes of two versions understand each other.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field, fields
from typing import Annotated, ClassVar, Self

from streamcodec.errors import LocalProtocolError, RemoteProtocolError, StreamCodecError
from streamcodec.protocol.fields import Check, Checked, between, flag, from_map, matching, secret, shown, text, whole
from streamcodec.protocol.messages import Address, Count, Fingerprint, StreamName
from streamcodec.protocol.unpacking import MAX_CONTROL_BYTES, pack, unpack

__all__ = ["SESSION", "Claim", "ClusterRecord", "NodeId", "NodeRecord", "RecordError", "new_node_id", "secret_hash"]

_HASH_BYTES = 32

NodeId = Annotated[str, matching(r"[A-Za-z0-9_-]{1,64}", "1 to 64 of A-Z a-z 0-9 _ -")]
SESSION = secret(matching(r"[A-Za-z0-9_-]{1,128}", "1 to 128 of A-Z a-z 0-9 _ -"))
"""A session is a part of subjects: nothing with a meaning for the bus is one."""
StreamSession = Annotated[str, SESSION]
SecretHash = Annotated[bytes, secret(Check(f"{_HASH_BYTES} bytes", lambda value: isinstance(value, bytes) and len(value) == _HASH_BYTES))]
Room = Annotated[int, whole(0, 2**31 - 1)]
Load = Annotated[float, between(0, 1000)]
Seconds = Annotated[float, between(0, 2**53)]


class RecordError(StreamCodecError):
    """What another node has written is no such record."""


def new_node_id() -> str:
    """The id of a node, new each time that it starts."""
    return secrets.token_hex(8)


def secret_hash(publisher_secret: str) -> bytes:
    """What other nodes may know of a publisher's secret (32 bytes). The secret is random and long, so no guess finds it."""
    return hashlib.sha256(publisher_secret.encode()).digest()


class ClusterRecord(Checked):
    """A map of a node's, as it goes over the bus."""

    __slots__ = ()

    def pack(self) -> bytes:
        """The record's bytes."""
        return pack({one.name: getattr(self, one.name) for one in fields(self)})  # type: ignore[arg-type]

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """The record that `data` is. Raises `RecordError`."""
        if len(data) > MAX_CONTROL_BYTES:
            raise RecordError(f"the {cls.type} has {len(data)} bytes, expected at most {MAX_CONTROL_BYTES}")
        try:
            value = unpack(data)
            if not isinstance(value, dict):
                raise RecordError(f"the {cls.type} is {shown(value)}, expected a map")
            return from_map(cls, value)
        except (LocalProtocolError, RemoteProtocolError) as exc:
            raise RecordError(f"unreadable {cls.type}: {exc}") from exc


@dataclass(frozen=True)
class NodeRecord(ClusterRecord):
    """A node, as it was when it wrote this.

    Clients reach it at `address`. It has room for `room` more live publishers of PCM and `listener_room` more listeners; None: not known.
    `load` is the part of what the machine can do that is in use, 0 to 1 as a rule. `fingerprint` is the model's.
    """

    node: NodeId
    address: Address
    publishers: Count
    listeners: Count
    room: Room | None
    listener_room: Room | None
    load: Load
    draining: Annotated[bool, flag]
    fingerprint: Fingerprint
    version: Annotated[str, text(0, 64)]

    type: ClassVar[str] = "node record"

    def listed(self, *, here: bool) -> dict[str, object]:
        """What whoever runs a node is shown of it; `here` says that it is that node."""
        return {
            "node": self.node,
            "here": here,
            "address": self.address,
            "publishers": self.publishers,
            "listeners": self.listeners,
            "room": self.room,
            "load": round(self.load, 3),
            "draining": self.draining,
            "version": self.version,
        }


@dataclass(frozen=True)
class Claim(ClusterRecord):
    """That a name is a node's, for a stream of its publisher's; good while the node lives.

    Listeners resume by `session`. `secret_hash` is of the secret by which the publisher resumes. `since` (s since 1970) is when the stream
    began.
    """

    name: StreamName
    node: NodeId
    address: Address
    session: StreamSession = field(repr=False)
    secret_hash: SecretHash = field(repr=False)
    since: Seconds

    type: ClassVar[str] = "claim"

    def is_publishers(self, publisher_secret: str) -> bool:
        """Whether this is the secret of the stream's publisher; takes the same time whatever it is."""
        return hmac.compare_digest(secret_hash(publisher_secret), self.secret_hash)
