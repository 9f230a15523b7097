"""Clips in chunks, for models that code whole chunks: several chunks share a call of the engine.

Follows facebookresearch/encodec (`encodec/model.py`, `encodec/utils.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from streamcodec.codec.arrays import as_numpy, check_codes
from streamcodec.config import CodecConfig
from streamcodec.engine.base import Engine
from streamcodec.engine.chunking import ChunkCutter, OverlapAdd, normalised
from streamcodec.errors import CodesError
from streamcodec.types import Chunk, Codes, Samples, codes_in

__all__ = ["Chunk", "as_chunks", "check_chunk", "chunks_of", "clip_of", "decode_chunks", "encode_chunks", "overlap_add"]

_TOGETHER_S = 4.0  # of audio in one call of the engine, which bounds the memory


def as_chunks(encoded: Any) -> list[Chunk]:
    """What `Codec.encode` gives, as chunks whatever the model."""
    return encoded if isinstance(encoded, list) else [Chunk(encoded)]


def encode_chunks(engine: Engine, clips: Samples, n_q: int, progress: Callable[[float], None] | None = None) -> list[tuple[Codes, Any]]:
    """Encode clips [B, C, T]: for each chunk, codes [B, n_q, frames] and scales [B], or None if the model does not normalise."""
    config, total = engine.config, clips.shape[-1]
    cutter = ChunkCutter(config)
    cutter.feed(clips)
    cutter.finish()
    found: list[tuple[Codes, Any]] = []
    for chunks in _together(cutter, config, len(clips)):
        stacked, scales = np.concatenate(chunks), None
        if config.normalize:
            stacked, scales = normalised(stacked)
        samples = stacked[:, 0] if config.audio_channels == 1 else stacked
        codes, _ = engine.encode(np.ascontiguousarray(samples), None, [n_q] * len(stacked), final=True)
        for at in range(0, len(stacked), len(clips)):
            rows = slice(at, at + len(clips))
            found.append((codes[rows], None if scales is None else scales[rows]))
        if progress:
            progress(min(1.0, len(found) * (config.chunk_stride or total) / total))
    return found


def decode_chunks(engine: Engine, chunks: Sequence[tuple[Codes, Any]], progress: Callable[[float], None] | None = None) -> Samples:
    """Decode chunks, codes [B, n_q, frames] and scales [B] of each, to samples [B, C, T]."""
    config, parts = engine.config, []
    for codes, scales in chunks:
        samples, _ = engine.decode(np.ascontiguousarray(codes), None, final=True)
        samples = samples if samples.ndim == 3 else samples[:, None]
        parts.append(samples if scales is None else samples * np.asarray(scales, np.float32)[:, None, None])
        if progress:
            progress(len(parts) / len(chunks))
    return parts[0] if config.chunk_stride is None else overlap_add(parts, config.chunk_stride)


def overlap_add(parts: Sequence[Samples], stride: int) -> Samples:
    """Join parts [..., T], of which the first is the longest, as `OverlapAdd` does."""
    joining = OverlapAdd(stride)
    return np.concatenate([*(joining.add(part) for part in parts), joining.flush()], axis=-1)


def check_chunk(config: CodecConfig, chunk: Any, *, batch: bool = False) -> tuple[Chunk, bool]:
    """The chunk with codes int32 [B, n_q, F] and scales float32 [B] or None, and whether it had a batch axis.

    Raises `CodesError` for what is no chunk of the model.
    """
    if not isinstance(chunk, Chunk):
        raise CodesError(f"a packet is a {type(chunk).__name__}, expected a chunk: what this model's encoder gives")
    codes, batched = check_codes(config, as_numpy(chunk.codes)[0], batch=batch)
    if config.chunk_length is not None and codes.shape[2] > config.frames_for(config.chunk_length):
        raise CodesError(f"a chunk has {codes.shape[2]} frames, expected at most {config.frames_for(config.chunk_length)}")
    if not config.normalize:
        if chunk.scale is not None:
            raise CodesError(f"a chunk has the scale {chunk.scale!r}, expected none: this model does not normalise")
        return Chunk(codes), batched
    if chunk.scale is None:
        raise CodesError(f"a chunk has no scale, expected {len(codes)} scale(s)")
    scales = np.atleast_1d(np.asarray(as_numpy(chunk.scale)[0], np.float32))
    if scales.shape != (len(codes),) or not np.isfinite(scales).all() or scales.min() < 0:
        raise CodesError(f"a chunk has scales {scales.tolist()}, expected {len(codes)} finite scale(s) of 0 or more")
    return Chunk(codes, scales), batched


def clip_of(packets: Sequence[Any]) -> tuple[Codes, Samples | None]:
    """A clip's packets, as `Codec.encode_blocks` gives them, as codes [n_q, frames] and scales [chunks], or None if it has none."""
    codes = np.concatenate([codes_in(packet) for packet in packets], axis=1)
    scales = [packet.scale for packet in packets if isinstance(packet, Chunk) and packet.scale is not None]
    return codes, np.array(scales, np.float32) if scales else None


def chunks_of(config: CodecConfig, codes: Codes, scales: Samples | None, samples: int) -> list[Chunk]:
    """The chunks of a clip of `samples` samples, one for most models, from what `clip_of` made of them.

    Raises `CodesError` if they are not that clip's.
    """
    sizes = [config.frames_for(length) for length in config.chunk_sizes(samples)]
    if codes.shape[1] != sum(sizes):
        raise CodesError(f"{codes.shape[1]} frames are not {samples} samples")
    if (0 if scales is None else len(scales)) != (len(sizes) if config.normalize else 0):
        held, expected = "no scales" if scales is None else f"{len(scales)} scales", f"{len(sizes)}" if config.normalize else "none"
        raise CodesError(f"{held}, expected {expected}")
    parts = np.split(codes, np.cumsum(sizes)[:-1], axis=1)
    return [Chunk(part, None if scales is None else float(scales[i])) for i, part in enumerate(parts)]


def _together(chunks: Iterable[Samples], config: CodecConfig, rows: int) -> Iterator[list[Samples]]:
    """Chunks of one length, as many at once as `_TOGETHER_S` allows."""
    most = max(1, int(_TOGETHER_S / ((config.chunk_length_s or _TOGETHER_S) * rows)))
    held: list[Samples] = []
    for chunk in chunks:
        if held and (len(held) == most or chunk.shape != held[0].shape):
            yield held
            held = []
        held.append(chunk)
    yield held
