"""Clips of every kind become the batch that `transformers` makes of them, or an error of the same kind."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from compat_rig import assert_same_outcome, theirs
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from streamcodec.compat.transformers import EncodecFeatureExtractor

CHUNKS = {"chunk_length_s": 0.002, "overlap": 0.25}  # of 48 samples, 36 apart

options = st.fixed_dictionaries(
    {},
    optional={
        "padding": st.sampled_from([None, True, False, "longest", "max_length", "do_not_pad", "widest", 1, 0]),
        "truncation": st.sampled_from([True, False, None]),
        "max_length": st.sampled_from([None, 1, 20, 48, 100]),
        "return_tensors": st.sampled_from([None, "pt", "np", "tf"]),
        "sampling_rate": st.sampled_from([None, 24_000, 24_000, 24_000, 16_000]),
    },
)
made_as = st.fixed_dictionaries(
    {"feature_size": st.sampled_from([1, 2])},
    optional={
        "padding_value": st.sampled_from([0.0, -1.5, None]),
        "padding_side": st.sampled_from(["right", "left", "both"]),
        "return_attention_mask": st.booleans(),
    },
)


def clip(kind: str, length: int, seed: int) -> Any:
    rng = np.random.default_rng(seed)
    mono, stereo = rng.standard_normal(length), rng.standard_normal((2, length))
    clips: dict[str, Any] = {
        "float32": mono.astype(np.float32),
        "float64": mono,
        "int16": (100 * mono).astype(np.int16),
        "float16": mono.astype(np.float16),
        "list": mono.tolist(),
        "tuple": tuple(mono.tolist()),
        "tensor": torch.from_numpy(mono),
        "stereo": stereo.astype(np.float32),
        "stereo64": stereo,
        "stereo list": stereo.tolist(),
        "stereo, turned": stereo.T,
        "three channels": rng.standard_normal((3, length)),
        "too deep": rng.standard_normal((1, 2, length)),
        "number": np.float32(0.5),
        "text": "noise",
    }
    return clips[kind]


KINDS = ["float32", "float64", "int16", "float16", "list", "tuple", "tensor", "stereo", "stereo64", "stereo list"]
ODD = ["stereo, turned", "three channels", "too deep", "number", "text"]


@settings(max_examples=300)
@given(
    how=made_as,
    chunked=st.booleans(),
    kinds=st.lists(st.sampled_from([*KINDS, *KINDS, *ODD]), min_size=1, max_size=3),
    lengths=st.lists(st.sampled_from([0, 1, 20, 36, 48, 49, 84, 100]), min_size=3, max_size=3),
    alone=st.booleans(),
    asked=options,
)
def test_any_call_gives_the_same_batch_or_an_error_of_the_same_kind(
    how: dict[str, Any], chunked: bool, kinds: list[str], lengths: list[int], alone: bool, asked: dict[str, Any]
) -> None:
    # Two numbers are a clip of two samples, which transformers takes for one sample of two channels. Here a stereo clip is [2, T].
    assume(not (how.get("feature_size") == 2 and kinds == ["number", "number"] and not alone))
    if chunked:
        how = {**how, **CHUNKS}
    clips = [clip(kind, length, i) for i, (kind, length) in enumerate(zip(kinds, lengths, strict=False))]
    audio = clips[0] if alone else clips
    call = lambda cls: cls(sampling_rate=24_000, **how)(audio, **asked)  # noqa: E731
    assert_same_outcome(lambda: call(theirs().EncodecFeatureExtractor), lambda: call(EncodecFeatureExtractor))
