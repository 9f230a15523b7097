"""docs/recording.md is enough to read a file: a reader that was written from the page alone finds the same events."""

from __future__ import annotations

import binascii
import zlib
from typing import Any

import msgpack
from hypothesis import given
from recording_rig import HEADER, MODEL, recorded, streams

from streamcodec.protocol import Packet
from streamcodec.recording import RecordedEvent
from streamcodec.recording.serializer import MARK_EVERY_S


def number(data: bytes, at: int) -> tuple[int, int]:
    value, shift = 0, 0
    while data[at] >= 128:
        value, shift, at = value + ((data[at] - 128) << shift), shift + 7, at + 1
    return value + (data[at] << shift), at + 1


def read_by_the_page(data: bytes) -> list[Any]:
    """Messages as maps, packets as (seq, epoch, timestamp, n_q, payload), marks as ("mark", numbers)."""
    assert data[:8] == bytes.fromhex("89 73 63 72 65 63 0d 0a") and data[8] == 1
    at = 11 + int.from_bytes(data[9:11], "big")
    header = msgpack.unpackb(data[11:at])
    assert int.from_bytes(data[at : at + 4], "big") == zlib.crc32(data[:at])
    at = begun = at + 4
    rate, found = header["model"]["sampling_rate"], []
    seq = epoch = n_q = expected = 0
    start: dict[str, Any] = {}

    def lasts(frames: int) -> int:
        return round(frames * header["model"]["hop_length"] * 1_000_000 / rate)

    def packet(n_q: int, body: bytes) -> None:
        nonlocal seq, expected
        written, behind = number(body, 0)
        difference = written // 2 if written % 2 == 0 else -(written + 1) // 2
        timestamp, payload = (expected + difference) % 2**32, body[behind:]
        found.append((seq, epoch, timestamp, n_q, payload))
        expected, seq = (timestamp + lasts(8 * len(payload) // (n_q * 10))) % 2**32, seq + 1

    while at < len(data):
        first = at
        word, at = number(data, at)
        body = data[at + 2 : at + 2 + word // 2]
        assert int.from_bytes(data[at : at + 2], "big") == binascii.crc_hqx(data[first:at] + body, 0xFFFF)
        at += 2 + word // 2
        if word % 2:
            packet(n_q, body)
        elif body[0] == 0:
            packet(body[1], body[2:])
        elif body[0] == 1:
            message = msgpack.unpackb(body[1:])
            found.append(message)
            if message["type"] == "start":
                start, seq, epoch, n_q = message, message["first_seq"], message["epoch"], message["n_q"]
            elif message["type"] == "gap":
                seq += message["count"]
                expected = (expected + lasts(message["count"] * start["packet_frames"])) % 2**32
        elif body[0] == 2:
            assert body[1:7] == header["mark_word"]
            assert int.from_bytes(body[7:11], "big") == zlib.crc32(data[begun:first])
            begun, numbers, place = at, [], 11
            while len(numbers) < 8:
                value, place = number(body, place)
                numbers.append(value)
            assert numbers[1:6] == [seq, epoch, n_q, start["packet_frames"], expected]
            found.append(("mark", numbers))
    return found


@given(streams())
def test_a_reader_written_from_the_page_finds_the_same(events: list[RecordedEvent]) -> None:
    file, _ = recorded(events, mark_every_s=0.5)
    found = [one for one in read_by_the_page(file) if not isinstance(one, tuple) or one[0] != "mark"]
    written = [
        (event.seq, event.epoch, event.timestamp, event.n_q, event.payload)
        if isinstance(event, Packet)
        else msgpack.unpackb(event.serialize())
        for event in events
    ]
    assert found == written


def test_figures_of_the_page_are_the_codes() -> None:
    assert MARK_EVERY_S == 10.0
    assert binascii.crc_hqx(b"123456789", 0xFFFF) == 0x29B1
    assert msgpack.unpackb(HEADER.serialize()[11:-4])["model"]["fingerprint"] == MODEL.fingerprint
