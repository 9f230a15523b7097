"""A live stream as a value: all that another server needs to go on with it, in the same epoch and with the next number.

Who publishes resumes with the same secret and sends again what it has kept from `lease_next_seq` on; who listens resumes by the same
session. No step of the model is repeated. A snapshot is of one moment: it has what came of the publisher's messages before
`lease_next_seq`, and nothing of those behind. It has the secret of the publisher's session, and no token.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np

from streamcodec.engine.base import Engine
from streamcodec.errors import InputError, SnapshotError, UnsupportedModelError
from streamcodec.protocol import Gap, Packet, PayloadLayout, PublishHello, StreamStart
from streamcodec.protocol.clock import TIMESTAMP_MODULUS
from streamcodec.protocol.fields import shown
from streamcodec.protocol.messages import Count, Epoch, Micros, NextSeq, Session
from streamcodec.protocol.values import pack_value, unpack_value
from streamcodec.server.fanout.decode import DecodedPacket
from streamcodec.server.fanout.fan_out import FanOutState
from streamcodec.server.info import StreamInfo
from streamcodec.server.ingest.pcm import PcmState
from streamcodec.server.ingest.relay import CodesState

__all__ = ["StreamSnapshot", "check_movable"]

T = TypeVar("T")

_VERSION = 2
_SAME_CLOCK_US = 1000
"""Two clocks that differ by less than the time of day can tell are one."""


@dataclass(frozen=True)
class StreamSnapshot:
    """A live stream at one moment.

    `taken_us` is when, on its server's clock, and `taken_s` the same in seconds since 1970, in which `since` says when the stream began.
    `next_seq` and `epoch` are the next packet's, `lease_next_seq` and `lease_epoch` what the publisher is to send next, with its `secret`.
    """

    hello: PublishHello
    taken_us: Micros
    taken_s: float
    since: float
    next_seq: NextSeq
    epoch: Epoch
    secret: Session = field(repr=False)
    lease_next_seq: NextSeq
    lease_epoch: Epoch
    received: Count
    emitted: Count
    dropped: Count
    fan_out: FanOutState
    source: PcmState | CodesState

    @property
    def session(self) -> str:
        """By which the stream is known, wherever it is."""
        return self.fan_out.session

    def to_bytes(self, fingerprint: str, engine: Engine) -> bytes:
        """The snapshot as bytes, for a server with the model of this `fingerprint`. Raises `SnapshotError` where they are too many."""
        return pack_value(_Sealed(_VERSION, fingerprint, _layout(engine), self))

    @classmethod
    def from_bytes(cls, data: bytes, fingerprint: str, engine: Engine) -> StreamSnapshot:
        """A snapshot that a stream on `engine` can go on from. Raises `SnapshotError`: damaged, or of another version, model or layout."""
        sealed = unpack_value(_Sealed, data)
        if sealed.version != _VERSION:
            raise SnapshotError(f"the snapshot has version {sealed.version}, expected {_VERSION}")
        if sealed.fingerprint != fingerprint:
            raise SnapshotError(f"the snapshot is of the model {shown(sealed.fingerprint)}, expected {fingerprint!r}")
        if sealed.layout != _layout(engine):
            raise SnapshotError(f"the model's states are laid out as {shown(sealed.layout)}, expected {_layout(engine)!r}")
        try:
            sealed.snapshot.check(engine)
        except SnapshotError:
            raise
        except InputError as exc:
            raise SnapshotError(f"the snapshot does not fit: {exc}") from exc
        return sealed.snapshot

    def check(self, engine: Engine) -> None:
        """Raise `InputError` unless the parts fit one another and the model; what samples and silence keep is checked where it is used."""
        check_movable(engine)
        if not (math.isfinite(self.taken_s) and math.isfinite(self.since)):
            raise SnapshotError(f"the snapshot was taken at {self.taken_s}, and its stream began at {self.since}, expected times")
        info = StreamInfo.of(self.hello, engine)
        if isinstance(self.source, PcmState) is (info.format == "codes"):
            raise SnapshotError(f"the source is {type(self.source).__name__}, which is not that of format {info.format!r}")
        if isinstance(self.source, PcmState):
            self.source.row.check(engine, n_q=info.n_q, packet_frames=info.packet_frames)
            self.source.check()
        _check_fan_out(self.fan_out, info, engine, self.next_seq, self.epoch)

    def on_clock(self, now_us: int, now_s: float) -> StreamSnapshot:
        """The same with timestamps of the clock that says `now_us` at `now_s` (s since 1970): each server's clock is its own."""
        ahead = round((now_us - self.taken_us) - 1e6 * (now_s - self.taken_s))
        if abs(ahead) < _SAME_CLOCK_US:
            return self
        return replace(self, fan_out=_fan_out_on(self.fan_out, ahead), source=_source_on(self.source, ahead))


@dataclass(frozen=True)
class _Sealed:
    """A snapshot with what says whether it can be read."""

    version: int
    fingerprint: str
    layout: str
    snapshot: StreamSnapshot


