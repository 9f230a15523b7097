"""Clips to `.ecdc` bytes and back, and streams to `.ecdc` files that grow: the package `encodec`'s files, by this package's codecs."""

from __future__ import annotations

from collections.abc import Iterable
from os import PathLike
from typing import Any

from streamcodec.audio.dsp.resample import resampled_length
from streamcodec.bitstream.ecdc import Coding, EcdcFile, EcdcHeader, PlainCoding, ecdc_bytes, model_name, parse_ecdc
from streamcodec.bitstream.ecdc_writer import EcdcWriter
from streamcodec.codec.arrays import as_numpy, check_codes
from streamcodec.codec.chunks import Chunk, as_chunks
from streamcodec.codec.clip import Codec
from streamcodec.errors import CodesError
from streamcodec.output_file import Input
from streamcodec.types import Samples

__all__ = ["compress", "decompress", "ecdc_chunks", "open_ecdc", "to_ecdc"]


def compress(codec: Codec, audio: Any, sample_rate: float | None = None, bandwidth: float | None = None) -> bytes:
    """Encode a clip [T] or [C, T] to the bytes of an `.ecdc` file; the arguments are those of `Codec.encode`.

    A model of one of the published architectures gives the bytes that `encodec.compress` gives for the same samples. Raises `AudioError`
    or `CodesError`.
    """
    array, _ = as_numpy(audio)
    if array.ndim > 2:
        raise CodesError(f"audio has shape {list(array.shape)}, expected [T] or [C, T]: an .ecdc file holds one clip")
    encoded = codec.encode(array, sample_rate, bandwidth)
    rate = codec.sample_rate if sample_rate is None else sample_rate
    return to_ecdc(codec, encoded, resampled_length(array.shape[-1], rate, codec.sample_rate))


def decompress(codec: Codec, data: bytes) -> Samples:
    """Decode the bytes of an `.ecdc` file to samples [T], or [C, T] of a model of several channels, as many as were encoded.

    Raises `CodesError` for bytes that are no whole file, and for those of a model that this one is not.
    """
    file = parse_ecdc(data)
    chunks = ecdc_chunks(codec, file)
    samples: Samples = codec.decode(chunks[0].codes if codec.config.granularity == "frames" else chunks)
    return samples[..., : file.header.samples]


def to_ecdc(codec: Codec, encoded: Any, samples: int) -> bytes:
    """The bytes of an `.ecdc` file for one clip: what `Codec.encode` gave for it, and its length at the codec's rate.

    Raises `CodesError` for codes that are not those of so many samples.
    """
    chunks = []
    for chunk in as_chunks(encoded):
        codes, _ = check_codes(codec.config, as_numpy(chunk.codes)[0], batch=False)
        chunks.append((codes[0], None if chunk.scale is None else float(chunk.scale)))
    n_q = len(chunks[0][0])
    return ecdc_bytes(codec.config, _header(codec, n_q, samples), chunks, _coding(codec, n_q))


def ecdc_chunks(codec: Codec, file: EcdcFile) -> list[Chunk]:
    """The chunks of a file whose header was read, which is one chunk for most models: `Codec.decode` takes them.

    Raises `CodesError` for a file of another model, and for one that is damaged.
    """
    expected = model_name(codec.config, codec.fingerprint)
    theirs = file.fingerprint
    if file.header.model != expected and (theirs is None or not codec.reads(theirs)):
        raise CodesError(f"made with the model {file.header.model!r}; {codec.name} is {expected!r}: give its model")
    if file.header.has_lm:
        raise CodesError("its codes are coded with a language model, which this version does not read")
    return [Chunk(codes, scale) for codes, scale in file.chunks(codec.config, _coding(codec, file.header.n_q))]


def open_ecdc(codec: Codec, path: str | PathLike[str], bandwidth: float | None = None, *, inputs: Iterable[Input] = ()) -> EcdcWriter:
    """Open a file for a stream's packets of codes, all of the same bandwidth (kbps), or for a clip's chunks; see `EcdcWriter`.

    The packets must be those of a stream with `start="exact"`, which a decoder of clips expects.
    """
    n_q = codec.config.n_q_for(bandwidth)
    return EcdcWriter(path, codec.config, _header(codec, n_q), _coding(codec, n_q), inputs=inputs)


def _header(codec: Codec, n_q: int, samples: int = 0) -> EcdcHeader:
    return EcdcHeader(model_name(codec.config, codec.fingerprint), samples, n_q)


def _coding(codec: Codec, n_q: int) -> Coding:
    return PlainCoding(codec.config.bits_per_code, n_q)
