"""A live stream as a value: all that another server needs to go on with it, in the same epoch and with the next number.

Who publishes resumes with the same secret and sends again what it has kept from `lease_next_seq` on; who listens resumes by the same
session. No step of the model is repeated. A snapshot is of one moment: it has what came of the publisher's messages before
`lease_next_seq`, and nothing of those behind. It has the secret of the publisher's session, and no token.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np

from streamcodec.engine.base import Engine
from streamcodec.errors import InputError, SnapshotError, UnsupportedModelError
from streamcodec.protocol import Packet, PayloadLayout, PublishHello, StreamStart
from streamcodec.protocol.clock import TIMESTAMP_MODULUS
from streamcodec.protocol.fields import shown
from streamcodec.protocol.messages import Count, Epoch, Micros, NextSeq, Session
from streamcodec.protocol.values import pack_value, unpack_value
from streamcodec.server.fanout.decode import DecodedPacket
from streamcodec.server.fanout.fan_out import FanOutState
from streamcodec.server.fanout.fitting import check_history, check_order, fitting_frames
from streamcodec.server.info import StreamInfo
from streamcodec.server.ingest.pcm import PcmState
from streamcodec.server.ingest.relay import CodesState

__all__ = ["StreamSnapshot", "check_movable"]

T = TypeVar("T")

_VERSION = 2
_LATEST_S = 2**53
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
        if not (0 <= self.taken_s <= _LATEST_S and 0 <= self.since <= _LATEST_S):
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
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,128}", saved.session) or not 0 <= saved.first_seq <= next_seq:
        raise SnapshotError(
            f"an epoch begins with number {saved.first_seq}, expected 0 to {next_seq}, and a session of 1 to 128 of A-Z a-z 0-9 _ -"
        )

    check_history(saved.history, info, layout, epoch=epoch, first_seq=saved.first_seq, next_seq=next_seq)
    decoder = saved.decoder
    if decoder is None:
        if saved.pcm:
            raise SnapshotError(f"{len(saved.pcm)} decoded packets have no decoder")
        return
    decoder.row.check(engine)
    for entry in decoder.waiting:
        if isinstance(entry, Packet):
            fitting_frames(entry, info, layout)
    waiting_from = min([decoder.next_seq, *(entry.seq for entry in decoder.waiting if isinstance(entry, Packet))])
    check_order([entry for entry in decoder.waiting if not isinstance(entry, StreamStart)], next_seq)
    if (not decoder.waiting and decoder.next_seq != next_seq) or not waiting_from <= decoder.next_seq <= next_seq:
        raise SnapshotError(f"the decoder's next number is {decoder.next_seq}, expected {next_seq}, or that of a packet that waits")
    most = engine.config.packet_samples(info.packet_frames)
    if decoder.samples.ndim != 1 or decoder.samples.size > most or not np.isfinite(decoder.samples).all():
        raise SnapshotError(f"decoded samples have shape {list(decoder.samples.shape)}, expected [T] with T up to {most}, all finite")
    for one in saved.pcm:
        if isinstance(one, DecodedPacket):
            _check_decoded(one, decoder.epoch, most)
    check_order(saved.pcm, decoder.next_seq)


def _check_decoded(packet: DecodedPacket, epoch: int, most: int) -> None:
    samples = packet.samples
    if samples.ndim != 1 or not 1 <= samples.size <= most or packet.epoch != epoch or not np.isfinite(samples).all():
        raise SnapshotError(f"decoded packet {packet.seq} has shape {list(samples.shape)}, expected [T] with T up to {most}, all finite")
    if not 0 <= packet.timestamp < TIMESTAMP_MODULUS or not math.isfinite(packet.due):
        raise SnapshotError(f"decoded packet {packet.seq} has the timestamp {shown(packet.timestamp)} and was due at {packet.due}")


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
