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
    """What was compared, and what differed: `seconds` of speech, encoded at `bandwidth` kbps to `codes` codes in all.

    `codes_differing` counts the codes that are not equal. `samples_differ_by` is the largest difference between samples that the two models
    decode from the first one's codes.
    """

    seconds: float
    bandwidth: float
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
            f"{self.seconds:.1f} s of speech at {self.bandwidth:g} kbps: {self.codes} codes, {differing}; "
            f"decoded samples, equal to within {self.samples_differ_by:g}"
        )


def compare_models(one: EncodecModel, other: EncodecModel) -> ModelComparison:
    """Encode and decode a clip of speech by two models of one architecture, on the torch engine.

    The bandwidth is the highest: the codes of lower ones are the first of its codes.
    """
    first, second = (Codec(make_engine(model, "", "torch"), name="", fingerprint="") for model in (one, other))
    bandwidth = max(one.config.target_bandwidths)
    clip, rate = _stereo_clip()
    encoded, again = (codec.encode(clip, rate, bandwidth) for codec in (first, second))
    pairs = list(zip(as_chunks(encoded), as_chunks(again), strict=True))
    return ModelComparison(
        clip.shape[1] / rate,
        bandwidth,
        sum(expected.codes.size for expected, _ in pairs),
        sum(int(np.count_nonzero(expected.codes != found.codes)) for expected, found in pairs),
        float(np.abs(first.decode(encoded) - second.decode(encoded)).max()),
    )


def _stereo_clip() -> tuple[Samples, int]:
    """Two stretches of the bundled clip as two channels [2, T]: a model of one channel takes their mean."""
    samples, rate = bundled_clip()
    length = round(_CLIP_S * rate)
    return np.stack([samples[rate : rate + length], samples[3 * rate : 3 * rate + length]]), rate
