"""What a packet's payload must look like on one connection: bytes are counted here, never decoded."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from streamcodec.bitstream.packing import payload_frames
from streamcodec.config import MAX_PACKET_FRAMES
from streamcodec.errors import InputError, RemoteProtocolError, WireCode
from streamcodec.protocol.messages import Format, Packet, PublishHello, StreamStart, Welcome, sample_width

__all__ = ["PayloadRule"]


@dataclass
class PayloadRule:
    """One direction's format; `bits` and the frame counts matter for codes, `rate` and `channels` for PCM.

    A packet has from `min_n_q` to `n_q` codebooks. Listeners of one stream share a rule, and `last` is the packet that it has passed last:
    who gets that one too need not check it again.
    """

    format: Format
    min_n_q: int
    n_q: int
    bits: int
    packet_frames: int
    max_frames: int
    rate: int
    channels: int
    last: Packet | None = None

    @classmethod
    def of_publisher(cls, hello: PublishHello, welcome: Welcome) -> PayloadRule:
        """What the publisher of `hello` may send: any prefix of its codebooks, at most `packet_frames` frames of it."""
        n_q = welcome.n_q or 0 if hello.format == "codes" else 0
        frames = welcome.packet_frames or 0
        return cls(hello.format, min(1, n_q), n_q, welcome.model.bits_per_code, frames, frames, hello.sample_rate or 0, hello.channels or 0)

    @classmethod
    def of_listener(cls, welcome: Welcome, start: StreamStart) -> PayloadRule:
        """What comes behind `start`: any prefix of its codebooks; PCM is mono."""
        n_q = start.n_q if start.format == "codes" else 0
        return _shared(start.format, n_q, welcome.model.bits_per_code, start.packet_frames, start.sample_rate)

    def check(self, packet: Packet) -> bool:
        """Whether the packet holds fewer frames than a packet does; raises `RemoteProtocolError` BAD_PAYLOAD unless it is whole."""
        if not self.min_n_q <= packet.n_q <= self.n_q:
            allowed = f"{self.n_q}" if self.min_n_q == self.n_q else f"{self.min_n_q} to {self.n_q}"
            raise _bad(packet, f"n_q is {packet.n_q}, expected {allowed} with format {self.format!r}")
        if self.format == "codes":
            try:
                frames = payload_frames(packet.payload, packet.n_q, self.bits)
            except InputError as exc:
                raise _bad(packet, str(exc)) from exc
            if frames > self.max_frames:
                raise _bad(packet, f"the payload holds {frames} frames, expected at most {self.max_frames}")
            self.last = packet
            return frames < self.packet_frames
        size, step = len(packet.payload), self.channels * sample_width(self.format)
        if not 0 < size <= self.rate * step or size % step:
            raise _bad(
                packet,
                f"payload has {size} bytes, expected a multiple of {step} ({self.channels} x {self.format}) up to {self.rate * step}",
            )
        self.last = packet
        return False


@lru_cache(maxsize=64)
def _shared(format: Format, n_q: int, bits: int, packet_frames: int, rate: int) -> PayloadRule:
    return PayloadRule(format, min(1, n_q), n_q, bits, packet_frames, MAX_PACKET_FRAMES, rate, 1)


def _bad(packet: Packet, reason: str) -> RemoteProtocolError:
    return RemoteProtocolError(WireCode.BAD_PAYLOAD, f"packet {packet.seq}: {reason}")
