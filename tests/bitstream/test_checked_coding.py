"""Blocks with checksums: any damage, and any other prediction, is refused or gives exactly what was written."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamcodec.bitstream.checked_coding import CheckedCoding, PredictLevels, counts_of_levels
from streamcodec.errors import CodesError
from streamcodec.types import Codes

N_Q, ENTRIES = 3, 32


def predictor(seed: int = 0) -> PredictLevels:
    """Levels that depend on the frame before and on how many there were."""

    def predict(frame: Codes | None, state: Any) -> tuple[npt.NDArray[np.int64], Any]:
        step = 0 if state is None else state
        rng = np.random.default_rng((seed, step, 0 if frame is None else int(frame.sum()) + 1))
        return rng.integers(-100, 100, (N_Q, ENTRIES)), step + 1

    return predict


def random_codes(frames: int, seed: int = 0) -> Codes:
    return np.random.default_rng(seed).integers(0, ENTRIES, (N_Q, frames), np.int32)


def written(codes: Codes, block_frames: int) -> bytes:
    encoder = CheckedCoding(predictor(), N_Q, block_frames).encoder()
    return encoder.push(codes) + encoder.tail()


@given(
    levels=st.lists(st.integers(-(2**40), 2**40), min_size=1, max_size=40).flatmap(
        lambda row: st.permutations(row).map(lambda other: [row, list(other)])
    )
)
def test_counts_are_whole_shares_of_2_to_the_24(levels: list[list[int]]) -> None:
    counts = counts_of_levels(np.array(levels))
    each = np.diff(counts, axis=1, prepend=0)
    assert each.min() >= 2 and counts[:, -1].max() <= 2**24
    # Equal levels have equal counts, wherever they stand, and a higher level has no fewer.
    for row, of_row in zip(np.array(levels), each, strict=True):
        order = np.argsort(row, kind="stable")
        assert (np.diff(of_row[order]) >= 0).all()
        assert len({(int(level), int(count)) for level, count in zip(row, of_row, strict=True)}) == len(set(row.tolist()))


def test_sixteen_levels_are_a_factor_of_two() -> None:
    for bits in range(1, 13):
        [[first, total]] = counts_of_levels(np.array([[16 * bits, 0]])).tolist()
        assert first / (total - first) == pytest.approx(2**bits, rel=2e-3 * 2 ** max(0, bits - 5))


@given(cuts=st.lists(st.integers(1, 9), min_size=1, max_size=6), block_frames=st.integers(1, 12), seed=st.integers(0, 2**31))
def test_codes_in_pieces_are_read_back_at_any_time(cuts: list[int], block_frames: int, seed: int) -> None:
    codes, at, data = random_codes(sum(cuts), seed), 0, b""
    coding = CheckedCoding(predictor(), N_Q, block_frames)
    encoder = coding.encoder()
    for cut in cuts:
        data += encoder.push(codes[:, at : at + cut])
        at += cut
        found, size = coding.decode(memoryview(data + encoder.tail() + b"more"), at)
        np.testing.assert_array_equal(found, codes[:, :at])
        assert size == len(data) + len(encoder.tail()) >= coding.least_size(at)
        # Of a file whose header counts fewer frames than its last block has, these are read.
        first, _ = coding.decode(memoryview(data + encoder.tail()), max(1, at - 1), whole=False)
        np.testing.assert_array_equal(first, codes[:, : max(1, at - 1)])


def test_every_truncation_is_refused_and_every_flipped_bit_is_refused_or_changes_no_code() -> None:
    codes = random_codes(10)
    coding, data = CheckedCoding(predictor(), N_Q, 4), written(codes, 4)
    for size in range(len(data)):
        with pytest.raises(CodesError, match="the block of frames"):
            coding.decode(memoryview(data[:size]), 10)
    refused = 0
    for at in range(len(data)):
        for bit in range(8):
            damaged = bytearray(data)
            damaged[at] ^= 1 << bit
            try:
                found, _ = coding.decode(memoryview(bytes(damaged)), 10)
            except CodesError as error:
                assert str(error).startswith("the block of frames")
                refused += 1
            else:
                # The last bits of a block may stand for the same codes.
                np.testing.assert_array_equal(found, codes)
    assert refused > 0.9 * 8 * len(data)


def test_another_prediction_is_told_by_the_checksum_of_the_first_block_that_it_changes() -> None:
    codes, right = random_codes(12), predictor()

    def wrong(frame: Codes | None, state: Any) -> tuple[npt.NDArray[np.int64], Any]:
        levels, state = right(frame, state)
        # One level more for one entry, from the sixth frame on: as another rounding might give.
        return levels + (np.arange(ENTRIES) == 3) * (state >= 6), state

    with pytest.raises(CodesError, match="the block of frames 4 to 7 is damaged, or was coded by another model"):
        CheckedCoding(wrong, N_Q, 4).decode(memoryview(written(codes, 4)), 12)


def test_a_block_has_a_length_that_its_head_can_hold() -> None:
    for block_frames in (0, 256):
        with pytest.raises(CodesError, match=f"a block has {block_frames} frames, expected 1 to 255"):
            CheckedCoding(predictor(), N_Q, block_frames)
