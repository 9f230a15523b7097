"""What a message may hold is bounded before any of it is built: long junk costs as little as its first bytes."""

from __future__ import annotations

import gc
import tracemalloc

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamcodec.errors import RemoteProtocolError, WireCode
from streamcodec.protocol import MAX_CONTROL_BYTES, MAX_MESSAGE_BYTES, Packet, parse
from streamcodec.protocol.unpacking import MAX_ELEMENTS, MAX_KEYS, unpack


def refusal(data: bytes) -> str:
    with pytest.raises(RemoteProtocolError) as caught:
        unpack(data)
    assert caught.value.code == WireCode.BAD_MESSAGE
    return caught.value.reason


def ping_with(junk: bytes) -> bytes:
    """A ping with one more key, whose value is `junk`."""
    return b"\x83" + msgpack.packb({"type": "ping", "time": 7})[1:] + msgpack.packb("junk") + junk


def array(element: bytes, count: int) -> bytes:
    return b"\xdd" + count.to_bytes(4, "big") + element * count


LONG = {
    "a million empty arrays": ping_with(array(b"\x90", 1_000_000)),
    "ext values": ping_with(array(b"\xd4\x01\x00", 340_000)),
    "maps": ping_with(array(b"\x81\xa1a\xc0", 250_000)),
    "maps within maps": ping_with(b"\x81\xa1a" * 300_000 + b"\xc0"),
    "arrays within arrays": ping_with(b"\x91" * 1_000_000 + b"\xc0"),
    "text": ping_with(b"\xdb" + (1_000_000).to_bytes(4, "big") + b"x" * 1_000_000),
    "a packet's array of arrays": b"\x95" + 5 * array(b"\x90", 200_000),
    "a packet with an array in front of its payload": b"\x95\x00\x00\x00" + array(b"\x90", 1_000_000) + b"\xc4\x01\x00",
    "a packet whose payload is an array": b"\x95\x00\x00\x00\x00" + array(b"\x90", 1_000_000),
    "a packet whose payload is text": b"\x95\x00\x00\x00\x00\xdb" + (1_000_000).to_bytes(4, "big") + bytes(1_000_000),
    "a packet of negative numbers": b"\x95\xff\xff\xff\xff\xc6" + (1_000_000).to_bytes(4, "big") + bytes(1_000_000),
    "a long array of six": b"\x96\x00\x00\x00\x00\xc6" + (1_000_000).to_bytes(4, "big") + bytes(1_000_000) + b"\x00",
    "junk behind a packet": b"\x95\x00\x00\x00\x00\xc4\x01\x00" + 1_000_000 * b"\x90",
}


@pytest.mark.parametrize("data", LONG.values(), ids=LONG)
def test_long_junk_is_refused_before_it_is_built(data: bytes) -> None:
    assert MAX_CONTROL_BYTES < len(data) <= MAX_MESSAGE_BYTES
    gc.collect()
    tracemalloc.start()
    try:
        refusal(data)
        held = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # At most a copy of it: built, each of its values would take 56 bytes and more.
    assert held < len(data) + 100_000, f"{held} bytes were taken to refuse it"


@pytest.mark.parametrize("data", [LONG["a million empty arrays"], bytes(MAX_CONTROL_BYTES + 1)], ids=["a map", "zeros"])
def test_long_messages_that_are_no_packets_are_told_how_long_they_may_be(data: bytes) -> None:
    assert f"the message has {len(data)} bytes and is no packet, expected at most {MAX_CONTROL_BYTES} then" in refusal(data)


def test_a_control_message_may_be_as_long_as_is_said_and_no_longer() -> None:
    frame = len(ping_with(b"\xda\0\0"))
    for size, good in ((MAX_CONTROL_BYTES, True), (MAX_CONTROL_BYTES + 1, False)):
        text = size - frame
        data = ping_with(b"\xda" + text.to_bytes(2, "big") + b"x" * text)
        assert len(data) == size
        if good:
            assert parse(data).type == "ping"
        else:
            assert "no packet" in refusal(data)


SHORT = {
    "one element too many": (ping_with(array(b"\x00", MAX_ELEMENTS + 1)), "max_array_len"),
    "one key too many": (ping_with(msgpack.packb({str(i): 0 for i in range(MAX_KEYS + 1)})), "max_map_len"),
    "ext": (ping_with(b"\xd4\x01\x00"), "max_ext_len"),
    "a timestamp": (ping_with(b"\xd6\xff\0\0\0\0"), "max_ext_len"),
}


@pytest.mark.parametrize(("data", "why"), SHORT.values(), ids=SHORT)
def test_short_messages_hold_no_more_than_a_message_does(data: bytes, why: str) -> None:
    assert why in refusal(data)


def test_the_most_that_is_allowed_is_read() -> None:
    full = {"type": "ping", "time": 7, "array": [0] * MAX_ELEMENTS, "map": {str(i): 0 for i in range(MAX_KEYS)}}
    assert parse(msgpack.packb(full)).type == "ping"


@pytest.mark.parametrize("head", [b"\x95", b"\xdc\x00\x05", b"\xdd\x00\x00\x00\x05"], ids=["short", "16 bits", "32 bits"])
@pytest.mark.parametrize(
    "number", [b"\x07", b"\xcc\x07", b"\xcd\0\x07", b"\xce\0\0\0\x07", b"\xcf\0\0\0\0\0\0\0\x07", b"\xd0\x07", b"\xd3\0\0\0\0\0\0\0\x07"]
)
def test_a_long_packet_may_be_written_in_any_form(head: bytes, number: bytes) -> None:
    payload = bytes(range(256)) * 100
    data = head + 4 * number + b"\xc6" + len(payload).to_bytes(4, "big") + payload
    assert parse(data) == Packet(7, 7, 7, 7, payload)


@given(st.integers(0, 2**32 - 1), st.integers(0, 255), st.integers(0, 2**32 - 1), st.integers(0, 255), st.integers(0, 70_000))
def test_every_packet_of_any_length_is_read(seq: int, epoch: int, timestamp: int, n_q: int, size: int) -> None:
    packet = Packet(seq, epoch, timestamp, n_q, bytes(size))
    assert parse(packet.serialize()) == packet


@given(st.sampled_from([b"\x95", b"\xdc\x00\x05", b"\x83", b""]), st.binary(max_size=60), st.integers(MAX_CONTROL_BYTES, 20_000))
def test_no_long_junk_raises_anything_else(head: bytes, middle: bytes, size: int) -> None:
    data = (head + middle).ljust(size, b"\x90")
    try:
        value = unpack(data)
    except RemoteProtocolError as exc:
        assert exc.code == WireCode.BAD_MESSAGE
    else:
        assert isinstance(value, list | dict | int) or value is None
