"""How tests compare codes: equal, or each entry that differs proved a near-tie (see `streamcodec.model.near_ties`)."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.harness.clips import SCALES_WITHIN, ClipTruth, scales_apart
from streamcodec.audio.dsp.resample import StreamResampler
from streamcodec.codec import Codec
from streamcodec.config import CodecConfig, Start
from streamcodec.model.encodec import EncodecModel
from streamcodec.model.hub import load_model
from streamcodec.model.near_ties import NearTies
from streamcodec.types import Chunk, Samples

__all__ = ["assert_same_chunks", "assert_same_codes"]


@functools.lru_cache(maxsize=4)
def _rule(name: str, fingerprint: str) -> NearTies:  # noqa: ARG001 - a folder may be written anew under one name
    return NearTies(load_model(name))


def _rule_of(model: Codec | EncodecModel) -> NearTies:
    return NearTies(model) if isinstance(model, EncodecModel) else _rule(model.name, model.fingerprint)


def assert_same_codes(
    model: Codec | EncodecModel,
    codes: npt.NDArray[Any],
    expected: npt.NDArray[Any],
    samples: npt.NDArray[np.float32],
    start: Start = "exact",
    *,
    rate: float | None = None,
) -> None:
    """Codes [n_q, F] of the stream of `samples` [T], at `rate` Hz (the model's own by default), are the expected ones."""
    assert codes.shape == expected.shape, f"codes {codes.shape}, expected {expected.shape}"
    if np.array_equal(codes, expected):
        return
    rule = _rule_of(model)
    own_rate = rule.model.config.sampling_rate
    if rate is not None and rate != own_rate:
        resampler = StreamResampler(rate, own_rate)
        samples = np.concatenate([resampler.feed(samples), resampler.flush()])
    found = rule.compare(codes, expected, samples, start)
    assert found, str(found)


def assert_same_chunks(
    model: Codec | EncodecModel,
    chunks: Sequence[Chunk],
    expected: Sequence[Chunk],
    clip: Samples,
    config: CodecConfig | None = None,
) -> None:
    """The chunks of clip [C, T] are the expected ones: codes [n_q, F], and scales but for roundings; `config` says how the clip is cut."""
    assert [chunk.codes.shape for chunk in chunks] == [chunk.codes.shape for chunk in expected]
    assert scales_apart(chunks, expected) <= SCALES_WITHIN
    if all(np.array_equal(one.codes, other.codes) for one, other in zip(chunks, expected, strict=True)):
        return
    for found in ClipTruth(_rule_of(model), clip, config).compare(chunks, expected):
        assert found, str(found)
