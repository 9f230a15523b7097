"""How a whole clip's codes and audio are compared with a package's: chunk by chunk, each chunk as the stream that it is.

A model that codes clips as a whole has one chunk. Tests and benchmarks compare by these.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from streamcodec.codec import Chunk, Codec
from streamcodec.config import CodecConfig
from streamcodec.errors import CodesError
from streamcodec.model.near_ties import Comparison, NearTies, StreamTruth
from streamcodec.types import Samples

__all__ = ["AUDIO_WITHIN", "SCALES_WITHIN", "ClipTruth", "decode_clip", "row_chunks", "row_of", "scales_apart"]

AUDIO_WITHIN = 1e-4
"""How far samples may be apart that two implementations decode from the same codes in float32."""

SCALES_WITHIN = 1e-5
"""How far two scales of a chunk may be apart, relative to the greater."""


class ClipTruth:
    """What is true of a clip [C, T] that is coded in chunks; latents in float64 are computed where a comparison needs them, and kept.

    `config` says how the clip is cut, by default that of the rule's model.
    """

    def __init__(self, rule: NearTies, clip: Samples, config: CodecConfig | None = None) -> None:
        self._rule = rule
        self._clip = clip
        self._config = config or rule.model.config
        self._chunks: dict[tuple[int, float | None], StreamTruth] = {}

    def compare(self, found: Sequence[Chunk], expected: Sequence[Chunk]) -> list[Comparison]:
        """Compare the codes [n_q, F] of each chunk with those expected, whose scales say what was encoded.

        Raises `CodesError` where chunks, shapes or entries are none of this clip's.
        """
        due = len(self._config.chunk_sizes(self._clip.shape[1]))
        if not len(found) == len(expected) == due:
            raise CodesError(f"{len(found)} chunks and {len(expected)} expected ones: this clip has {due}")
        return [
            self._chunk(i, other.scale).compare(one.codes, other.codes) for i, (one, other) in enumerate(zip(found, expected, strict=True))
        ]

    def _chunk(self, index: int, scale: float | None) -> StreamTruth:
        if (index, scale) not in self._chunks:
            begin = index * (self._config.chunk_stride or 0)
            samples = self._clip[:, begin : begin + (self._config.chunk_length or self._clip.shape[1])]
            if scale is not None:
                samples = samples / np.float32(scale)
            streams = self._rule.model.config.granularity == "frames"
            self._chunks[index, scale] = self._rule.stream(samples[0] if streams else samples)
        return self._chunks[index, scale]


def row_of(chunks: Sequence[Chunk], row: int = 0) -> list[Chunk]:
    """One clip's chunks, codes [n_q, F] and a number as scale, out of those of a batch."""
    return [Chunk(chunk.codes[row], None if chunk.scale is None else float(chunk.scale[row])) for chunk in chunks]


def row_chunks(encoded: Any, row: int) -> list[Chunk]:
    """The same out of what `EncodecModel.encode` gives, `transformers`' or ours; frames that only pad the last chunk are left out."""
    codes = [chunk[row].numpy() for chunk in encoded.audio_codes]
    codes[-1] = codes[-1][:, : codes[-1].shape[1] - encoded.last_frame_pad_length]
    scales = [None if scale is None else float(scale[row]) for scale in encoded.audio_scales]
    return [Chunk(*chunk) for chunk in zip(codes, scales, strict=True)]


def scales_apart(found: Sequence[Chunk], expected: Sequence[Chunk]) -> float:
    """The largest difference between the scales of two lists of chunks, relative to the greater; infinite where only one has a scale."""
    pairs = [(one.scale, other.scale) for one, other in zip(found, expected, strict=True)]
    if any((one is None) != (other is None) for one, other in pairs):
        return np.inf
    apart = [abs(one - other) / max(one, other) for one, other in pairs if one is not None]
    return float(np.max(apart, initial=0.0))  # not a number, if one of them is none


def decode_clip(codec: Codec, chunks: Sequence[Chunk]) -> Samples:
    """The samples [C, T] that the codec makes of one clip's chunks."""
    samples: Samples = np.atleast_2d(codec.decode(chunks[0].codes if codec.config.codes_alone else list(chunks)))
    return samples
