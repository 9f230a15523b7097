"""Sizes as people write them: 500MB, 2GB, 1.5GiB."""

from __future__ import annotations

import re
from typing import Any

from streamcodec.errors import InputError
from streamcodec.protocol.fields import shown

__all__ = ["size_of_bytes"]

_UNITS = "KMGT"
_SIZE = re.compile(rf"(\d{{1,15}}(?:\.\d{{1,15}})?) ?(?:([{_UNITS}])(i?)B?|B)?", re.IGNORECASE | re.ASCII)


def size_of_bytes(value: Any) -> int:
    """A number of bytes, with one of the units KB, MB, GB and TB (powers of 1,000) or KiB, MiB, GiB and TiB (of 1,024).

    Raises `InputError`.
    """
    found = None if isinstance(value, bool) else _SIZE.fullmatch(str(value).strip())
    size = 0
    if found is not None:
        number, unit, binary = found.groups()
        size = int(float(number) * (1024 if binary else 1000) ** (_UNITS.index(unit.upper()) + 1 if unit else 0))
    if size < 1:
        raise InputError(f"{shown(value)} is no size, expected for instance 500MB or 2GB")
    return size
