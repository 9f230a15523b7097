"""Blocks of any size go in, packets of exactly one size come out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamcodec.audio.packetizing import Packetizer
from streamcodec.errors import AudioError, InputError


@given(st.integers(1, 50), st.lists(st.integers(0, 200), max_size=20))
def test_packets_and_rest_are_the_stream_whatever_the_blocks(size, blocks):
    stream = np.arange(sum(blocks), dtype=np.float32)
    packetizer = Packetizer(size)
    packets = []
    for block in np.split(stream, np.cumsum(blocks)[:-1]) if blocks else []:
        packets += packetizer.feed(block)
        assert packetizer.pending < size
    assert all(p.shape == (size,) and p.dtype == np.float32 for p in packets)
    assert packetizer.pending == len(stream) % size
    np.testing.assert_array_equal(np.concatenate([*packets, packetizer.flush()]), stream)
    assert packetizer.pending == 0
    assert packetizer.flush().shape == (0,)


def test_a_packet_is_not_changed_by_later_blocks():
    packetizer = Packetizer(2)
    (first,) = packetizer.feed(np.array([1, 2], np.float32))
    packetizer.feed(np.array([3, 4], np.float32))
    assert first.tolist() == [1, 2]


@pytest.mark.parametrize("size", [0, -1, True, 1.5])
def test_a_size_that_is_no_number_of_samples_is_refused(size):
    with pytest.raises(InputError, match="expected a number of samples from 1"):
        Packetizer(size)


@pytest.mark.parametrize("block", [np.zeros((1, 4), np.float32), np.zeros(4, np.int16)])
def test_a_block_of_another_kind_is_refused(block):
    with pytest.raises(AudioError, match=r"expected float32 of shape \[T\]"):
        Packetizer(4).feed(block)
