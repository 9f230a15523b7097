"""What a stream is, and the number of its next packet: shared by the stream, which gives the numbers, and its fan-out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from streamcodec.config import CodecConfig
from streamcodec.engine.base import Engine
from streamcodec.protocol import Gap, PublishHello
from streamcodec.protocol.fields import Checked, flag, number
from streamcodec.protocol.messages import (
    MAX_EPOCH,
    MAX_SEQ,
    AnyFormat,
    AnyPacketFrames,
    Bandwidth,
    Length,
    NumCodebooks,
    StartKind,
    StreamName,
)

__all__ = ["Numbering", "StreamInfo", "packet_frames_of"]


@dataclass(frozen=True)
class StreamInfo(Checked):
    """What does not change while a stream lives.

    `format` is the publisher's. `n_q` is the largest number of codebooks that a packet has (a quiet packet has fewer) and `bandwidth`
    (kbps) belongs to it. A packet is complete `packet_s` after its first sample and adds `packet_samples` to the stream. `live` says that
    the publisher sends in real time.
    """

    name: StreamName
    format: AnyFormat
    n_q: NumCodebooks
    bandwidth: Bandwidth
    packet_frames: AnyPacketFrames
    start: StartKind
    live: Annotated[bool, flag]
    packet_samples: Length
    packet_s: Annotated[float, number(3600)]

    type: ClassVar[str] = "stream"

    @classmethod
    def of(cls, hello: PublishHello, engine: Engine) -> StreamInfo:
        """The stream that `hello` asks for. Raises `InputError` for a bandwidth that the model does not have."""
        config = engine.config
        n_q, frames = config.n_q_for(hello.bandwidth), packet_frames_of(hello, config)
        return cls(
            name=hello.stream,
            format=hello.format,
            n_q=n_q,
            bandwidth=config.bandwidth_of(n_q),
            packet_frames=frames,
            packet_samples=config.packet_samples(frames),
            packet_s=(config.chunk_length or frames * config.hop_length) / config.sampling_rate,
            start=hello.start or engine.traits.default_live_start,
            live=hello.pace == "live",
        )


def packet_frames_of(hello: PublishHello, config: CodecConfig) -> int:
    """The frames in a packet of the stream that `hello` asks for; those of a model in chunks are what they are."""
    return hello.packet_frames if config.granularity == "frames" else config.packet_frames_for()


class Numbering:
    """The sequence number and the epoch of a stream's next packet."""

    def __init__(self, epoch: int = 0, next_seq: int = 0) -> None:
        self.epoch = epoch
        self.next_seq = next_seq

    def take(self) -> int:
        """The number of the packet that comes now."""
        seq = self.next_seq
        self.next_seq += 1
        return seq

    def skip(self, count: int, reason: str) -> Gap | None:
        """Leave out `count` numbers, or as many as there are left; returns the gap, None for an empty one."""
        count = min(count, MAX_SEQ + 1 - self.next_seq)
        if count < 1:
            return None
        gap = Gap(first_seq=self.next_seq, count=count, reason=reason)
        self.next_seq = gap.next_seq
        return gap

    def begin_epoch(self) -> None:
        """The next packet comes from an encoder that has started afresh."""
        self.epoch = (self.epoch + 1) % (MAX_EPOCH + 1)
