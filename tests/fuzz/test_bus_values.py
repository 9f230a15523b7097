"""Each value that a node reads of the bus, replaced by each that it should not be: nothing breaks, and little memory is taken."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import msgpack
import pytest
from bus_targets import BUS_TARGETS, bus_seeds, framed, unframed
from changed_values import changed

from streamcodec.errors import SnapshotError
from streamcodec.protocol.messages import Gap
from streamcodec.protocol.values import MAX_VALUE_BYTES, unpack_value
from streamcodec.server.cluster.questions import NodeAnswer, NodeQuestion, read_live, read_parts, with_length
from streamcodec.server.cluster.records import Claim, NodeRecord, RecordError


def pieces(target: str, data: bytes) -> tuple[list[bytes], Callable[[list[bytes]], bytes]]:
    """The msgpack values that an input is made of, and what joins them again."""
    if target == "live_messages":
        return list(unframed(data)), framed
    if target == "node_answer":
        return list(read_parts(data)), with_length
    return [data], b"".join


@pytest.mark.parametrize("target", BUS_TARGETS)
def test_no_value_in_any_place_breaks_a_reader(target: str) -> None:
    tried = 0
    for seed in bus_seeds(target):
        parts, join = pieces(target, seed)
        for at, part in enumerate(parts):
            for value in changed(msgpack.unpackb(part)):
                BUS_TARGETS[target](join([*parts[:at], msgpack.packb(value), *parts[at + 1 :]]))
                tried += 1
    assert tried > 100


@pytest.mark.parametrize(
    "read", [Claim.parse, NodeRecord.parse, NodeQuestion.parse, NodeAnswer.parse, read_live, lambda data: unpack_value(Gap, data)]
)
@pytest.mark.parametrize("filled_with", [b"\x90", b"\x80", b"\xc0", b"\xdc\x7f\xff", b"\x91", b"\xa0"])
def test_what_is_built_is_bounded_whatever_the_bytes_claim(read: Callable[[bytes], object], filled_with: bytes) -> None:
    """Arrays in arrays, as long as a bus lets them be: built as they are, each of their bytes would take 60 in memory."""
    size = MAX_VALUE_BYTES - 100
    body = (filled_with * size)[:size]
    hostile = [
        body,
        b"\xdd" + (2**32 - 1).to_bytes(4, "big") + body,
        b"\xdc\x7f\xff" + (b"\xdc\x01\x00" + 256 * filled_with) * (size // 300),
    ]
    for data in hostile:
        tracemalloc.start()
        try:
            with pytest.raises((RecordError, SnapshotError)):
                read(data[:size])
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 12 * MAX_VALUE_BYTES


def test_a_few_bytes_that_claim_long_arrays_take_a_little_memory() -> None:
    for header in (b"\xdc\x3f\xff", b"\xdc\x00\xff", b"\xdd\x00\x00\x3f\xff"):
        tracemalloc.start()
        try:
            with pytest.raises(SnapshotError):
                unpack_value(Gap, 300 * header)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 8 << 20


def test_pieces_that_claim_more_bytes_than_there_are_build_nothing() -> None:
    for data in (b"\xff\xff\xff\xffx", with_length([b"x"]) + b"\x7f\xff\xff\xff", b"\x00\x00"):
        with pytest.raises(RecordError, match="breaks off"):
            read_parts(data)
