"""A value of msgpack with one thing in it replaced: what a reader must bear."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

__all__ = ["changed"]

_NASTY: list[Any] = [
    None,
    True,
    -1,
    0,
    256,
    2**32,
    2**53,
    2**63,
    -(2**63),
    0.5,
    math.nan,
    math.inf,
    -math.inf,
    1e308,
    "",
    "a.b.>",
    "\x1b[31m\r\n",
    "\u202e",
    "ä" * 40,
    b"",
    b"\x00" * 32,
    [],
    [[]],
    [math.inf, math.inf],
    ["s_1", math.inf],
    {},
    {"": None},
]


def changed(value: Any) -> Iterator[Any]:
    """`value` with one thing in it replaced, or left out, in each way."""
    yield from _NASTY
    if isinstance(value, dict):
        for key, item in value.items():
            yield {name: one for name, one in value.items() if name != key}
            for other in changed(item):
                yield {**value, key: other}
    elif isinstance(value, list):
        for at, item in enumerate(value):
            yield [*value[:at], *value[at + 1 :]]
            for other in changed(item):
                yield [*value[:at], other, *value[at + 1 :]]
