"""Clips in chunks, for models that code whole chunks: cut, scaled to one loudness, and joined again by overlap-add.

Follows facebookresearch/encodec (`encodec/model.py`, `encodec/utils.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from streamcodec.config import CodecConfig
from streamcodec.engine.base import Engine
from streamcodec.types import Codes, Samples

__all__ = ["Chunk", "as_chunks", "decode_chunks", "encode_chunks", "overlap_add"]

_TOGETHER_S = 4.0  # of audio in one call of the engine, which bounds the memory
_QUIETEST = 1e-8  # is added to each scale: silence is not divided by zero


@dataclass(frozen=True)
class Chunk:
    """The codes of a chunk of a clip, [n_q, frames] or [B, n_q, frames], and the loudness that its samples were divided by.

    `scale` is the root of the mean square of the mono mix, a number or [B]; None if the model does not normalise.
    """

    codes: Any
    scale: Any = None


def as_chunks(encoded: Any) -> list[Chunk]:
    """What `Codec.encode` gives, as chunks whatever the model."""
    return encoded if isinstance(encoded, list) else [Chunk(encoded)]


def encode_chunks(engine: Engine, clips: Samples, n_q: int, progress: Callable[[float], None] | None = None) -> list[tuple[Codes, Any]]:
    """Encode clips [B, C, T]: for each chunk, codes [B, n_q, frames] and scales [B], or None if the model does not normalise."""
    config, total = engine.config, clips.shape[-1]
    found: list[tuple[Codes, Any]] = []
    for chunks in _together(_cut(clips, config), config, len(clips)):
        stacked = np.concatenate(chunks)
        scales = None
        if config.normalize:
            scales = np.sqrt(np.square(stacked.mean(axis=1, dtype=np.float32)).mean(axis=-1, dtype=np.float32)) + np.float32(_QUIETEST)
            stacked = stacked / scales[:, None, None]
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
    """Join parts [..., T], which begin `stride` samples apart: where they overlap, each fades linearly into the next one."""
    longest = parts[0].shape[-1]
    ramp = np.linspace(0, 1, longest + 2, dtype=np.float32)[1:-1]
    weight = np.float32(0.5) - np.abs(ramp - np.float32(0.5))
    total = stride * (len(parts) - 1) + parts[-1].shape[-1]
    joined, weights = np.zeros((*parts[0].shape[:-1], total), np.float32), np.zeros(total, np.float32)
    for i, part in enumerate(parts):
        place, fade = slice(i * stride, i * stride + part.shape[-1]), weight[: part.shape[-1]]
        joined[..., place] += fade * part
        weights[place] += fade
    return np.asarray(joined / weights, np.float32)


def _cut(clips: Samples, config: CodecConfig) -> Iterator[Samples]:
    """The chunks [B, C, T'] of clips [B, C, T]; only the last ones may be shorter."""
    length, stride = config.chunk_length or clips.shape[-1], config.chunk_stride or clips.shape[-1]
    for at in range(0, clips.shape[-1], stride):
        yield clips[..., at : at + length]


def _together(chunks: Iterator[Samples], config: CodecConfig, rows: int) -> Iterator[list[Samples]]:
    """Chunks of one length, as many at once as `_TOGETHER_S` allows."""
    most = max(1, int(_TOGETHER_S / ((config.chunk_length_s or _TOGETHER_S) * rows)))
    held: list[Samples] = []
    for chunk in chunks:
        if held and (len(held) == most or chunk.shape != held[0].shape):
            yield held
            held = []
        held.append(chunk)
    yield held
