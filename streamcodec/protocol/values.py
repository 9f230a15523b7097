"""Frozen dataclasses as bytes and back, for servers of one version: what a hint says about a field is checked when it is read.

A dataclass is an array of its name and its fields; a message of the wire is the message's bytes. No client ever sees any of this.
"""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

import msgpack
import numpy as np

from streamcodec.errors import LocalProtocolError, RemoteProtocolError, SnapshotError
from streamcodec.protocol.arrays import pack_array, unpack_array
from streamcodec.protocol.fields import Check, shown
from streamcodec.protocol.messages import Control, Packet, parse

__all__ = ["MAX_VALUE_BYTES", "pack_value", "unpack_value"]

T = TypeVar("T")

MAX_VALUE_BYTES = 1 << 22
_MAX_ELEMENTS = 1 << 14  # of an array: what it says of itself is taken in memory before its elements are there
_MAX_ARRAYS = 1 << 16  # a byte may be an array, which takes 60 times as much in memory
_MAX_AXES = 3


def pack_value(value: object) -> bytes:
    """The bytes of a dataclass. Raises `SnapshotError` where they are more than `MAX_VALUE_BYTES`."""
    data: bytes = msgpack.packb(_plain(value))
    _check_size(data)
    return data


def unpack_value(cls: type[T], data: bytes) -> T:
    """The dataclass that `pack_value` has packed. Raises `SnapshotError` for anything else."""
    _check_size(data)
    arrays = 0

    def count(array: list[Any]) -> list[Any]:
        nonlocal arrays
        arrays += 1
        if arrays > _MAX_ARRAYS:
            raise ValueError(f"more than {_MAX_ARRAYS} arrays")
        return array

    try:
        plain = msgpack.unpackb(
            data,
            raw=False,
            max_str_len=1 << 12,
            max_bin_len=MAX_VALUE_BYTES,
            max_array_len=min(_MAX_ELEMENTS, len(data)),
            list_hook=count,
            object_hook=_no_map,
            max_map_len=0,  # an empty one is left to the hook
            max_ext_len=0,
        )
    except (ValueError, msgpack.UnpackException) as exc:
        raise SnapshotError(f"the bytes are not one msgpack value: {str(exc) or type(exc).__name__}") from exc
    value: T = _value(cls, plain, cls.__name__)
    return value


def _no_map(value: dict[Any, Any]) -> Any:  # noqa: ARG001
    raise ValueError("a map, expected arrays alone")


def _check_size(data: bytes) -> None:
    if len(data) > MAX_VALUE_BYTES:
        raise SnapshotError(f"a value has {len(data)} bytes, expected at most {MAX_VALUE_BYTES}")


def _plain(value: Any) -> Any:
    if isinstance(value, (Packet, Control)):
        return value.serialize()
    if isinstance(value, np.ndarray):
        return [value.dtype.str, list(value.shape), *pack_array(value)]
    if isinstance(value, tuple):
        if len(value) > _MAX_ELEMENTS:
            raise SnapshotError(f"a value has {len(value)} elements, expected at most {_MAX_ELEMENTS}")
        return [_plain(item) for item in value]
    if is_dataclass(value):
        return [type(value).__name__, *(_plain(getattr(value, field.name)) for field in fields(value))]
    return value


def _value(hint: Any, plain: Any, where: str) -> Any:
    """What `plain` stands for where `hint` is expected; `where` names it in an error."""
    check: Check | None = None
    if typing.get_origin(hint) is typing.Annotated:
        hint, check = typing.get_args(hint)
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    if plain is None and type(None) in options:
        return None
    records: dict[str, Any] = {option.__name__: option for option in options if is_dataclass(option) and isinstance(option, type)}
    if records:
        return _record(records, plain, where)
    option = next(option for option in options if option is not type(None))
    if typing.get_origin(option) is typing.Annotated:
        option, check = typing.get_args(option)
    value = _several(option, plain, where) if typing.get_origin(option) is not None else plain
    if isinstance(option, type) and typing.get_origin(option) is None and type(value) is not option:
        raise _wrong(where, value, option.__name__, check)
    if check is not None and not check.accepts(value):
        raise _wrong(where, value, check.expected, check)
    return value


def _record(records: Mapping[str, Any], plain: Any, where: str) -> Any:
    expected = " or ".join(records)
    if isinstance(plain, bytes):
        try:
            message = parse(plain)
        except (RemoteProtocolError, LocalProtocolError) as exc:
            raise SnapshotError(f"{where}: {exc}") from exc
        if type(message).__name__ not in records:
            raise SnapshotError(f"{where} is a {type(message).__name__}, expected {expected}")
        return message
    if not isinstance(plain, list) or not plain or not isinstance(plain[0], str) or plain[0] not in records:
        raise SnapshotError(f"{where} is {shown(plain)}, expected {expected}")
    cls = records[plain[0]]
    if issubclass(cls, (Packet, Control)):
        raise SnapshotError(f"{where} is {shown(plain)}, expected the bytes of a message")
    names = [field.name for field in fields(cls)]
    if len(names) != len(plain) - 1:
        raise SnapshotError(f"{where} has {len(plain) - 1} fields, expected {len(names)} of {cls.__name__}")
    hints = _hints_of(cls)
    return cls(**{name: _value(hints[name], value, f"{where}.{name}") for name, value in zip(names, plain[1:], strict=True)})


@functools.cache
def _hints_of(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls, include_extras=True)


def _several(hint: Any, plain: Any, where: str) -> Any:
    """An array of numbers, or a tuple."""
    if not isinstance(plain, list):
        raise SnapshotError(f"{where} is {shown(plain)}, expected an array")
    if typing.get_origin(hint) is np.ndarray:
        [dtype] = typing.get_args(typing.get_args(hint)[1])
        return _array(np.dtype(dtype), plain, where)
    options = typing.get_args(hint)
    if options[-1] is not ...:
        if len(plain) != len(options):
            raise SnapshotError(f"{where} has {len(plain)} elements, expected {len(options)}")
        return tuple(_value(option, item, f"{where}[{at}]") for at, (option, item) in enumerate(zip(options, plain, strict=True)))
    return tuple(_value(options[0], item, f"{where}[{at}]") for at, item in enumerate(plain))


def _array(dtype: np.dtype[Any], plain: list[Any], where: str) -> Any:
    types_ok = [type(one) for one in plain[1:]] == [list, str, bytes]
    if len(plain) != 4 or plain[0] != dtype.str or not types_ok:
        raise SnapshotError(f"{where} is {shown(plain)}, expected an array of {dtype}")
    _, shape, how, data = plain
    if len(shape) > _MAX_AXES or not all(type(size) is int and 0 <= size <= MAX_VALUE_BYTES for size in shape):
        raise SnapshotError(f"{where} has the shape {shown(shape)}, expected at most {_MAX_AXES} sizes of 0 or more")
    if (size := int(np.prod(shape, dtype=object))) * dtype.itemsize > MAX_VALUE_BYTES:
        raise SnapshotError(f"{where} has the shape {shape}, expected at most {MAX_VALUE_BYTES} bytes of {dtype}")
    try:
        return unpack_array(how, data, dtype, size).reshape(shape)
    except SnapshotError as exc:
        raise SnapshotError(f"{where}: {exc}") from exc


def _wrong(where: str, value: object, expected: str, check: Check | None) -> SnapshotError:
    told = f"of type {type(value).__name__}" if check is not None and check.secret else shown(value)
    return SnapshotError(f"{where} is {told}, expected {expected}")
