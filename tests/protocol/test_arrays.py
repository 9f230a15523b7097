"""Arrays come back bit for bit from fewer bytes, and damaged bytes are refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as numbers

from streamcodec.errors import SnapshotError
from streamcodec.protocol.arrays import RAW, pack_array, unpack_array


def same(values):
    how, data = pack_array(values)
    again = unpack_array(how, data, values.dtype, values.size).reshape(values.shape)
    assert again.dtype == values.dtype and again.tobytes() == values.tobytes()
    return how, len(data)


@given(numbers.arrays(np.float32, st.integers(0, 200), elements=st.floats(width=32)))
def test_any_floats_come_back(values):
    same(values)


@given(numbers.arrays(np.int16, st.tuples(st.integers(1, 2), st.integers(1, 200))))
def test_samples_of_16_bits_come_back(whole):
    how, _ = same(whole.astype(np.float32) / 32_768)
    assert how == ("16 bits" if whole.size >= 64 else RAW)


@pytest.mark.parametrize("value", [-0.0, np.nan, 1.0, 1 / 65_536, np.inf])
def test_what_16_bits_do_not_hold_is_left_as_it_is(value):
    how, _ = same(np.array([0.5] * 100 + [value], np.float32))
    assert how == "exponents"


def test_speech_and_states_take_less():
    t = np.arange(4800)
    speech = np.rint(8000 * np.sin(t / 30) * np.sin(t / 900)).astype(np.int16).astype(np.float32) / 32_768
    assert same(speech)[1] < 0.33 * speech.nbytes
    states = np.random.default_rng(0).normal(0, 0.3, 4800).astype(np.float32)
    assert same(states)[1] < 0.9 * states.nbytes
    codes = np.arange(100, dtype=np.int32)
    assert same(codes) == (RAW, codes.nbytes)


@pytest.mark.parametrize("values", [np.linspace(0, 1 / 3, 100, dtype=np.float32), np.zeros(100, np.float32), np.zeros(9, np.int32)])
def test_what_is_damaged_is_refused(values):
    how, data = pack_array(values)
    for bad in (b"", data[:-1], data + b"x", b"x" * len(data)):
        if how == RAW and len(bad) == len(data):
            continue
        with pytest.raises(SnapshotError):
            unpack_array(how, bad, values.dtype, values.size)
    for size in (values.size - 1, values.size + 1):
        with pytest.raises(SnapshotError):
            unpack_array(how, data, values.dtype, size)
    with pytest.raises(SnapshotError, match="packed as"):
        unpack_array("another way", data, values.dtype, values.size)
    with pytest.raises(SnapshotError, match="packed as"):
        unpack_array("exponents", data, np.dtype(np.int32), values.size)
