"""Bytes of a message <-> the msgpack value they hold. What no message needs is refused before any of it is built.

A peer decides what a message holds: a million empty arrays under a key that nobody knows would take a second to build. So only a packet,
whose shape is told from its first bytes, may be long; and what is short may hold no more than a message of this protocol does.
"""

from __future__ import annotations

import msgpack

from streamcodec.errors import LocalProtocolError, RemoteProtocolError, WireCode

__all__ = ["MAX_CONTROL_BYTES", "MAX_ELEMENTS", "MAX_KEYS", "MAX_MESSAGE_BYTES", "pack", "unpack"]

MAX_MESSAGE_BYTES = 1 << 20
MAX_CONTROL_BYTES = 1 << 14
MAX_ELEMENTS = 256
"""Of an array."""
MAX_KEYS = 64
"""Of a map."""

# An array of five in each of its forms, and how long its head is.
_FIVE = {b"\x95": 1, b"\xdc\x00\x05": 3, b"\xdd\x00\x00\x00\x05": 5}
# How many bytes an integer takes, by its first one. No element of a packet is negative.
_INTEGER_SIZES = dict.fromkeys(range(128), 1) | {first: size for firsts in (0xCC, 0xD0) for first, size in enumerate((2, 3, 5, 9), firsts)}
_BYTES = (0xC4, 0xC5, 0xC6)


def pack(value: object) -> bytes:
    """The bytes of `value`. Raises `LocalProtocolError` where they are too many for a message."""
    data: bytes = msgpack.packb(value)
    if len(data) > MAX_MESSAGE_BYTES:
        raise LocalProtocolError(f"the message has {len(data)} bytes, expected at most {MAX_MESSAGE_BYTES}")
    return data


def unpack(data: bytes) -> object:
    """The value that `data` is. Raises `RemoteProtocolError` BAD_MESSAGE."""
    if len(data) > MAX_MESSAGE_BYTES:
        raise RemoteProtocolError(WireCode.BAD_MESSAGE, f"the message has {len(data)} bytes, expected at most {MAX_MESSAGE_BYTES}")
    if len(data) > MAX_CONTROL_BYTES and not _begins_as_packet(data):
        told = f"the message has {len(data)} bytes and is no packet, expected at most {MAX_CONTROL_BYTES} then"
        raise RemoteProtocolError(WireCode.BAD_MESSAGE, told)
    try:
        value: object = msgpack.unpackb(
            data,
            raw=False,
            strict_map_key=True,
            max_str_len=MAX_CONTROL_BYTES,
            max_bin_len=MAX_MESSAGE_BYTES,
            max_array_len=MAX_ELEMENTS,
            max_map_len=MAX_KEYS,
            max_ext_len=0,
        )
    except (ValueError, msgpack.UnpackException) as exc:
        # Not its `repr`, which may hold all that is behind the first value.
        told = str(exc) or type(exc).__name__
        raise RemoteProtocolError(WireCode.BAD_MESSAGE, f"the message is not one msgpack value: {told}") from exc
    return value


def _begins_as_packet(data: bytes) -> bool:
    """Whether `data`, longer than the heads of a packet's elements, begins as an array of four integers and bytes."""
    at = next((size for head, size in _FIVE.items() if data.startswith(head)), 0)
    if not at:
        return False
    for _ in range(4):
        if not (size := _INTEGER_SIZES.get(data[at], 0)):
            return False
        at += size
    return data[at] in _BYTES
