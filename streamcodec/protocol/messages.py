"""Every message of `streamcodec.v1` as a frozen dataclass, `serialize` beside `parse`; this file knows bytes, not turns or sockets.

Control messages are msgpack maps with a "type"; packets are msgpack arrays. PROTOCOL.md, beside this file, says what they mean.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, ClassVar, Literal

import msgpack

from streamcodec.bitstream.layout import PayloadLayout
from streamcodec.config import DEFAULT_PACKET_FRAMES, MAX_PACKET_FRAMES, packet_samples
from streamcodec.errors import LocalProtocolError, RemoteProtocolError, WireCode
from streamcodec.protocol.dtx import SILENCE
from streamcodec.protocol.fields import (
    Checked,
    between,
    flag,
    from_map,
    matching,
    number,
    numbers,
    secret,
    several,
    shown,
    text,
    whole,
    word,
)
from streamcodec.protocol.unpacking import MAX_CONTROL_BYTES, MAX_MESSAGE_BYTES, pack, unpack

__all__ = [
    "MAX_CONTROL_BYTES",
    "MAX_MESSAGE_BYTES",
    "PACKET_OVERHEAD",
    "PROTOCOL_VERSION",
    "READ_BYTES",
    "READ_CONTROL_BYTES",
    "SUBPROTOCOL",
    "End",
    "Ended",
    "Error",
    "Format",
    "Gap",
    "ListenHello",
    "Message",
    "ModelInfo",
    "Packet",
    "Ping",
    "Pong",
    "PublishHello",
    "Refuse",
    "Report",
    "Resume",
    "StreamEnd",
    "StreamStart",
    "Waiting",
    "Welcome",
    "is_packet",
    "parse",
    "sample_width",
]

SUBPROTOCOL = "streamcodec.v1"
PROTOCOL_VERSION = 1
READ_BYTES = 2 * MAX_MESSAGE_BYTES
"""How much of a message a transport should read: one that is too long is told so, and one that is beyond all measure is not read."""
READ_CONTROL_BYTES = 2 * MAX_CONTROL_BYTES
"""The same where no packet may come."""
PACKET_OVERHEAD = 20

Format = Literal["codes", "pcm_s16le", "pcm_f32le"]

MAX_SEQ = 2**32 - 1
MAX_EPOCH = 255
MAX_N_Q = 255
MAX_TEXT = 1000
MAX_ALTERNATES = 4

Version = Annotated[int, whole(PROTOCOL_VERSION, PROTOCOL_VERSION)]
StreamName = Annotated[str, matching(r"[A-Za-z0-9._~-]{1,64}", "1 to 64 of A-Z a-z 0-9 . _ ~ -")]
AnyFormat = Annotated[Format, word("codes", "pcm_s16le", "pcm_f32le")]
Bandwidth = Annotated[float, number(1000)]
NumCodebooks = Annotated[int, whole(1, MAX_N_Q)]
PacketFrames = Annotated[int, whole(1, MAX_PACKET_FRAMES)]
AnyPacketFrames = Annotated[int, whole(1, 65_535)]  # of a model in chunks more than `MAX_PACKET_FRAMES`
Channels = Annotated[int, whole(1, 8)]
Length = Annotated[int, whole(1, 2**31 - 1)]
StartKind = Annotated[Literal["exact", "primed"], word("exact", "primed")]
JoinKind = Annotated[Literal["exact", "primed", "resumed", "continued"], word("exact", "primed", "resumed", "continued")]
Seq = Annotated[int, whole(0, MAX_SEQ)]
NextSeq = Annotated[int, whole(0, MAX_SEQ + 1)]
Epoch = Annotated[int, whole(0, MAX_EPOCH)]
Micros = Annotated[int, whole(0, 2**53 - 1)]
Count = Annotated[int, whole(0, 2**53 - 1)]
Text = Annotated[str, text(0, MAX_TEXT)]
Token = Annotated[str, secret(text(0, 4096))]
Session = Annotated[str, secret(text(1, 128))]
Decibels = Annotated[float, between(-120, 0)]
Millis = Annotated[int, whole(-3_600_000, 3_600_000)]
Fingerprint = Annotated[str, text(1, 128)]
_ADDRESS = matching(r"wss?://[!-~]{1,1000}", "ws:// or wss://, and at most 1,000 printable characters of ASCII behind it")
Address = Annotated[str, _ADDRESS]
Code = Annotated[str, matching(r"[a-z][a-z0-9_]{0,39}", "a lower-case word of 1 to 40 characters")]


def sample_width(format: Format) -> int:
    """Bytes per sample in a PCM format; 0 for codes."""
    return {"codes": 0, "pcm_s16le": 2, "pcm_f32le": 4}[format]


_FIVE: bytes = msgpack.packb([None] * 5)[:1]


class _Serialized:
    """Room for the bytes of a message that were made already."""

    __slots__ = ("_serialized",)
    _serialized: bytes


@dataclass(frozen=True, slots=True)
class Packet(_Serialized):
    """One packet of audio: `n_q` codebooks of packed codes, or PCM samples where `n_q` is 0.

    `timestamp` is the server's clock in microseconds, modulo 2**32, when the packet's first sample was captured.
    """

    seq: int
    epoch: int
    timestamp: int
    n_q: int
    payload: bytes

    type: ClassVar[str] = "packet"

    def __post_init__(self) -> None:
        for name, most in (("seq", MAX_SEQ), ("epoch", MAX_EPOCH), ("timestamp", 2**32 - 1), ("n_q", MAX_N_Q)):
            value = getattr(self, name)
            if type(value) is not int or not 0 <= value <= most:
                raise LocalProtocolError(f"packet: {name} is {shown(value)}, expected an integer from 0 to {most}")
        if type(self.payload) is not bytes:
            raise LocalProtocolError(f"packet: payload is {shown(self.payload)}, expected bytes")

    def serialize(self) -> bytes:
        """The message's bytes: at most 20 more than the payload's. They are made once, as one packet goes to many."""
        try:
            return self._serialized
        except AttributeError:
            data = pack((self.seq, self.epoch, self.timestamp, self.n_q, self.payload))
            object.__setattr__(self, "_serialized", data)
            return data


class Control(Checked):
    """A message that is a map: its type, then the dataclass's fields in their order."""

    __slots__ = ()

    def serialize(self) -> bytes:
        """The message's bytes, every field written, null where there is none."""
        return pack({"type": self.type, **asdict(self)})  # type: ignore[call-overload]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo(Checked):
    """The model behind a stream; `fingerprint` tells models with the same shape and other weights apart.

    `bandwidths` are those it was made for (kbps, ascending); a server that says nothing about them leaves them out. A model in chunks has a
    `chunk_length` and a `chunk_stride` (samples), and each packet is one chunk. With `normalize`, each payload begins with a scale.
    """

    type: ClassVar[str] = "model"
    name: Annotated[str, text(1, 200)]
    fingerprint: Fingerprint
    sampling_rate: Annotated[int, whole(1, 1_000_000)]
    hop_length: Annotated[int, whole(1, 1_000_000)]
    codebook_size: Annotated[int, whole(16, 65536)]
    num_quantizers: NumCodebooks
    bandwidths: Annotated[tuple[float, ...], numbers(1000)] = ()
    channels: Channels = 1
    chunk_length: Length | None = None
    chunk_stride: Length | None = None
    normalize: Annotated[bool, flag] = False

    def _check_together(self) -> None:
        if (self.chunk_length is None) != (self.chunk_stride is None) or (self.chunk_stride or 0) > (self.chunk_length or 0):
            told = f"chunk_length is {self.chunk_length} and chunk_stride {self.chunk_stride}"
            raise LocalProtocolError(f"{self.type}: {told}, expected both or neither, and the stride at most the length")
        if self.normalize and self.chunk_length is None:
            raise LocalProtocolError(f"{self.type}: normalize is True, expected False without a chunk_length")
        if self.codebook_size & (self.codebook_size - 1):
            raise LocalProtocolError(f"{self.type}: codebook_size is {self.codebook_size}, expected a power of two")

    @property
    def bits_per_code(self) -> int:
        """Bits that one code takes: 10 for 1,024 entries."""
        return self.codebook_size.bit_length() - 1

    @property
    def layout(self) -> PayloadLayout:
        """How its packets are written."""
        return PayloadLayout(self.bits_per_code, self.chunk_length is not None, self.normalize)

    def packet_samples(self, frames: int) -> int:
        """The samples that a packet of `frames` frames adds to a stream."""
        return packet_samples(frames, self.hop_length, self.chunk_stride)

    def packet_s(self, frames: int) -> float:
        """The seconds that a packet of `frames` frames adds to a stream."""
        return self.packet_samples(frames) / self.sampling_rate


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume(Checked):
    """Where a lost connection's role goes on: the stream's `session` as this role was told it, and the client's next number."""

    type: ClassVar[str] = "resume"
    session: Session = field(repr=False)
    epoch: Epoch
    next_seq: NextSeq


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishHello(Control):
    """A publisher's first message; `sample_rate`, `channels` and `silence_db` belong to PCM, `model` to codes."""

    type: ClassVar[str] = "hello"
    version: Version = PROTOCOL_VERSION
    role: Annotated[Literal["publish"], word("publish")] = "publish"
    stream: StreamName
    format: AnyFormat
    sample_rate: Annotated[int, whole(1000, 768_000)] | None = None
    channels: Channels | None = None
    model: Fingerprint | None = None
    bandwidth: Bandwidth | None = None
    packet_frames: PacketFrames = DEFAULT_PACKET_FRAMES
    start: StartKind | None = None
    pace: Annotated[Literal["live", "fast"], word("live", "fast")] = "live"
    silence_db: Decibels | None = None
    resume: Resume | None = None
    can_move: Annotated[bool, flag] = False
    token: Token | None = field(default=None, repr=False)
    client: Text = ""

    def _check_together(self) -> None:
        _need(self, "sample_rate", self.format != "codes")
        _need(self, "channels", self.format != "codes")
        if self.format == "codes":
            _need(self, "model", True)
            _need(self, "silence_db", False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenHello(Control):
    """A listener's first message; `model` is needed, and `bandwidth` and `min_bandwidth` are allowed, for codes only."""

    type: ClassVar[str] = "hello"
    version: Version = PROTOCOL_VERSION
    role: Annotated[Literal["listen"], word("listen")] = "listen"
    stream: StreamName
    format: AnyFormat
    bandwidth: Bandwidth | None = None
    min_bandwidth: Bandwidth | None = None
    model: Fingerprint | None = None
    history_ms: Annotated[int, whole(0, 60_000)] | None = None
    resume: Resume | None = None
    can_move: Annotated[bool, flag] = False
    token: Token | None = field(default=None, repr=False)
    client: Text = ""

    def _check_together(self) -> None:
        if self.format == "codes":
            _need(self, "model", True)
        else:
            _need(self, "bandwidth", False)
            _need(self, "min_bandwidth", False)
        if self.bandwidth is not None and self.min_bandwidth is not None and self.min_bandwidth > self.bandwidth:
            raise LocalProtocolError(f"{self.type}: min_bandwidth is {self.min_bandwidth}, expected at most bandwidth {self.bandwidth}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome(Control):
    """The server's yes; what a stream without a publisher does not know yet is None.

    `alternates` are addresses of servers that know the same streams.
    """

    type: ClassVar[str] = "welcome"
    version: Version = PROTOCOL_VERSION
    role: Annotated[Literal["publish", "listen"], word("publish", "listen")]
    stream: StreamName
    model: ModelInfo
    format: AnyFormat
    bandwidth: Bandwidth | None = None
    n_q: NumCodebooks | None = None
    packet_frames: AnyPacketFrames | None = None
    start: StartKind | None = None
    epoch: Epoch | None = None
    next_seq: NextSeq | None = None
    session: Session | None = field(default=None, repr=False)
    resume_ms: Annotated[int, whole(0, 3_600_000)] = 0
    alternates: Annotated[tuple[str, ...], several(_ADDRESS, MAX_ALTERNATES)] = ()
    time: Micros
    server: Text = ""

    def _check_together(self) -> None:
        if self.role == "publish":
            for name in ("bandwidth", "n_q", "packet_frames", "start", "epoch", "next_seq"):
                if getattr(self, name) is None:
                    raise LocalProtocolError(f"{self.type}: {name} is None, expected a value with role 'publish'")


@dataclass(frozen=True, slots=True, kw_only=True)
class Refuse(Control):
    """The server's no to a hello; the connection closes behind it. `go_to` is another server to go to."""

    type: ClassVar[str] = "refuse"
    code: Code
    reason: Text
    retry: Annotated[bool, flag] = False
    retry_after_ms: Annotated[int, whole(0, 86_400_000)] | None = None
    go_to: Address | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting(Control):
    """Nobody publishes the stream yet; a `start` follows when somebody does."""

    type: ClassVar[str] = "waiting"
    stream: StreamName


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamStart(Control):
    """A stream, or a new epoch of it, begins for this listener; packets before `live_seq` are history."""

    type: ClassVar[str] = "start"
    epoch: Epoch
    n_q: NumCodebooks
    bandwidth: Bandwidth
    packet_frames: AnyPacketFrames
    start: JoinKind
    first_seq: NextSeq
    live_seq: NextSeq
    format: AnyFormat
    sample_rate: Annotated[int, whole(1, 1_000_000)]
    channels: Channels = 1
    packet_samples: Length | None = None
    session: Session | None = None
    reason: Text = ""

    def _check_together(self) -> None:
        if self.live_seq < self.first_seq:
            raise LocalProtocolError(f"{self.type}: live_seq is {self.live_seq}, expected first_seq {self.first_seq} or more")
        if self.start == "continued" and self.live_seq != self.first_seq:
            raise LocalProtocolError(f"{self.type}: live_seq is {self.live_seq}, expected first_seq {self.first_seq} where it is continued")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap(Control):
    """Packets `first_seq` to `first_seq + count - 1` will never come."""

    type: ClassVar[str] = "gap"
    first_seq: Seq
    count: Annotated[int, whole(1, 2**32)]
    reason: Text = ""

    def _check_together(self) -> None:
        if self.next_seq > MAX_SEQ + 1:
            most = MAX_SEQ + 1 - self.first_seq
            raise LocalProtocolError(f"{self.type}: count is {self.count}, expected at most {most} from first_seq {self.first_seq}")

    @property
    def next_seq(self) -> int:
        """The first number behind the gap."""
        return self.first_seq + self.count

    def since(self, seq: int) -> Gap:
        """The part of this gap from number `seq` on, which is one of its own."""
        return Gap(first_seq=seq, count=self.next_seq - seq, reason=self.reason)

    def joined(self, later: Gap, reason: str | None = None) -> Gap:
        """This gap and `later`, which follows directly on it, as one.

        Without a `reason` it has that of the later one, or its own where the later one is silence: what was lost is not silence.
        """
        if reason is None:
            reason = self.reason if later.reason == SILENCE else later.reason
        return Gap(first_seq=self.first_seq, count=self.count + later.count, reason=reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class End(Control):
    """The publisher is done; `last_seq` is the last number it used, None if it used none."""

    type: ClassVar[str] = "end"
    last_seq: Seq | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended(Control):
    """The answer to `end` when everything has gone out: packets received, packets emitted, received packets dropped."""

    type: ClassVar[str] = "ended"
    received: Count
    emitted: Count
    dropped: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamEnd(Control):
    """The stream is over for this listener, which waits again; `next_seq` follows the last packet or gap."""

    type: ClassVar[str] = "stream_end"
    next_seq: NextSeq
    reason: Text = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report(Control):
    """How a listener fares: the number it expects next, the last it played, and what its playout buffer says, milliseconds."""

    type: ClassVar[str] = "report"
    received: NextSeq
    played: Seq | None = None
    margin_ms: Millis | None = None
    late_ms: Millis | None = None
    bandwidth: Bandwidth | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ping(Control):
    """A client asks for the server's time; `time` is the client's own, microseconds."""

    type: ClassVar[str] = "ping"
    time: Micros


@dataclass(frozen=True, slots=True, kw_only=True)
class Pong(Control):
    """The server's time, microseconds, and the ping's `time` as it came; in how long it will close (ms), and where to go then."""

    type: ClassVar[str] = "pong"
    time: Micros
    server_time: Micros
    closing_ms: Annotated[int, whole(0, 86_400_000)] | None = None
    go_to: Address | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Error(Control):
    """The sender gives up: the connection closes behind it with the code's close code; `go_to` is another server to go to."""

    type: ClassVar[str] = "error"
    code: Code
    reason: Text
    go_to: Address | None = None


ControlMessage = (
    PublishHello | ListenHello | Welcome | Refuse | Waiting | StreamStart | Gap | End | Ended | StreamEnd | Report | Ping | Pong | Error
)
Message = Packet | ControlMessage
_CONTROLS: dict[str, type[ControlMessage]] = {
    "hello publish": PublishHello,
    "hello listen": ListenHello,
    **{cls.type: cls for cls in (Welcome, Refuse, Waiting, StreamStart, Gap, End, Ended, StreamEnd, Report, Ping, Pong, Error)},
}


def parse(data: bytes) -> Message:
    """Read one binary WebSocket message.

    Raises `RemoteProtocolError`: BAD_MESSAGE for bytes that are no message of this protocol, BAD_VERSION for a hello or welcome
    of another version, BAD_REQUEST for a field that is missing or out of range.
    """
    value = unpack(data)
    if isinstance(value, list):
        return _parse_packet(value)
    if isinstance(value, dict):
        return _parse_control(value)
    raise RemoteProtocolError(WireCode.BAD_MESSAGE, f"the message is {shown(value)}, expected a map or a packet's array")


def is_packet(data: bytes) -> bool:
    """Whether a binary WebSocket message begins as a packet's array of five does; `parse` says whether it is one."""
    return data[:1] == _FIVE


def _parse_packet(values: list[Any]) -> Packet:
    if len(values) != 5:
        raise RemoteProtocolError(WireCode.BAD_MESSAGE, f"packet: the array has {len(values)} elements, expected 5")
    try:
        return Packet(*values)
    except LocalProtocolError as exc:
        raise RemoteProtocolError(WireCode.BAD_MESSAGE, str(exc)) from exc


def _parse_control(values: dict[str, Any]) -> Message:
    kind, role, version = values.get("type"), values.get("role"), values.get("version")
    if kind in ("hello", "welcome") and version != PROTOCOL_VERSION:
        raise RemoteProtocolError(WireCode.BAD_VERSION, f"{kind}: version is {shown(version)}, expected {PROTOCOL_VERSION}")
    if kind == "hello" and role not in ("publish", "listen"):
        raise RemoteProtocolError(WireCode.BAD_REQUEST, f"hello: role is {shown(role)}, expected 'publish' or 'listen'")
    name = f"hello {role}" if kind == "hello" else kind
    if not isinstance(name, str) or name not in _CONTROLS:
        raise RemoteProtocolError(WireCode.BAD_MESSAGE, f"type is {shown(kind)}, expected one of {', '.join(_CONTROLS)}")
    try:
        return from_map(_CONTROLS[name], values)
    except LocalProtocolError as exc:
        raise RemoteProtocolError(WireCode.BAD_REQUEST, str(exc)) from exc


def _need(message: PublishHello | ListenHello, field: str, needed: bool) -> None:
    """Raise `LocalProtocolError` unless the field is given exactly when the message's format needs it."""
    value = getattr(message, field)
    if (value is not None) is not needed:
        expected = "a value" if needed else "null"
        raise LocalProtocolError(f"{message.type}: {field} is {shown(value)}, expected {expected} with format {message.format!r}")
