"""Compares two models by what they make of one clip: how a checkpoint that was converted is verified."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamcodec.audio import bundled_clip
from streamcodec.codec.chunks import as_chunks
from streamcodec.codec.clip import Codec
from streamcodec.engine.factory import make_engine
from streamcodec.model.encodec import EncodecModel
from streamcodec.types import Samples

__all__ = ["ModelComparison", "compare_models"]

_CLIP_S = 2.1  # two whole chunks of the 48 kHz model and a part of a third


@dataclass(frozen=True)
class ModelComparison:
    """What was compared, and what differed: `seconds` of speech, encoded at all `bandwidths` (kbps) to `codes` codes in all.

    `codes_differing` counts the codes that are not equal. `samples_differ_by` is the largest difference between samples that the two models
    decode from the first one's codes.
    """

    seconds: float
    bandwidths: tuple[float, ...]
    codes: int
    codes_differing: int
    samples_differ_by: float

    @property
    def all_equal(self) -> bool:
        """Whether nothing differed, not by a bit."""
        return not self.codes_differing and not self.samples_differ_by

    def __str__(self) -> str:
        differing = f"{self.codes_differing} of them differ" if self.codes_differing else "all equal"
        return (
            f"{self.seconds:.1f} s of speech at {', '.join(f'{b:g}' for b in self.bandwidths)} kbps: {self.codes} codes, {differing}; "
            f"decoded samples, equal to within {self.samples_differ_by:g}"
        )


def compare_models(one: EncodecModel, other: EncodecModel) -> ModelComparison:
    """Encode and decode a clip of speech by two models of one architecture, at every bandwidth, on the torch engine."""
    first, second = (Codec(make_engine(model, "", "torch"), name="", fingerprint="") for model in (one, other))
    clip, rate = _stereo_clip()
    codes = differing = 0
    loudest = 0.0
    for bandwidth in one.config.target_bandwidths:
        encoded, again = (codec.encode(clip, rate, bandwidth) for codec in (first, second))
        for expected, found in zip(as_chunks(encoded), as_chunks(again), strict=True):
            codes += expected.codes.size
            differing += int(np.count_nonzero(expected.codes != found.codes))
        loudest = max(loudest, float(np.abs(first.decode(encoded) - second.decode(encoded)).max()))
    return ModelComparison(clip.shape[1] / rate, one.config.target_bandwidths, codes, differing, loudest)


def _stereo_clip() -> tuple[Samples, int]:
    """Two stretches of the bundled clip as two channels [2, T]: a model of one channel takes their mean."""
    samples, rate = bundled_clip()
    length = round(_CLIP_S * rate)
    return np.stack([samples[rate : rate + length], samples[3 * rate : 3 * rate + length]]), rate
