"""`.ecdc` files, byte for byte those of the package `encodec`. This file knows bytes; it uses no model.

    +--------+-------------+---------------------+----------+---------+---------+-----
    | "ECDC" | version, 0  | size of the JSON, N | JSON     | chunk 0 | chunk 1 | ...
    | 4 B    | 1 B         | 4 B, big-endian     | N B      |         |         |
    +--------+-------------+---------------------+----------+---------+---------+-----

The JSON is {"m": model, "al": samples of each channel, "nc": codebooks, "lm": whether a language model codes}. A clip has one chunk, or as
many as its model cuts it into. A chunk is its scale (4 B, big-endian float), if the model normalises, and its codes, frame by frame, and in
a frame codebook by codebook. Without a language model each code has the model's bits, and each byte is filled from its lowest bit; zeros
fill the last one.

The package has two names of models. A model of one of these two architectures is written by that name, as the package does: the file does
not say with whose weights. Every other one is written as "streamcodec " and its fingerprint, which the package refuses to read.

Such a file has no checksum. A wrong byte among its codes changes those that it holds and no other, and nobody can tell.

Version 1 is this package's own, which the package `encodec` refuses. Its "lm" is the fingerprint of a model of whole numbers, and its
chunks are blocks with checksums: see `checked_coding`.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from streamcodec.config import CodecConfig
from streamcodec.errors import CodesError
from streamcodec.published import PUBLISHED
from streamcodec.types import Codes

__all__ = [
    "PACKAGE_MODELS",
    "ChunkEncoder",
    "Coding",
    "EcdcFile",
    "EcdcHeader",
    "PlainCoding",
    "chunk_frames",
    "ecdc_bytes",
    "is_ecdc",
    "model_name",
    "parse_ecdc",
    "serialize_scale",
]

_MAGIC = b"ECDC"
_HEAD = struct.Struct("!4sBI")
_SCALE = struct.Struct("!f")
_LONGEST_JSON = 4096
PACKAGE_MODELS = ("encodec_24khz", "encodec_48khz")
_OWN_MODEL = "streamcodec "


class ChunkEncoder(Protocol):
    """Writes the codes of one chunk."""

    def push(self, codes: Codes) -> bytes:
        """Take codes [n_q, F], F from 1, and return the bytes that are complete now."""
        ...

    def tail(self) -> bytes:
        """The bytes that would end the chunk here, after all that `push` gave. More codes may follow instead."""
        ...


class Coding(Protocol):
    """How the codes of a chunk become bytes, for a number of codebooks n_q."""

    def encoder(self) -> ChunkEncoder:
        """The encoder of one chunk."""
        ...

    def decode(self, data: memoryview, frames: int, *, whole: bool = True) -> tuple[Codes, int]:
        """The codes [n_q, frames] at the start of `data`, and how many bytes they take. Raises `CodesError`.

        A chunk that is `whole` has no more frames: the bits that fill its last byte must be zero.
        """
        ...

    def least_size(self, frames: int) -> int:
        """The fewest bytes that such a chunk takes."""
        ...


class PlainCoding:
    """Each code in `bits` bits, without a language model; frames have `n_q` codes."""

    def __init__(self, bits: int, n_q: int) -> None:
        self._bits, self._n_q = bits, n_q

    def encoder(self) -> _PlainEncoder:
        """The encoder of one chunk."""
        return _PlainEncoder(self._bits)

    def decode(self, data: memoryview, frames: int, *, whole: bool = True) -> tuple[Codes, int]:
        """The codes [n_q, frames] at the start of `data`, and how many bytes they take. Raises `CodesError`.

        A chunk that is `whole` has no more frames: the bits that fill its last byte must be zero.
        """
        size, bits, n_q = self.least_size(frames), self._bits, self._n_q
        if size > len(data):
            raise CodesError(f"a chunk of {frames} frames of {n_q} codebooks has {size} bytes, and {len(data)} are left: it was cut off")
        if whole and (unused := 8 * size - n_q * frames * bits) and data[size - 1] >> (8 - unused):
            raise CodesError(f"the {unused} bits after the last code are not zero: it is damaged")
        groups = np.zeros((-(-n_q * frames // 8), bits), np.uint8)
        groups.reshape(-1)[:size] = np.frombuffer(data[:size], np.uint8)
        codes = np.zeros((len(groups), 8), np.int32)
        for code, byte, by in _overlaps(bits):
            codes[:, code] |= _shifted(groups[:, byte].astype(np.int32), by) & ((1 << bits) - 1)
        return np.ascontiguousarray(codes.reshape(-1)[: frames * n_q].reshape(frames, n_q).T), size

    def least_size(self, frames: int) -> int:
        """The bytes of such a chunk."""
        return -(-self._n_q * frames * self._bits // 8)


class _PlainEncoder:
    def __init__(self, bits: int) -> None:
        self._bits = bits
        self._waiting = np.empty(0, np.int32)  # codes that fill no group of eight yet

    def push(self, codes: Codes) -> bytes:
        flat = np.concatenate([self._waiting, codes.T.reshape(-1)])
        whole = len(flat) // 8 * 8
        self._waiting = flat[whole:]
        return self._packed(flat[:whole])

    def tail(self) -> bytes:
        size = -(-len(self._waiting) * self._bits // 8)
        return self._packed(np.concatenate([self._waiting, np.zeros(-len(self._waiting) % 8, np.int32)]))[:size]

    def _packed(self, codes: Codes) -> bytes:
        groups = codes.reshape(-1, 8)
        packed = np.zeros((len(groups), self._bits), np.uint8)
        for code, byte, by in _overlaps(self._bits):
            packed[:, byte] |= (_shifted(groups[:, code], -by) & 0xFF).astype(np.uint8)
        return packed.tobytes()


def _overlaps(bits: int) -> list[tuple[int, int, int]]:
    """Of eight codes in `bits` bytes: each code, each byte that holds bits of it, and how far left these are in the code."""
    return [(code, byte, 8 * byte - code * bits) for code in range(8) for byte in range(code * bits // 8, ((code + 1) * bits - 1) // 8 + 1)]


def _shifted(values: Codes, by: int) -> Codes:
    """Values shifted to the left, or to the right if `by` is negative."""
    return values << by if by >= 0 else values >> -by


@dataclass(frozen=True)
class EcdcHeader:
    """What the JSON says: the model, the samples of each channel, the codebooks, and what predicts the codes.

    `lm` is whether EnCodec's language model does, or the fingerprint of a model of whole numbers.
    """

    model: str
    samples: int
    n_q: int
    lm: bool | str = False

    def serialize(self, size: int = 0) -> bytes:
        """The bytes before the first chunk. JSON shorter than `size` bytes is filled with spaces, which JSON allows."""
        text = self.json().ljust(size)
        return _HEAD.pack(_MAGIC, int(isinstance(self.lm, str)), len(text)) + text

    def json(self) -> bytes:
        """The header's JSON, without spaces at its end."""
        return json.dumps({"m": self.model, "al": self.samples, "nc": self.n_q, "lm": self.lm}).encode()

    @classmethod
    def parse(cls, data: bytes) -> tuple[EcdcHeader, int, bool]:
        """The header, its size in bytes, and whether spaces fill it. Raises `CodesError`."""
        if not is_ecdc(data):
            raise CodesError("not an .ecdc file: it does not begin with 'ECDC'")
        if len(data) < _HEAD.size:
            raise CodesError(f"its header has {len(data)} bytes, expected {_HEAD.size} and more: it was cut off")
        _, version, size = _HEAD.unpack_from(data)
        if version not in (0, 1):
            raise CodesError(f"version {version} of the format, expected 0 or 1")
        if size > _LONGEST_JSON:
            raise CodesError(f"its header says that it has {size} bytes of JSON, expected at most {_LONGEST_JSON}: it is damaged")
        text = data[_HEAD.size : _HEAD.size + size]
        if len(text) < size:
            raise CodesError(f"its header has {len(text)} bytes of JSON of {size}: it was cut off")
        try:
            found: Any = json.loads(text.decode("utf-8"))
        except (ValueError, RecursionError) as exc:
            raise CodesError(f"its header is no JSON: {' '.join(str(exc).split())}") from exc
        if not isinstance(found, dict) or set(found) != {"m", "al", "nc", "lm"}:
            raise CodesError("its header has other fields than m, al, nc and lm: it is damaged, or of a later version")
        model, samples, n_q, lm = (found[name] for name in ("m", "al", "nc", "lm"))
        if not isinstance(model, str) or not _is_count(samples) or not _is_count(n_q) or type(lm) is not (str if version else bool):
            raise CodesError(f"a field of its header is invalid: {str(found)[:200]}")
        return cls(model, samples, n_q, lm), _HEAD.size + size, text[-1:].isspace()


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value < 1 << 63


