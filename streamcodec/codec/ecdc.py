"""Clips to `.ecdc` bytes and back, and streams to `.ecdc` files that grow: the package `encodec`'s files, by this package's codecs."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterable, Iterator
from os import PathLike
from pathlib import Path
from typing import Any, Literal, TypeGuard, cast

from streamcodec.audio.dsp.resample import resampled_length
from streamcodec.bitstream.arithmetic_coding import ArithmeticCoding, Counts, counts_of
from streamcodec.bitstream.checked_coding import MAX_BLOCK_FRAMES, CheckedCoding
from streamcodec.bitstream.ecdc import Coding, EcdcFile, EcdcHeader, PlainCoding, ecdc_bytes, model_name, parse_ecdc
from streamcodec.bitstream.ecdc_writer import EcdcWriter
from streamcodec.codec.arrays import as_numpy, check_codes
from streamcodec.codec.chunks import Chunk, as_chunks
from streamcodec.codec.clip import Codec
from streamcodec.engine.base import LanguageEngine, LevelEngine
from streamcodec.errors import CheckpointError, CodesError
from streamcodec.output_file import Input
from streamcodec.types import Codes, Samples

__all__ = [
    "check_model",
    "compress",
    "decompress",
    "ecdc_chunks",
    "lm_in_header",
    "load_fixed_point",
    "load_language_model",
    "open_ecdc",
    "to_ecdc",
]


def compress(
    codec: Codec,
    audio: Any,
    sample_rate: float | None = None,
    bandwidth: float | None = None,
    *,
    language_model: LanguageEngine | LevelEngine | None = None,
) -> bytes:
    """Encode a clip [T] or [C, T] to the bytes of an `.ecdc` file; the arguments are those of `Codec.encode`.

    A model of one of the published architectures gives the bytes that `encodec.compress` gives for the same samples. With a language model
    (see `load_language_model`) the codes take fewer bytes; whoever reads them needs the same one, on the same kind of processor. Raises
    `AudioError` or `CodesError`.
    """
    array, _ = as_numpy(audio)
    if array.ndim > 2:
        raise CodesError(f"audio has shape {list(array.shape)}, expected [T] or [C, T]: an .ecdc file holds one clip")
    encoded = codec.encode(array, sample_rate, bandwidth)
    rate = codec.sample_rate if sample_rate is None else sample_rate
    return to_ecdc(codec, encoded, resampled_length(array.shape[-1], rate, codec.sample_rate), language_model)


def decompress(codec: Codec, data: bytes, *, language_model: LanguageEngine | LevelEngine | None = None) -> Samples:
    """Decode the bytes of an `.ecdc` file to samples [T], or [C, T] of a model of several channels, as many as were encoded.

    Raises `CodesError` for bytes that are no whole file, for those of a model that this one is not, and for codes that need a language
    model if none is given.
    """
    file = parse_ecdc(data)
    chunks = ecdc_chunks(codec, file, language_model)
    samples: Samples = codec.decode(chunks[0].codes if codec.config.granularity == "frames" else chunks)
    return samples[..., : file.header.samples]


def to_ecdc(codec: Codec, encoded: Any, samples: int, language_model: LanguageEngine | LevelEngine | None = None) -> bytes:
    """The bytes of an `.ecdc` file for one clip: what `Codec.encode` gave for it, and its length at the codec's rate.

    Raises `CodesError` for codes that are not those of so many samples.
    """
    chunks = []
    for chunk in as_chunks(encoded):
        codes, _ = check_codes(codec.config, as_numpy(chunk.codes)[0], batch=False)
        chunks.append((codes[0], None if chunk.scale is None else float(chunk.scale)))
    n_q = len(chunks[0][0])
    header = _header(codec, n_q, samples, language_model)
    return ecdc_bytes(codec.config, header, chunks, _coding(codec, n_q, language_model))


def ecdc_chunks(codec: Codec, file: EcdcFile, language_model: LanguageEngine | LevelEngine | None = None) -> list[Chunk]:
    """The chunks of a file whose header was read, which is one chunk for most models: `Codec.decode` takes them.

    Raises `CodesError` for a file of another model, and for one that is damaged.
    """
    check_model(codec, file)
    coding = _coding(codec, file.header.n_q, _model_for(codec, file.header.lm, language_model))
    return [Chunk(codes, scale) for codes, scale in file.chunks(codec.config, coding)]


def _model_for(codec: Codec, lm: bool | str, given: LanguageEngine | LevelEngine | None) -> LanguageEngine | LevelEngine | None:
    """The language model that a header asks for: `given`, or an embedded one. Raises `CodesError` if it is neither."""
    if lm is False:
        return None
    if lm is True:
        if given is None or _is_fixed(given):
            raise CodesError("its codes are coded by EnCodec's language model, expected that model as well")
        return given
    if given is None:
        given = next((model for model in _embedded_for(codec) if model.fingerprint == lm), None)
    if not _is_fixed(given) or given.fingerprint != lm:
        found = given.fingerprint if _is_fixed(given) else "none of this kind"
        raise CodesError(f"its codes are coded by the language model {lm!r}, and {found!r} is given")
    return given


def check_model(codec: Codec, file: EcdcFile) -> None:
    """Raise `CodesError` for a file of a model that this one is not."""
    expected = model_name(codec.config, codec.fingerprint)
    theirs = file.fingerprint
    if file.header.model != expected and (theirs is None or not codec.reads(theirs)):
        raise CodesError(f"made with the model {file.header.model!r}; {codec.name} is {expected!r}: give its model")


def open_ecdc(
    codec: Codec,
    path: str | PathLike[str],
    bandwidth: float | None = None,
    *,
    language_model: LanguageEngine | LevelEngine | None = None,
    inputs: Iterable[Input] = (),
) -> EcdcWriter:
    """Open a file for a stream's packets of codes, all of the same bandwidth (kbps), or for a clip's chunks; see `EcdcWriter`.

    The packets must be those of a stream with `start="exact"`, which a decoder of clips expects.
    """
    n_q = codec.config.n_q_for(bandwidth)
    header = _header(codec, n_q, 0, language_model)
    return EcdcWriter(path, codec.config, header, _coding(codec, n_q, language_model), inputs=inputs)


def load_language_model(path: str | PathLike[str], codec: Codec) -> LanguageEngine:
    """Load a checkpoint of EnCodec's language model, such as `encodec_lm_24khz-1608e3c0.th`, for a codec's codes; torch runs it.

    Raises a `ModelError` that says what is wrong with it.
    """
    from streamcodec.engine.language import TorchLanguageEngine
    from streamcodec.model.language_model import load_language_model

    return TorchLanguageEngine(load_language_model(Path(path), codec.config))


def load_fixed_point(
    name_or_path: str | PathLike[str], codec: Codec, engine: Literal["auto", "torch", "openvino"] = "auto", *, threads: int = 1
) -> LevelEngine:
    """Load a language model of whole numbers for a codec's codes, for files that every machine reads.

    It is a file, or the name of an embedded model whose codes it predicts. `engine` runs it on so many `threads`; "auto" is OpenVINO where
    that is installed, which is faster, and every engine gives the same codes. Raises a `ModelError` that says what is wrong with it.
    """
    from streamcodec.engine.fixed_point import FixedPointEngine
    from streamcodec.model.fixed_point import load_fixed_point
    from streamcodec.model.hub import embedded_language_models

    model = load_fixed_point(embedded_language_models().get(str(name_or_path), Path(name_or_path)))
    if model.codebook_size != codec.config.codebook_size:
        raise CheckpointError(f"{name_or_path}: is for codebooks of {model.codebook_size}, the codec has {codec.config.codebook_size}")
    if engine == "torch" or (engine == "auto" and importlib.util.find_spec("openvino") is None):
        return FixedPointEngine(model)
    from streamcodec.engine.openvino.fixed_point import openvino_step

    return FixedPointEngine(model, openvino_step(model, threads))


def _embedded_for(codec: Codec) -> Iterator[LevelEngine]:
    """The embedded language models for codebooks of the codec's size."""
    from streamcodec.model.hub import embedded_language_models

    for name in embedded_language_models():
        with contextlib.suppress(CheckpointError):
            yield load_fixed_point(name, codec)


