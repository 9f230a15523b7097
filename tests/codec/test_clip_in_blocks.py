"""A clip that comes in blocks gives the codes of the whole, whatever the blocks."""

from __future__ import annotations

import numpy as np
import pytest
from made_up_models import small_model

import streamcodec
from streamcodec.audio import StreamResampler
from streamcodec.errors import AudioError, CodesError


@pytest.fixture(scope="module")
def codec() -> streamcodec.Codec:
    return streamcodec.load(small_model(), engine="torch")


@pytest.mark.parametrize(("rate", "channels", "length"), [(24_000, 1, 200_077), (24_000, 2, 192_000), (48_000, 2, 9_601), (44_100, 1, 3)])
@pytest.mark.parametrize("size", [1_000, 100_000])
def test_blocks_give_the_codes_of_the_whole(codec, rate, channels, length, size):
    audio = np.random.default_rng(2).normal(0, 0.1, (channels, length)).astype(np.float32)
    blocks = [audio[:, at : at + size] for at in range(0, length, size)]
    parts = list(codec.encode_blocks(iter(blocks), rate, channels))
    resampler = StreamResampler(rate, 24_000)
    whole = np.concatenate([*(resampler.feed(block.mean(axis=0)) for block in blocks), resampler.flush()])
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), codec.encode(whole))
    assert all(part.shape == (8, 300) for part in parts[:-1])


def test_no_samples_give_no_codes(codec):
    assert list(codec.encode_blocks([], 24_000)) == []


def test_what_does_not_fit_is_refused(codec):
    with pytest.raises(AudioError, match=r"block has shape \[2, 5\]"):
        list(codec.encode_blocks([np.zeros((2, 5), np.float32)], 24_000))
    with pytest.raises(CodesError, match="bandwidth is 7"):
        list(codec.encode_blocks([], 24_000, bandwidth=7))
