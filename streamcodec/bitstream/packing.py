"""Codes to payload bytes and back. This file only does arithmetic on bits; it uses neither models nor messages.

Codebooks are packed in pairs (2i, 2i+1). Each code has `bits` bits, most significant first. One pair is laid out like this:

      codebook 2i                    codebook 2i+1
    +-----------+-----+-----------+-----------+-----+-----------+-------------+
    |  frame 0  | ... | frame F-1 |  frame 0  | ... | frame F-1 | zeros (0-7) |
    +-----------+-----+-----------+-----------+-----+-----------+-------------+

The zeros fill the last byte, so every pair takes whole bytes. The first pairs alone are therefore the same packet at a lower bandwidth.
If the number of codebooks is odd, the last one forms a group of its own, padded in the same way.

The payload does not contain the number of frames F: it is floor(8 * bytes / (n_q * bits)). A group has at most 7 bits of padding and at
least 8 bits per frame (two codes of 4 bits, or one code of 8). So the padding is always shorter than a frame, and the number of bytes
determines F.
"""

from __future__ import annotations

import functools
import itertools

import numpy as np
from numpy.typing import NDArray

from streamcodec.errors import CodesError, PayloadError

__all__ = ["pack_codes", "payload_frames", "payload_size", "truncate_payload", "unpack_codes"]

MAX_BITS = 16


def pack_codes(codes: NDArray[np.integer], bits: int = 10) -> bytes:
    """Pack one packet's codes.

    Shape: codes is [n_q, frames], any integer type, values 0 to 2**bits - 1.
    Raises `CodesError` for another shape or type, and for a value out of range; the message names the first such value.
    """
    if codes.ndim != 2 or codes.dtype.kind not in "iu" or not codes.size:
        raise CodesError(f"codes are {codes.dtype} of shape {list(codes.shape)}, expected integers of shape [n_q, frames], both above 0")
    n_q, frames = codes.shape
    _check_layout(n_q, bits)
    if (codes >> bits).any():
        book, frame = np.argwhere((codes < 0) | (codes >> bits != 0))[0]
        raise CodesError(f"the code of codebook {book}, frame {frame} is {codes[book, frame]}, expected 0 to {2**bits - 1}")
    # [n_q, frames] -> [n_q, frames, 16] bits -> [n_q, frames * bits]
    wide = np.unpackbits(codes.astype(">u2", order="C").view(np.uint8)).reshape(n_q, frames, MAX_BITS)
    rows = wide[:, :, MAX_BITS - bits :].reshape(n_q, frames * bits)
    paired = n_q // 2 * 2
    payload = np.packbits(rows[:paired].reshape(n_q // 2, 2 * frames * bits), axis=1).tobytes()
    return payload + np.packbits(rows[paired:]).tobytes() if n_q % 2 else payload


def unpack_codes(payload: bytes, n_q: int, bits: int = 10) -> NDArray[np.int32]:
    """Unpack one packet's codes; the number of bytes determines the number of frames.

    Shape: returns [n_q, frames], int32, values 0 to 2**bits - 1.
    Raises `PayloadError` for bytes that are not a whole packet of `n_q` codebooks, `CodesError` for an impossible `n_q` or `bits`.
    """
    frames = payload_frames(payload, n_q, bits)
    pairs, width = n_q // 2, 2 * frames * bits
    data = np.frombuffer(payload, np.uint8)
    split = pairs * _whole_bytes(width)
    rows = np.unpackbits(data[:split].reshape(pairs, -1), axis=1, count=width).reshape(-1, bits) if pairs else data[:0].reshape(0, bits)
    if n_q % 2:
        rows = np.concatenate([rows, np.unpackbits(data[split:], count=frames * bits).reshape(-1, bits)])
    # [n_q * frames, bits] -> [n_q, frames]
    codes: NDArray[np.int32] = rows.dot(_weights(bits)).reshape(n_q, frames)
    return codes


def payload_size(n_q: int, frames: int, bits: int = 10) -> int:
    """The size in bytes of `frames` frames of `n_q` codebooks: 60 for 8 codebooks of 10 bits and 6 frames."""
    return n_q // 2 * _whole_bytes(2 * frames * bits) + n_q % 2 * _whole_bytes(frames * bits)


def payload_frames(payload: bytes, n_q: int, bits: int = 10) -> int:
    """The number of frames in a payload of `n_q` codebooks.

    Raises `PayloadError` if the bytes are not a whole packet or if padding bits are set, and `CodesError` for an impossible `n_q` or
    `bits`.
    """
    frames, padding = _layout(len(payload), n_q, bits)
    for at, zeros in padding:
        if payload[at] & zeros:
            raise PayloadError(f"byte {at} of the payload is 0x{payload[at]:02x}, expected padding: zeros in the bits 0x{zeros:02x}")
    return frames


def truncate_payload(payload: bytes, from_n_q: int, to_n_q: int, bits: int = 10) -> bytes:
    """Cut a packet to its first `to_n_q` codebooks, which are a prefix of its bytes.

    Raises `CodesError` unless `to_n_q` is even or equal to `from_n_q`, and `PayloadError` for bytes that are not a whole packet.
    """
    frames = payload_frames(payload, from_n_q, bits)
    if to_n_q != from_n_q and (to_n_q % 2 or not 2 <= to_n_q < from_n_q):
        raise CodesError(f"cannot cut a packet of {from_n_q} codebooks to {to_n_q}, expected an even number from 2, or {from_n_q}")
    return payload[: payload_size(to_n_q, frames, bits)]


@functools.lru_cache(maxsize=1024)  # each packet is looked at several times, and few lengths occur
def _layout(size: int, n_q: int, bits: int) -> tuple[int, list[tuple[int, int]]]:
    """The frames in a payload of `size` bytes, and the places of its bytes that end with padding, with a mask of it."""
    _check_layout(n_q, bits)
    frames = 8 * size // (n_q * bits)
    if frames < 1 or payload_size(n_q, frames, bits) != size:
        near = [payload_size(n_q, f, bits) for f in (max(frames, 1), max(frames, 1) + 1)]
        raise PayloadError(
            f"payload has {size} bytes, expected whole bytes for each codebook pair "
            f"(n_q {n_q}, {bits} bits: {near[0]} bytes are {max(frames, 1)} frames, {near[1]} are {max(frames, 1) + 1})"
        )
    widths = [2 * frames * bits] * (n_q // 2) + [frames * bits] * (n_q % 2)
    ends = itertools.accumulate(map(_whole_bytes, widths))
    return frames, [(end - 1, (1 << -width % 8) - 1) for end, width in zip(ends, widths, strict=True) if width % 8]


def _whole_bytes(bits: int) -> int:
    return (bits + 7) // 8


def _check_layout(n_q: int, bits: int) -> None:
    if n_q < 1:
        raise CodesError(f"n_q is {n_q}, expected 1 or more")
    min_bits = 8 if n_q % 2 else 4
    if not min_bits <= bits <= MAX_BITS:
        raise CodesError(f"a code has {bits} bits, expected {min_bits} to {MAX_BITS} with n_q {n_q}")


@functools.cache
def _weights(bits: int) -> NDArray[np.int32]:
    return np.left_shift(1, np.arange(bits - 1, -1, -1, dtype=np.int32), dtype=np.int32)