def check_movable(engine: Engine) -> None:
    """Raise `UnsupportedModelError` for a model whose streams are no values."""
    if engine.config.granularity != "frames":
        raise UnsupportedModelError("the model codes chunks, expected one that codes frame by frame: its streams cannot be moved")


def _layout(engine: Engine) -> str:
    """How the states of a model are laid out: alike by all engines, the layers' states one behind the other."""
    return f"layers {engine.traits.encoder_state_size}+{engine.traits.decoder_state_size}"


def _check_fan_out(saved: FanOutState, info: StreamInfo, engine: Engine, next_seq: int, epoch: int) -> None:
    layout = PayloadLayout.of(engine.config)
    if not 1 <= len(saved.session) <= 128 or not 0 <= saved.first_seq <= next_seq:
        raise SnapshotError(
            f"an epoch begins with number {saved.first_seq}, expected 0 to {next_seq}, and a session of 1 to 128 characters"
        )

    def check_packet(packet: Packet) -> None:
        frames = layout.frames(packet.payload, packet.n_q)
        if not 1 <= packet.n_q <= info.n_q or frames > info.packet_frames:
            told = f"{packet.n_q} codebooks and {frames} frames"
            raise SnapshotError(f"packet {packet.seq} has {told}, expected at most {info.n_q} and {info.packet_frames}")

    for item in saved.history:
        if isinstance(item, Packet):
            check_packet(item)
            if item.epoch != epoch or item.seq < saved.first_seq:
                raise SnapshotError(f"packet {item.seq} is of epoch {item.epoch}, expected {epoch}, from number {saved.first_seq} on")
    _check_order(saved.history, next_seq)
    decoder = saved.decoder
    if decoder is None:
        if saved.pcm:
            raise SnapshotError(f"{len(saved.pcm)} decoded packets have no decoder")
        return
    decoder.row.check(engine)
    for entry in decoder.waiting:
        if isinstance(entry, Packet):
            check_packet(entry)
    waiting_from = min([decoder.next_seq, *(entry.seq for entry in decoder.waiting if isinstance(entry, Packet))])
    _check_order([entry for entry in decoder.waiting if not isinstance(entry, StreamStart)], next_seq)
    if (not decoder.waiting and decoder.next_seq != next_seq) or not waiting_from <= decoder.next_seq <= next_seq:
        raise SnapshotError(f"the decoder's next number is {decoder.next_seq}, expected {next_seq}, or that of a packet that waits")
    most = engine.config.packet_samples(info.packet_frames)
    if decoder.samples.ndim != 1 or decoder.samples.size > most or not np.isfinite(decoder.samples).all():
        raise SnapshotError(f"decoded samples have shape {list(decoder.samples.shape)}, expected [T] with T up to {most}, all finite")
    for one in saved.pcm:
        if isinstance(one, DecodedPacket) and (one.samples.ndim != 1 or not 1 <= one.samples.size <= most or one.epoch != decoder.epoch):
            raise SnapshotError(f"decoded packet {one.seq} has shape {list(one.samples.shape)}, expected [T] with T up to {most}")
    _check_order(saved.pcm, decoder.next_seq)


def _check_order(items: tuple[Packet | Gap | DecodedPacket, ...] | list[Packet | Gap], next_seq: int) -> None:
    """Raise `SnapshotError` unless each number up to `next_seq` comes once, from the first one on."""
    expected: int | None = None
    for item in items:
        first = item.first_seq if isinstance(item, Gap) else item.seq
        if expected not in (None, first):
            raise SnapshotError(f"number {first} follows on {expected}, expected that one")
        expected = item.next_seq if isinstance(item, Gap) else first + 1
    if expected not in (None, next_seq):
        raise SnapshotError(f"numbers go up to {expected}, expected {next_seq}")


def _later(timestamp: int, us: int) -> int:
    return (timestamp + us) % TIMESTAMP_MODULUS


def _fan_out_on(saved: FanOutState, us: int) -> FanOutState:
    def later(item: T) -> T:
        return replace(item, timestamp=_later(item.timestamp, us)) if isinstance(item, (Packet, DecodedPacket)) else item

    return replace(
        saved,
        history=tuple(map(later, saved.history)),
        decoder=None if saved.decoder is None else replace(saved.decoder, waiting=tuple(map(later, saved.decoder.waiting))),
        pcm=tuple(map(later, saved.pcm)),
    )


def _source_on(saved: PcmState | CodesState, us: int) -> PcmState | CodesState:
    if isinstance(saved, CodesState):
        return saved
    anchors = tuple((position_s, _later(timestamp, us)) for position_s, timestamp in saved.timeline.anchors)
    expected = None if saved.fed.expected is None else saved.fed.expected + us
    return replace(saved, timeline=replace(saved.timeline, anchors=anchors), fed=replace(saved.fed, expected=expected))
