"""What a packet's payload must look like on one connection: bytes are counted here, never decoded."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from streamcodec.bitstream.layout import PayloadLayout
from streamcodec.config import MAX_PACKET_FRAMES
from streamcodec.errors import InputError, RemoteProtocolError, WireCode
from streamcodec.protocol.messages import Format, ModelInfo, Packet, PublishHello, StreamStart, Welcome, sample_width

__all__ = ["PayloadRule"]


@dataclass
class PayloadRule:
    """One direction's format; `layout` and the frame counts matter for codes, `max_samples` and `channels` for PCM.

    A packet has from `min_n_q` to `n_q` codebooks. One of at most `ending_frames` frames is the last of its epoch. Listeners of one stream
    share a rule, and `last` is the packet that it has passed last: who gets that one too need not check it again.
    """

    format: Format
    min_n_q: int
    n_q: int
    layout: PayloadLayout
    ending_frames: int
    max_frames: int
    max_samples: int
    channels: int
    last: Packet | None = None

    @classmethod
    def of_publisher(cls, hello: PublishHello, welcome: Welcome) -> PayloadRule:
        """What the publisher of `hello` may send: any prefix of its codebooks, at most `packet_frames` frames of it."""
        n_q = welcome.n_q or 0 if hello.format == "codes" else 0
        frames = welcome.packet_frames or 0
        ending = _ending_frames(welcome.model, frames)
        return cls(hello.format, min(1, n_q), n_q, welcome.model.layout, ending, frames, hello.sample_rate or 0, hello.channels or 0)

    @classmethod
    def of_listener(cls, welcome: Welcome, start: StreamStart) -> PayloadRule:
        """What comes behind `start`: any prefix of its codebooks, or PCM of its channels."""
        n_q = start.n_q if start.format == "codes" else 0
        return _shared(start.format, n_q, welcome.model, start.packet_frames, start.sample_rate, start.channels)

    def check(self, packet: Packet) -> bool:
        """Whether the packet is so short that it ends its epoch; raises `RemoteProtocolError` BAD_PAYLOAD unless it is whole."""
        if not self.min_n_q <= packet.n_q <= self.n_q:
            allowed = f"{self.n_q}" if self.min_n_q == self.n_q else f"{self.min_n_q} to {self.n_q}"
            raise _bad(packet, f"n_q is {packet.n_q}, expected {allowed} with format {self.format!r}")
        if self.format == "codes":
            try:
                frames = self.layout.frames(packet.payload, packet.n_q)
            except InputError as exc:
                raise _bad(packet, str(exc)) from exc
            if frames > self.max_frames:
                raise _bad(packet, f"the payload holds {frames} frames, expected at most {self.max_frames}")
            self.last = packet
            return frames <= self.ending_frames
        size, step = len(packet.payload), self.channels * sample_width(self.format)
        most = self.max_samples * step
        if not 0 < size <= most or size % step:
            raise _bad(packet, f"payload has {size} bytes, expected a multiple of {step} ({self.channels} x {self.format}) up to {most}")
        self.last = packet
        return False


@lru_cache(maxsize=64)
def _shared(format: Format, n_q: int, model: ModelInfo, packet_frames: int, rate: int, channels: int) -> PayloadRule:
    max_frames = MAX_PACKET_FRAMES if model.chunk_length is None else packet_frames
    max_samples = max(rate, model.packet_samples(packet_frames))
    return PayloadRule(format, min(1, n_q), n_q, model.layout, _ending_frames(model, packet_frames), max_frames, max_samples, channels)


def _ending_frames(model: ModelInfo, packet_frames: int) -> int:
    """So few frames has only the last packet of an epoch: it is not full, or its chunk does not reach where another one would begin."""
    return packet_frames - 1 if model.chunk_stride is None else model.chunk_stride // model.hop_length


def _bad(packet: Packet, reason: str) -> RemoteProtocolError:
    return RemoteProtocolError(WireCode.BAD_PAYLOAD, f"packet {packet.seq}: {reason}")
