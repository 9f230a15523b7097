"""What is missing in one place is named once: adjacent gaps become one."""

from __future__ import annotations

from collections.abc import MutableSequence
from typing import Any

from streamcodec.protocol.messages import Gap

__all__ = ["append_gap"]


def append_gap(entries: MutableSequence[Any], gap: Gap) -> None:
    """Append `gap` to messages or packets in order, joined with the last one where that is a gap too (see `Gap.joined`)."""
    if entries and isinstance(entries[-1], Gap):
        gap = entries.pop().joined(gap)
    entries.append(gap)
