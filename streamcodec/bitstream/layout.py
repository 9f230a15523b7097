"""A packet's payload: packed codes, behind a scale where the model normalises loudness.

+---------------------------------+--------------------------------------+
| scale: float32, little-endian   | packed codes, as `packing.py` writes |
+---------------------------------+--------------------------------------+
  only of a model that normalises   a prefix is the packet at a lower bandwidth
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any

from streamcodec.bitstream.packing import pack_codes, payload_frames, truncate_payload, unpack_codes
from streamcodec.config import CodecConfig, fewest_codebooks
from streamcodec.errors import CodesError, PayloadError
from streamcodec.types import Chunk

__all__ = ["PayloadLayout"]

_SCALE = struct.Struct("<f")


@dataclass(frozen=True)
class PayloadLayout:
    """How a model's packets are written: `bits` per code, whether a packet is a `Chunk`, and whether it carries a scale."""

    bits: int = 10
    chunked: bool = False
    scaled: bool = False

    @classmethod
    def of(cls, config: CodecConfig) -> PayloadLayout:
        """The layout of a model's packets."""
        return cls(config.bits_per_code, config.granularity == "chunks", config.normalize)

    def pack(self, packet: Any) -> bytes:
        """Pack codes [n_q, F] or, of a model in chunks, a `Chunk` of them. Raises `CodesError` for another kind of packet."""
        if isinstance(packet, Chunk) is not self.chunked:
            expected = "a chunk" if self.chunked else "codes [n_q, frames]"
            raise CodesError(f"a packet is a {type(packet).__name__}, expected {expected}")
        if not self.chunked:
            return pack_codes(packet, self.bits)
        if (packet.scale is not None) is not self.scaled:
            raise CodesError(f"a chunk has the scale {packet.scale!r}, expected {'a number' if self.scaled else 'none'}")
        if not self.scaled:
            return pack_codes(packet.codes, self.bits)
        if not (0 <= packet.scale <= _MAX_SCALE):
            raise CodesError(f"a chunk has the scale {packet.scale!r}, expected a finite number of 0 or more")
        return _SCALE.pack(packet.scale) + pack_codes(packet.codes, self.bits)

    def unpack(self, payload: bytes, n_q: int) -> Any:
        """What `pack` has packed: codes int32 [n_q, F] or a `Chunk`.

        Raises `PayloadError` for bytes that are no whole packet of `n_q` codebooks.
        """
        scale, packed = self._split(payload)
        codes = unpack_codes(packed, n_q, self.bits)
        return Chunk(codes, scale) if self.chunked else codes

    def frames(self, payload: bytes, n_q: int) -> int:
        """The number of frames in a payload of `n_q` codebooks. Raises `PayloadError` if the bytes are no whole packet."""
        return payload_frames(self._split(payload)[1], n_q, self.bits)

    def truncate(self, payload: bytes, from_n_q: int, to_n_q: int) -> bytes:
        """Cut a packet to its first `to_n_q` codebooks; its scale stays. Raises `CodesError` and `PayloadError` as `truncate_payload`."""
        _, packed = self._split(payload)
        return payload[: len(payload) - len(packed)] + truncate_payload(packed, from_n_q, to_n_q, self.bits)

    def is_quiet(self, n_q: int, max_n_q: int) -> bool:
        """Whether a packet that has `n_q` codebooks, in a stream of `max_n_q`, stands for silence.

        It does where it has as few as can be packed, and more would be possible. PCM (0 codebooks) never says so, nor does a chunk.
        """
        return not self.chunked and 0 < n_q < max_n_q and n_q <= fewest_codebooks(self.bits)

    def _split(self, payload: bytes) -> tuple[float | None, bytes]:
        if not self.scaled:
            return None, payload
        if len(payload) <= _SCALE.size:
            raise PayloadError(f"payload has {len(payload)} bytes, expected a scale of {_SCALE.size} bytes and codes")
        [scale] = _SCALE.unpack_from(payload)
        if not (math.isfinite(scale) and scale >= 0):
            raise PayloadError(f"the payload's scale is {scale}, expected a finite number of 0 or more")
        return scale, payload[_SCALE.size :]


_MAX_SCALE = 3.4028234663852886e38  # the largest float32
