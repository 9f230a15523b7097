"""A payload is its packet's codes, behind a scale where the model normalises; whatever is no whole packet is refused."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamcodec.bitstream.layout import PayloadLayout
from streamcodec.bitstream.packing import pack_codes
from streamcodec.errors import CodesError, PayloadError
from streamcodec.published import PUBLISHED
from streamcodec.types import Chunk

SCALED = PayloadLayout(10, chunked=True, scaled=True)
CODES = np.arange(12, dtype=np.int32).reshape(4, 3)


def test_each_published_model_has_its_layout() -> None:
    assert PayloadLayout.of(PUBLISHED["encodec_24khz"]) == PayloadLayout(10)
    assert PayloadLayout.of(PUBLISHED["encodec_48khz"]) == SCALED


@given(
    n_q=st.sampled_from([1, 2, 4, 16]),
    frames=st.integers(1, 150),
    scale=st.floats(0, 2.0**90, width=32, allow_subnormal=False),
    seed=st.integers(0, 99),
)
def test_what_is_packed_is_unpacked_and_a_prefix_is_the_chunk_at_a_lower_bandwidth(n_q: int, frames: int, scale: float, seed: int) -> None:
    codes = np.random.default_rng(seed).integers(0, 1024, (n_q, frames), np.int32)
    payload = SCALED.pack(Chunk(codes, scale))
    assert payload == struct.pack("<f", scale) + pack_codes(codes, 10)
    chunk = SCALED.unpack(payload, n_q)
    np.testing.assert_array_equal(chunk.codes, codes)
    assert chunk.scale == np.float32(scale) and SCALED.frames(payload, n_q) == frames
    for fewer in range(2, n_q, 2):
        cut = SCALED.truncate(payload, n_q, fewer)
        assert payload.startswith(cut)
        np.testing.assert_array_equal(SCALED.unpack(cut, fewer).codes, codes[:fewer])


def test_chunks_without_a_scale_and_plain_codes_are_the_codes_alone() -> None:
    assert PayloadLayout(10).pack(CODES) == PayloadLayout(10, chunked=True).pack(Chunk(CODES)) == pack_codes(CODES, 10)
    assert PayloadLayout(10, chunked=True).unpack(pack_codes(CODES, 10), 4).scale is None


@pytest.mark.parametrize(
    ("layout", "packet", "message"),
    [
        (SCALED, CODES, "a packet is a ndarray, expected a chunk"),
        (PayloadLayout(10), Chunk(CODES), r"a packet is a Chunk, expected codes \[n_q, frames\]"),
        (SCALED, Chunk(CODES), "a chunk has the scale None, expected a number"),
        (PayloadLayout(10, chunked=True), Chunk(CODES, 1.0), "a chunk has the scale 1.0, expected none"),
        (SCALED, Chunk(CODES, -1.0), "expected a finite number of 0 or more"),
        (SCALED, Chunk(CODES, float("nan")), "expected a finite number of 0 or more"),
        (SCALED, Chunk(CODES, 1e39), "expected a finite number of 0 or more"),
    ],
)
def test_a_packet_of_another_kind_is_refused(layout: PayloadLayout, packet: Any, message: str) -> None:
    with pytest.raises(CodesError, match=message):
        layout.pack(packet)


@pytest.mark.parametrize("payload", [b"", bytes(4), bytes(18), struct.pack("<f", -1.0) + bytes(15), struct.pack("<f", np.inf) + bytes(15)])
def test_bytes_that_are_no_scaled_packet_are_refused(payload: bytes) -> None:
    for read in (SCALED.unpack, SCALED.frames):
        with pytest.raises(PayloadError):
            read(payload, 2)
