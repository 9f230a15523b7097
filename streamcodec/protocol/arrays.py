"""Arrays as few bytes without any loss: float32 as it is but for its exponents, and samples of 16 bits as such.

Mantissas of a model's states are noise, and no packer makes them smaller. Their signs and exponents take a quarter of the bytes, of which
little is left. Samples that came as 16 bits are whole 32,768ths; what is left of speech where two samples before each are continued in a
straight line takes less than a third of float32.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np

from streamcodec.errors import SnapshotError

__all__ = ["RAW", "Packed", "pack_array", "unpack_array"]

Packed = tuple[str, bytes]
"""How the values of an array are packed, and the bytes."""

RAW, _EXPONENTS, _WHOLE = "raw", "exponents", "16 bits"
_LEVEL = 1  # the higher ones take ten times as long for a percent
_FEW = 64  # values, for which it is not worth while
_SCALE = np.float32(32_768)


def pack_array(values: np.ndarray[Any, Any]) -> Packed:
    """The values of an array of any shape, one row behind the other."""
    flat = values.reshape(-1)
    if flat.dtype != np.float32 or flat.size < _FEW:
        return RAW, flat.tobytes()
    if (whole := _whole(flat)) is not None:
        return _WHOLE, zlib.compress(_planes(np.diff(whole, n=2, prepend=np.zeros(2, np.uint16))).tobytes(), _LEVEL)
    *low, high = _planes(flat)
    return _EXPONENTS, b"".join([*(plane.tobytes() for plane in low), zlib.compress(high.tobytes(), _LEVEL)])


def unpack_array(how: str, data: bytes, dtype: np.dtype[Any], size: int) -> np.ndarray[Any, Any]:
    """The `size` values [T] that `pack_array` has packed. Raises `SnapshotError` for anything else."""
    if how == RAW:
        return np.frombuffer(_exactly(data, dtype.itemsize * size), dtype)
    if dtype != np.float32 or how not in (_EXPONENTS, _WHOLE):
        raise SnapshotError(f"an array of {dtype} is packed as {how[:20]!r}, expected {RAW!r}, or of float32 {_EXPONENTS!r} or {_WHOLE!r}")
    if how == _WHOLE:
        planes = np.frombuffer(_inflated(data, 2 * size), np.uint8).reshape(2, size)
        steps = np.ascontiguousarray(planes.T).view("<u2")[:, 0]
        whole = np.cumsum(np.cumsum(steps, dtype=np.uint16), dtype=np.uint16).view(np.int16)
        return whole.astype(np.float32) / _SCALE
    high = _inflated(data[3 * size :], size)
    planes = np.frombuffer(_exactly(data[: 3 * size], 3 * size) + high, np.uint8).reshape(4, size)
    return np.ascontiguousarray(planes.T).view("<f4")[:, 0]


def _whole(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any] | None:
    """Samples of 16 bits as whole numbers of 16 bits, whose sums and differences wrap; None for anything else."""
    if not (np.abs(values) <= 1).all():
        return None
    scaled = values * _SCALE
    whole = np.clip(scaled, -32_768, 32_767).astype(np.int16)
    same = (whole.astype(np.float32) / _SCALE).view(np.uint32) == values.view(np.uint32)  # a zero has a sign, too
    return whole.view(np.uint16) if same.all() else None


def _planes(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The bytes [itemsize, T] of values [T], those that weigh least first."""
    little = np.ascontiguousarray(values.astype(values.dtype.newbyteorder("<"), copy=False))
    return np.ascontiguousarray(little.view(np.uint8).reshape(values.size, -1).T)


def _inflated(data: bytes, size: int) -> bytes:
    inflating = zlib.decompressobj()
    try:
        found = _exactly(inflating.decompress(data, size + 1), size)
    except zlib.error as exc:
        raise SnapshotError(f"an array's bytes are damaged: {exc}") from exc
    if not inflating.eof or inflating.unused_data:
        raise SnapshotError("an array's bytes break off, or go on behind its end")
    return found


def _exactly(data: bytes, size: int) -> bytes:
    if len(data) != size:
        raise SnapshotError(f"an array has {len(data)} bytes, expected {size}")
    return data
