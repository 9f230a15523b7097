"""How tests compare codes: equal, or each entry that differs proved a near-tie (see `streamcodec.model.near_ties`)."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import numpy.typing as npt

from streamcodec.audio.dsp.resample import StreamResampler
from streamcodec.codec import Codec
from streamcodec.config import Start
from streamcodec.model.encodec import EncodecModel
from streamcodec.model.hub import load_model
from streamcodec.model.near_ties import NearTies

__all__ = ["assert_same_codes"]


@functools.lru_cache(maxsize=4)
def _rule(name: str, fingerprint: str) -> NearTies:  # noqa: ARG001 - a folder may be written anew under one name
    return NearTies(load_model(name))


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
    rule = NearTies(model) if isinstance(model, EncodecModel) else _rule(model.name, model.fingerprint)
    own_rate = rule.model.config.sampling_rate
    if rate is not None and rate != own_rate:
        resampler = StreamResampler(rate, own_rate)
        samples = np.concatenate([resampler.feed(samples), resampler.flush()])
    found = rule.compare(codes, expected, samples, start)
    assert found, str(found)
