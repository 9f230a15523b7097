"""The loop reads what the callback wrote: in order, with the time of its first sample, in whole blocks, and never stale."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamcodec.audio import CaptureBuffer
from streamcodec.audio.io import capture as capture_module


def block(frames: int, channels: int = 1, first: int = 0) -> npt.NDArray[np.float32]:
    """[T, C]: frame i of channel c holds first + i + c / 10."""
    return (first + np.arange(frames)[:, None] + np.arange(channels) / 10).astype(np.float32)


def test_nothing_written_reads_as_nothing():
    buffer = CaptureBuffer(10, 1)
    assert buffer.read() is None
    buffer.write(block(3), 5)
    assert buffer.read() is not None
    assert buffer.read() is None


def test_blocks_are_read_together_channels_first_with_the_time_of_the_first():
    buffer = CaptureBuffer(10, 2)
    buffer.write(block(3, 2), 1_000)
    buffer.write(block(4, 2, first=3), 2_000)
    taken = buffer.read()
    assert taken is not None
    samples, captured = taken
    assert captured == 1_000
    np.testing.assert_array_equal(samples, block(7, 2).T)
    assert samples.flags.c_contiguous


def test_what_is_read_stays_when_the_ring_wraps_around_and_is_written_again():
    buffer = CaptureBuffer(8, 1)
    buffer.write(block(6), 0)
    first = buffer.read()
    buffer.write(block(7, first=6), 60)
    second = buffer.read()
    assert first is not None and second is not None
    np.testing.assert_array_equal(first[0][0], np.arange(6))
    np.testing.assert_array_equal(second[0][0], np.arange(6, 13))
    assert second[1] == 60


def test_above_the_bound_the_oldest_blocks_are_dropped_until_half_of_it_remains():
    buffer = CaptureBuffer(10, 1)
    for first in range(0, 12, 2):
        buffer.write(block(2, first=first), 1_000 * first)
    assert buffer.dropped == 0, "who reads decides"
    taken = buffer.read()
    assert taken is not None
    np.testing.assert_array_equal(taken[0][0], np.arange(8, 12))
    assert (taken[1], buffer.dropped) == (8_000, 8)
    buffer.write(block(2, first=12), 12_000)
    taken = buffer.read()
    assert taken is not None
    np.testing.assert_array_equal(taken[0][0], [12, 13])
    assert (taken[1], buffer.dropped) == (12_000, 8)


def test_the_newest_block_is_kept_however_long_it_is_while_there_is_memory_for_it():
    buffer = CaptureBuffer(10, 1)
    buffer.write(block(3), 0)
    buffer.write(block(40, first=3), 3)
    taken = buffer.read()
    assert taken is not None
    np.testing.assert_array_equal(taken[0][0], np.arange(3, 43))
    buffer.write(block(41), 0)
    assert buffer.read() is None
    assert buffer.dropped == 3 + 41


@pytest.mark.parametrize("blocks", [5, 40, 1000])
def test_a_very_late_reader_gets_the_newest_samples(blocks):
    buffer = CaptureBuffer(10, 1)
    for first in range(0, 5 * blocks, 5):
        buffer.write(block(5, first=first), first)
    taken = buffer.read()
    assert taken is not None
    np.testing.assert_array_equal(taken[0][0], np.arange(5 * blocks - 5, 5 * blocks))
    assert (taken[1], buffer.dropped) == (5 * blocks - 5, 5 * blocks - 5)


def test_more_blocks_than_there_are_time_stamps_lose_the_oldest_too(monkeypatch):
    monkeypatch.setattr(capture_module, "_STAMPS", 8)
    buffer = CaptureBuffer(100, 1)
    for i in range(11):
        buffer.write(block(1, first=i), i)
    taken = buffer.read()
    assert taken is not None
    np.testing.assert_array_equal(taken[0][0], np.arange(7, 11))
    assert (taken[1], buffer.dropped) == (7, 7)


def test_what_was_skipped_is_not_read_and_not_counted():
    buffer = CaptureBuffer(4, 1)
    buffer.skip()
    for first in range(9):
        buffer.write(block(1, first=first), first)
    buffer.skip()
    assert buffer.read() is None
    buffer.write(block(2, first=9), 9)
    taken = buffer.read()
    assert taken is not None
    np.testing.assert_array_equal(taken[0][0], [9, 10])
    assert (taken[1], buffer.dropped) == (9, 0)


@pytest.mark.parametrize("meanwhile", [1, 3, 4, 7, 20])
def test_a_reader_that_is_overtaken_while_it_copies_gets_no_torn_samples(meanwhile):
    buffer = CaptureBuffer(10, 1)
    written = 0

    def write(blocks: int) -> None:
        nonlocal written
        for _ in range(blocks):
            buffer.write(block(10, first=written), written)
            written += 10

    write(1)
    copy, overtaken = buffer._copy, [False]

    def slowly(first: int, end: int) -> npt.NDArray[np.float32]:
        if not overtaken[0]:
            overtaken[0] = True
            half = copy(first, first + 5)
            write(meanwhile)
            return np.concatenate([half, copy(first + 5, end)], axis=1)
        return copy(first, end)

    buffer._copy = slowly  # type: ignore[method-assign]
    taken = buffer.read()
    assert taken is not None
    samples, captured = taken
    np.testing.assert_array_equal(samples[0], captured + np.arange(samples.shape[1]))
    if meanwhile > 3:
        assert captured == written - 10


def test_the_callback_may_reuse_its_array():
    buffer = CaptureBuffer(10, 1)
    memory = block(3)
    buffer.write(memory, 0)
    memory[:] = 99
    taken = buffer.read()
    assert taken is not None
    np.testing.assert_array_equal(taken[0][0], np.arange(3))


@given(
    max_waiting=st.integers(1, 40),
    channels=st.integers(1, 3),
    steps=st.lists(st.one_of(st.integers(1, 15), st.none()), max_size=60),
)
def test_any_order_of_writes_and_reads_gives_samples_once_in_order_whole_and_never_stale(max_waiting, channels, steps):
    buffer = CaptureBuffer(max_waiting, channels)
    starts, written, settled, given_out, unfit = [0], 0, 0, 0, 0
    for step in [*steps, None]:
        if step is not None:
            buffer.write(block(step, channels, first=written), written)
            if step > 4 * max_waiting:
                unfit += step
            else:
                written += step
                starts.append(written)
            continue
        taken = buffer.read()
        if settled == written:
            assert taken is None
            continue
        assert taken is not None
        samples, first = taken
        np.testing.assert_array_equal(samples, block(written - first, channels, first=first).T)
        if written - settled <= max_waiting:
            assert first == settled
        else:
            assert first in starts
            assert written - first <= max(max_waiting // 2, starts[-1] - starts[-2])
        given_out, settled = given_out + samples.shape[1], written
        assert given_out + buffer.dropped == written + unfit
