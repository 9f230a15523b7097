"""What a callback wrote is what the loop reads: in order, with the time of its first sample, and whole blocks or nothing."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st

from streamcodec.audio import CaptureBuffer
from streamcodec.audio import capture as capture_module


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


def test_a_block_that_finds_no_room_is_dropped_whole_and_counted():
    buffer = CaptureBuffer(10, 1)
    buffer.write(block(8), 0)
    buffer.write(block(3, first=100), 80)
    buffer.write(block(2, first=8), 110)
    assert buffer.dropped == 3
    taken = buffer.read()
    assert taken is not None
    np.testing.assert_array_equal(taken[0][0], np.arange(10))


def test_a_block_longer_than_the_ring_never_fits():
    buffer = CaptureBuffer(10, 1)
    buffer.write(block(11), 0)
    assert buffer.dropped == 11
    assert buffer.read() is None


def test_after_a_drop_the_next_block_has_its_own_time():
    buffer = CaptureBuffer(4, 1)
    buffer.write(block(4), 0)
    buffer.write(block(4), 4_000)
    assert buffer.read() is not None
    buffer.write(block(4), 8_000)
    taken = buffer.read()
    assert taken is not None and taken[1] == 8_000


def test_more_blocks_than_there_are_time_stamps_are_dropped_too(monkeypatch):
    monkeypatch.setattr(capture_module, "_STAMPS", 4)
    buffer = CaptureBuffer(100, 1)
    for i in range(6):
        buffer.write(block(1, first=i), i)
    assert buffer.dropped == 2
    taken = buffer.read()
    assert taken is not None
    np.testing.assert_array_equal(taken[0][0], np.arange(4))
    buffer.write(block(1, first=9), 9)
    assert buffer.read() is not None


def test_the_callback_may_refill_its_memory():
    buffer = CaptureBuffer(10, 1)
    memory = block(3)
    buffer.write(memory, 0)
    memory[:] = 99
    taken = buffer.read()
    assert taken is not None
    np.testing.assert_array_equal(taken[0][0], np.arange(3))


@given(
    size=st.integers(1, 40),
    channels=st.integers(1, 3),
    steps=st.lists(st.one_of(st.integers(1, 15), st.none()), max_size=60),
)
def test_any_order_of_writes_and_reads_gives_every_kept_sample_once_and_in_order(size, channels, steps):
    buffer = CaptureBuffer(size, channels)
    waiting: list[tuple[npt.NDArray[np.float32], int]] = []
    written = dropped = 0
    for step in [*steps, None]:
        if step is not None:
            data = block(step, channels, first=written)
            buffer.write(data, written)
            if sum(len(kept) for kept, _ in waiting) + step <= size:
                waiting.append((data, written))
            else:
                dropped += step
            written += step
            continue
        taken = buffer.read()
        if not waiting:
            assert taken is None
            continue
        assert taken is not None
        np.testing.assert_array_equal(taken[0], np.concatenate([kept for kept, _ in waiting]).T)
        assert taken[1] == waiting[0][1]
        waiting = []
    assert buffer.dropped == dropped
