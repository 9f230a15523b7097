"""Clips that share the steps of a model have the codes that each has alone."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from parity import assert_same_codes

import streamcodec
from streamcodec.codec.together import BlocksOfClip, encode_together
from streamcodec.errors import AudioError


def noise(length: int, seed: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, 0.1, length).astype(np.float32)


def blocks(samples: npt.NDArray[np.float32], size: int) -> list[npt.NDArray[np.float32]]:
    return [samples[at : at + size] for at in range(0, len(samples), size)]


def test_clips_of_any_lengths_have_the_codes_that_each_has_alone(codec: streamcodec.Codec) -> None:
    lengths = [1, 319, 24_000, 24_000, 24_001, 47_999, 50_000, 61_234]
    clips = [noise(length, seed) for seed, length in enumerate(lengths)]
    found: list[list[npt.NDArray[np.int32]]] = [[] for _ in clips]
    ended = []
    for piece in encode_together(codec.engine, [BlocksOfClip(blocks(clip, 7_001), 24_000) for clip in clips], 8):
        assert not isinstance(piece.codes, Exception) and piece.index not in ended
        found[piece.index].append(piece.codes)
        ended += [piece.index] if piece.last else []
    assert sorted(ended) == list(range(len(clips)))
    for clip, pieces in zip(clips, found, strict=True):
        assert_same_codes(codec, np.concatenate(pieces, axis=1), codec.encode(clip, bandwidth=6), clip)


def test_steps_are_shared_by_what_is_alike(codec: streamcodec.Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[tuple[int, int, bool]] = []
    encode = codec.engine.encode

    def counted(samples, states, n_q, final=False):
        sizes.append((*samples.shape, final))
        return encode(samples, states, n_q, final)

    monkeypatch.setattr(codec.engine, "encode", counted)
    clips = [noise(60_000, 1), noise(60_000, 2), noise(53_000, 3), noise(60_000, 4)]
    list(encode_together(codec.engine, [BlocksOfClip([clip], 24_000) for clip in clips], 2))
    assert sizes[:2] == [(4, 24_000, False), (4, 24_000, False)]
    assert sorted(sizes[2:]) == [(1, 5_000, True), (3, 12_000, True)]


def test_a_clip_that_fails_stops_no_other_and_one_without_samples_gives_nothing(codec: streamcodec.Codec) -> None:
    bad = [noise(30_000, 1), np.full(9, np.nan, np.float32)]
    good = noise(40_000, 2)
    clips = [BlocksOfClip(bad, 24_000), BlocksOfClip([], 24_000), BlocksOfClip([good], 24_000)]
    pieces = list(encode_together(codec.engine, clips, 8))
    [failed] = [piece for piece in pieces if piece.index == 0]
    assert isinstance(failed.codes, AudioError) and failed.last
    assert not [piece for piece in pieces if piece.index == 1]
    codes = [piece.codes for piece in pieces if piece.index == 2]
    assert sum(part.shape[1] for part in codes if not isinstance(part, Exception)) == 125