def _header(codec: Codec, n_q: int, samples: int, language_model: LanguageEngine | LevelEngine | None) -> EcdcHeader:
    return EcdcHeader(model_name(codec.config, codec.fingerprint), samples, n_q, lm_in_header(language_model))


def lm_in_header(language_model: LanguageEngine | LevelEngine | None) -> bool | str:
    """What a header says of the language model: see `EcdcHeader`."""
    return language_model.fingerprint if _is_fixed(language_model) else language_model is not None


def _is_fixed(language_model: LanguageEngine | LevelEngine | None) -> TypeGuard[LevelEngine]:
    return hasattr(language_model, "fingerprint")


def _coding(codec: Codec, n_q: int, language_model: LanguageEngine | LevelEngine | None) -> Coding:
    if language_model is None:
        return PlainCoding(codec.config.bits_per_code, n_q)
    if _is_fixed(language_model):
        fixed = language_model
        return CheckedCoding(lambda frame, state: fixed.predict(frame, state, n_q), n_q, min(MAX_BLOCK_FRAMES, round(codec.frame_rate)))
    floating = cast(LanguageEngine, language_model)

    def predict(frame: Codes | None, state: Any) -> tuple[Counts, Any]:
        shares, state = floating.predict(frame, state, n_q)
        return counts_of(shares), state

    return ArithmeticCoding(predict, n_q, codec.config.codebook_size)
