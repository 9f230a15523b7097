"""The arithmetic coder's bits are those of the package `encodec`, and every bit is read again."""

from __future__ import annotations

import importlib
import io
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from encodec_files import package_module
from hypothesis import given
from hypothesis import strategies as st

from streamcodec.bitstream.arithmetic_coding import ArithmeticCoding, ArithmeticDecoder, ArithmeticEncoder
from streamcodec.errors import CodesError
from streamcodec.types import Codes


def counts_of(entries: int, steps: int, seed: int, peak: float) -> npt.NDArray[np.int64]:
    """Cumulated counts [steps, entries] of random distributions, the more uneven the higher `peak`."""
    logits = np.random.default_rng(seed).normal(0, peak, (steps, entries))
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    return np.cumsum(2 + np.floor(shares * (2**24 - 2 * entries)).astype(np.int64), axis=1)


def package_coder() -> Any:
    package_module()
    return importlib.import_module("encodec.quantization.ac")


def encoded(symbols: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]) -> bytes:
    encoder, data = ArithmeticEncoder(), b""
    for symbol, row in zip(symbols.tolist(), counts, strict=True):
        encoder.push(symbol, row)
        data += encoder.take()
    return data + encoder.tail()


cases = given(
    entries=st.integers(1, 300), steps=st.integers(1, 60), seed=st.integers(0, 2**31), peak=st.sampled_from([0.0, 1.0, 5.0, 30.0])
)


@cases
def test_bits_equal_the_packages_and_are_read_back(entries: int, steps: int, seed: int, peak: float) -> None:
    counts = counts_of(entries, steps, seed, peak)
    symbols = np.random.default_rng(seed).integers(0, entries, steps)
    file = io.BytesIO()
    theirs = package_coder().ArithmeticCoder(file)
    for symbol, row in zip(symbols.tolist(), counts, strict=True):
        theirs.push(symbol, torch.from_numpy(row))
    theirs.flush()
    data = encoded(symbols, counts)
    assert data == file.getvalue()
    decoder = ArithmeticDecoder(data + b"\xff")
    assert [decoder.pull(row) for row in counts] == symbols.tolist()
    decoder.check_end()
    assert decoder.position == len(data)


@cases
def test_a_code_that_was_cut_off_says_so(entries: int, steps: int, seed: int, peak: float) -> None:
    counts = counts_of(entries, steps, seed, peak)
    data = encoded(np.random.default_rng(seed).integers(0, entries, steps), counts)
    for size in range(len(data)):
        decoder = ArithmeticDecoder(data[:size])
        with pytest.raises(CodesError, match="in the middle of a symbol"):
            for row in counts:
                decoder.pull(row)


def test_bits_of_no_symbol_and_bits_after_the_last_are_found() -> None:
    counts = np.array([100, 300])  # of 2**24, so that nearly all bits are no symbol's
    with pytest.raises(CodesError, match="holds bits that no symbol has"):
        ArithmeticDecoder(b"\xff\xff\xff").pull(counts)
    even = np.array([2**23, 2**24])
    encoder = ArithmeticEncoder()
    for symbol in (0, 1):
        encoder.push(symbol, even)
    data = bytearray(encoder.tail())
    data[-1] |= 0x80
    decoder = ArithmeticDecoder(bytes(data))
    assert [decoder.pull(even), decoder.pull(even)] == [0, 1]
    with pytest.raises(CodesError, match="the bits after the arithmetic code, in its byte 3, are not zero"):
        decoder.check_end()


def learnt(n_q: int, entries: int) -> Any:
    """A predictor whose counts depend on the frame before and on how many there were."""

    def predict(frame: Codes | None, state: Any) -> tuple[npt.NDArray[np.int64], Any]:
        step = 0 if state is None else state
        seed = step * 1_000 + (7 if frame is None else int(frame.sum()))
        return counts_of(entries, n_q, seed, 3.0), step + 1

    return predict


@given(cuts=st.lists(st.integers(1, 5), min_size=1, max_size=5), seed=st.integers(0, 2**31))
def test_a_chunk_in_pieces_is_read_back_by_the_same_predictions(cuts: list[int], seed: int) -> None:
    codes = np.random.default_rng(seed).integers(0, 64, (3, sum(cuts)), np.int32)
    coding = ArithmeticCoding(learnt(3, 64), 3, 64)
    encoder, data, at = coding.encoder(), b"", 0
    for cut in cuts:
        data += encoder.push(codes[:, at : at + cut])
        at += cut
        # What is there so far can be read at any time.
        found, size = coding.decode(memoryview(data + encoder.tail()), at)
        np.testing.assert_array_equal(found, codes[:, :at])
        assert size == len(data) + len(encoder.tail()) >= coding.least_size(at)


def test_no_chunk_is_smaller_than_the_least_size() -> None:
    """The most likely symbol, over and over, with the most counts that one can have."""
    entries = 4
    counts = np.cumsum([2, 2, 2, 2**24 - 6])
    coding = ArithmeticCoding(lambda frame, state: (counts[None], state), 1, entries)  # noqa: ARG005
    for frames in (1, 10, 20_000):
        encoder = coding.encoder()
        data = encoder.push(np.full((1, frames), 3, np.int32)) + encoder.tail()
        assert coding.least_size(frames) <= len(data)