def is_ecdc(data: bytes) -> bool:
    """Whether bytes begin as an `.ecdc` file does."""
    return data.startswith(_MAGIC)


def model_name(config: CodecConfig, fingerprint: str) -> str:
    """The name of a model in a header: the package's for its architectures, one of our own for all others."""
    for name in PACKAGE_MODELS:
        published = PUBLISHED[name]
        # Neither changes how codes are read.
        if replace(config, search_beam=1, target_bandwidths=published.target_bandwidths) == published:
            return name
    return _OWN_MODEL + fingerprint


def chunk_frames(config: CodecConfig, samples: int) -> list[int]:
    """The frames of each chunk of a clip."""
    return [config.frames_for(size) for size in config.chunk_sizes(samples)]


def serialize_scale(scale: float | None) -> bytes:
    """The bytes of a chunk's scale; none for None."""
    return b"" if scale is None else _SCALE.pack(scale)


@dataclass(frozen=True)
class EcdcFile:
    """A file whose header was read. `grew` says that its header is filled with spaces, as that of a file whose length was not known is."""

    header: EcdcHeader
    body: bytes
    grew: bool = False

    @property
    def samples(self) -> int:
        """The samples of each channel."""
        return self.header.samples

    @property
    def fingerprint(self) -> str | None:
        """The fingerprint of the model; None if the file has one of the package's names of models."""
        name = self.header.model
        return name.removeprefix(_OWN_MODEL) if name.startswith(_OWN_MODEL) else None

    def chunks(self, config: CodecConfig, coding: Coding) -> list[tuple[Codes, float | None]]:
        """The codes [n_q, frames] and the scale of each chunk, for a model of this config.

        The bytes must be exactly those that the header asks for; a file that grew may have more, of frames that its header does not count
        yet. Raises `CodesError`. A header that asks for more than the file can hold is refused at once.
        """
        header, body = self.header, memoryview(self.body)
        if header.n_q > config.num_quantizers:
            raise CodesError(f"its header says {header.n_q} codebooks, this model has {config.num_quantizers}")
        scale_bytes = _SCALE.size if config.normalize else 0
        count = -(-header.samples // (config.chunk_stride or header.samples))
        if count > len(body):
            least = count  # a list of so many chunks would take the memory that a false header asks for
        else:
            least = sum(scale_bytes + coding.least_size(frames) for frames in chunk_frames(config, header.samples))
        if least > len(body):
            raise CodesError(
                f"its header says {header.samples} samples of {header.n_q} codebooks in {count} chunk(s), which are more than the "
                f"{len(body)} bytes after it: it was cut off or damaged"
            )
        at = 0
        chunks: list[tuple[Codes, float | None]] = []
        for frames in chunk_frames(config, header.samples):
            scale = None
            if config.normalize:
                if len(body) - at < _SCALE.size:
                    raise CodesError(f"chunk {len(chunks)} has no scale: it was cut off")
                [scale] = _SCALE.unpack_from(body, at)
                if not 0.0 < scale < float("inf"):
                    raise CodesError(f"the scale of chunk {len(chunks)} is {scale}, expected a number above 0: it is damaged")
                at += _SCALE.size
            whole = not self.grew or len(chunks) + 1 < count
            codes, size = coding.decode(body[at:], frames, whole=whole)
            at += size
            chunks.append((codes, scale))
        if at != len(body) and not self.grew:
            raise CodesError(f"{len(body) - at} bytes follow the last chunk: it is damaged")
        return chunks


def ecdc_bytes(config: CodecConfig, header: EcdcHeader, chunks: Sequence[tuple[Codes, float | None]], coding: Coding) -> bytes:
    """The bytes of a file with these chunks of a model of this config: codes [n_q, frames], and a scale if the model normalises.

    Raises `CodesError` for chunks that are not those of `header.samples` samples.
    """
    if [codes.shape for codes, _ in chunks] != [(header.n_q, frames) for frames in chunk_frames(config, header.samples)]:
        shapes = ", ".join(str(list(codes.shape)) for codes, _ in chunks[:3])
        raise CodesError(f"{len(chunks)} chunk(s) of codes ({shapes}) are not {header.samples} samples of {header.n_q} codebooks")
    if any((scale is not None) != config.normalize for _, scale in chunks):
        raise CodesError(f"a chunk has the wrong kind of scale, expected {'a number' if config.normalize else 'None'}")
    parts = [header.serialize()]
    for codes, scale in chunks:
        encoder = coding.encoder()
        parts += [serialize_scale(scale), encoder.push(codes), encoder.tail()]
    return b"".join(parts)


def parse_ecdc(data: bytes) -> EcdcFile:
    """Read the header of a file. Raises `CodesError` for another kind of file and for a damaged header."""
    header, size, grew = EcdcHeader.parse(data)
    return EcdcFile(header, data[size:], grew)
