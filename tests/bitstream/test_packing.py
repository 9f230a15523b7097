import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamcodec.bitstream.packing import pack_codes, payload_frames, payload_size, truncate_payload, unpack_codes
from streamcodec.errors import CodesError, PayloadError


@st.composite
def packets(draw, even=False):
    """(codes [n_q, frames], bits), with bits that the number of codebooks allows."""
    n_q = draw(st.integers(1, 16)) * 2 if even else draw(st.integers(1, 33))
    bits = draw(st.integers(8 if n_q % 2 else 4, 16))
    frames = draw(st.integers(1, 25))
    seed = draw(st.integers(0, 2**32 - 1))
    return np.random.default_rng(seed).integers(0, 2**bits, (n_q, frames)), bits


def by_hand(codes, bits):
    """The layout spelled out in text digits."""
    payload = b""
    for first in range(0, len(codes), 2):
        digits = "".join(f"{code:0{bits}b}" for book in codes[first : first + 2] for code in book)
        digits += "0" * (-len(digits) % 8)
        payload += bytes(int(digits[i : i + 8], 2) for i in range(0, len(digits), 8))
    return payload


@given(packets())
def test_what_was_packed_is_unpacked(packet):
    codes, bits = packet
    unpacked = unpack_codes(pack_codes(codes, bits), len(codes), bits)
    assert unpacked.dtype == np.int32
    np.testing.assert_array_equal(unpacked, codes)


@given(packets())
def test_the_bits_lie_as_the_document_says(packet):
    codes, bits = packet
    assert pack_codes(codes, bits) == by_hand(codes, bits)


@given(packets(even=True), st.data())
def test_a_prefix_is_the_packet_at_a_lower_bandwidth(packet, data):
    codes, bits = packet
    fewer = data.draw(st.integers(1, len(codes) // 2)) * 2
    payload = pack_codes(codes, bits)
    cut = truncate_payload(payload, len(codes), fewer, bits)
    assert payload.startswith(cut)
    np.testing.assert_array_equal(unpack_codes(cut, fewer, bits), codes[:fewer])


def test_the_even_codebooks_of_an_odd_packet_are_a_prefix():
    codes = np.arange(15).reshape(5, 3)
    np.testing.assert_array_equal(unpack_codes(truncate_payload(pack_codes(codes), 5, 4), 4), codes[:4])


@pytest.mark.parametrize(("n_q", "size"), [(2, 15), (4, 30), (8, 60), (16, 120), (32, 240)])
def test_a_packet_of_six_frames_takes_fifteen_bytes_per_pair(n_q, size):
    assert payload_size(n_q, 6) == size == len(pack_codes(np.zeros((n_q, 6), np.int16)))


@pytest.mark.parametrize("bits", range(4, 17))
def test_one_byte_count_means_one_number_of_frames(bits):
    for n_q in range(1 if bits >= 8 else 2, 33, 1 if bits >= 8 else 2):
        sizes = [payload_size(n_q, frames, bits) for frames in range(1, 27)]
        assert len(set(sizes)) == len(sizes)
        assert [payload_frames(bytes(size), n_q, bits) for size in sizes] == list(range(1, 27))


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16, np.int32, np.int64, np.uint64])
def test_any_integer_type_packs_to_the_same_bytes(dtype):
    codes = np.arange(16).reshape(2, 8)
    assert pack_codes(codes.astype(dtype)) == pack_codes(codes)


def test_codes_in_any_memory_order_pack_to_the_same_bytes():
    codes = np.arange(48).reshape(6, 8)
    assert pack_codes(codes.T) == pack_codes(np.ascontiguousarray(codes.T))


@pytest.mark.parametrize("value", [-1, 1024, 2**31, -(2**40)])
def test_a_code_out_of_range_is_named_with_its_place(value):
    codes = np.zeros((8, 6), np.int64)
    codes[3, 4] = value
    with pytest.raises(CodesError, match=f"codebook 3, frame 4 is {value}, expected 0 to 1023"):
        pack_codes(codes)


@pytest.mark.parametrize(
    "codes",
    [np.zeros((2, 6)), np.zeros((2, 6), bool), np.zeros(6, int), np.zeros((1, 2, 6), int), np.zeros((0, 6), int), np.zeros((2, 0), int)],
)
def test_codes_of_another_shape_or_type_are_refused(codes):
    with pytest.raises(CodesError, match="expected integers of shape"):
        pack_codes(codes)


@pytest.mark.parametrize(("n_q", "bits"), [(2, 3), (2, 17), (1, 7), (3, 4), (0, 10), (-2, 10)])
def test_a_layout_that_cannot_be_read_back_is_refused(n_q, bits):
    with pytest.raises(CodesError, match=f"{n_q}|{bits}"):
        unpack_codes(bytes(60), n_q, bits)


@pytest.mark.parametrize("size", [0, 1, 4, 59, 61, 62, 70])
def test_bytes_that_are_no_whole_packet_are_refused_with_the_numbers(size):
    with pytest.raises(PayloadError, match=f"payload has {size} bytes, expected .*n_q 8"):
        unpack_codes(bytes(size), 8)


@pytest.mark.parametrize("place", [2, 5])
def test_padding_that_is_not_zero_is_refused(place):
    payload = bytearray(pack_codes(np.ones((4, 1), int)))
    payload[place] |= 1
    with pytest.raises(PayloadError, match=f"byte {place} of the payload"):
        unpack_codes(bytes(payload), 4)


@pytest.mark.parametrize("to_n_q", [0, -2, 1, 3, 7, 9, 10])
def test_a_cut_within_a_pair_or_beyond_the_packet_is_refused(to_n_q):
    with pytest.raises(CodesError, match=f"8 codebooks to {to_n_q}"):
        truncate_payload(bytes(60), 8, to_n_q)
