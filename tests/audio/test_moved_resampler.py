"""A resampler as a value: another one that goes on from it gives what the first one gives, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcodec.audio.dsp.resample import ResamplerState, StreamResampler
from streamcodec.errors import AudioError, SnapshotError

RATES = [48_000, 44_100, 16_000, 8_000, 96_000, 11_025, 44_101, 12_345, 1_000]


def blocks(audio: Any, seed: int) -> list[Any]:
    """The audio in blocks of any size, empty ones too."""
    edges = np.sort(np.random.default_rng(seed).integers(0, audio.shape[-1] + 1, 12))
    return np.split(audio, edges, axis=-1)


def noise(rate: int, channels: int, seconds: float, seed: int) -> Any:
    shape = (int(rate * seconds),) if channels == 1 else (channels, int(rate * seconds))
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


@settings(deadline=None, max_examples=30)
@given(st.sampled_from(RATES), st.sampled_from([1, 2]), st.floats(0, 1), st.integers(0, 2**16))
def test_what_follows_a_snapshot_is_the_same_at_both_ends_and_nearly_what_follows_without_one(
    rate: int, channels: int, part: float, seed: int
) -> None:
    audio = noise(rate, channels, 1.4, seed)
    cut = int(part * audio.shape[-1])
    first, second = blocks(audio[..., :cut], seed), blocks(audio[..., cut:], seed + 1)
    there, here, unbroken = (StreamResampler(rate, 24_000, channels) for _ in range(3))
    before = [there.feed(block) for block in first]
    here.restore(there.snapshot())
    stays = np.concatenate([*before, *(there.feed(block) for block in second), there.flush()], axis=-1)
    moved = np.concatenate([*before, *(here.feed(block) for block in second), here.flush()], axis=-1)
    expected = np.concatenate([*(unbroken.feed(block) for block in [*first, *second]), unbroken.flush()], axis=-1)
    np.testing.assert_array_equal(moved, stays)
    np.testing.assert_allclose(moved, expected, atol=1e-5)  # of noise at full scale


@pytest.mark.parametrize("rate", [48_000, 96_000, 12_000])
def test_where_the_ratio_is_a_power_of_two_an_unbroken_stream_is_the_same_bit_for_bit(rate: int) -> None:
    audio = noise(rate, 1, 2.5, 1)
    unbroken, stream = StreamResampler(rate, 24_000), StreamResampler(rate, 24_000)
    parts = []
    for block in blocks(audio, 2):
        again = StreamResampler(rate, 24_000)
        again.restore(stream.snapshot())
        stream = again
        parts.append(stream.feed(block))
    np.testing.assert_array_equal(np.concatenate([*parts, stream.flush()]), np.concatenate([unbroken.feed(audio), unbroken.flush()]))


def test_a_stream_of_an_hour_is_moved_as_well_as_one_of_a_second() -> None:
    """The roundings of soxr's ratio do not add up."""
    rate, second = 44_100, noise(44_100, 1, 1.0, 3)
    old, young = StreamResampler(rate, 24_000), StreamResampler(rate, 24_000)
    for _ in range(200):
        old.feed(second)
    young.feed(second)
    np.testing.assert_allclose(old.feed(second), young.feed(second), atol=1e-5)


def test_what_a_snapshot_keeps_is_bounded() -> None:
    for rate in RATES:
        resampler = StreamResampler(rate, 24_000)
        for _ in range(30):
            resampler.feed(noise(rate, 1, 0.1, 0))
        state = resampler.snapshot()
        assert state is not None
        assert state.tail.size <= 1.1 * rate + 1_000
        if rate in (48_000, 44_100, 16_000, 8_000):
            assert state.tail.nbytes <= 20_000


def test_small_blocks_are_kept_together() -> None:
    resampler = StreamResampler(48_000, 24_000)
    for at in range(6_000):
        resampler.feed(np.full(1, at / 6_000, np.float32))
    assert len(resampler._tail) < 30
    state = resampler.snapshot()
    assert state is not None
    np.testing.assert_array_equal(state.tail, (np.arange(6_000) / 6_000).astype(np.float32)[-state.tail.size :])


def test_equal_rates_have_nothing_to_keep() -> None:
    resampler = StreamResampler(24_000, 24_000)
    resampler.feed(np.zeros(100, np.float32))
    assert resampler.snapshot() is None
    resampler.restore(None)


def test_a_ratio_that_repeats_itself_after_more_than_a_second_has_no_snapshot() -> None:
    with pytest.raises(AudioError, match="period of more than a second"):
        StreamResampler(44_100.37, 24_000).snapshot()


@pytest.mark.parametrize(
    "saved",
    [
        None,
        ResamplerState(1_000, 400, np.zeros(999, np.float32)),
        ResamplerState(1_000, 400, np.zeros((2, 500), np.float32)),
        ResamplerState(1_000, 502, np.zeros(1_000, np.float32)),
        ResamplerState(1_000, -1, np.zeros(1_000, np.float32)),
        ResamplerState(-1, 0, np.zeros(0, np.float32)),
        ResamplerState(2**53, 2**52, np.zeros(4_802, np.float32)),
        ResamplerState(100_000, 100, np.zeros(4_802, np.float32)),
        ResamplerState(1_000, 400, np.full(1_000, np.nan, np.float32)),
    ],
)
def test_a_state_that_does_not_fit_is_refused(saved: ResamplerState | None) -> None:
    with pytest.raises(SnapshotError, match="resampler"):
        StreamResampler(48_000, 24_000).restore(saved)
