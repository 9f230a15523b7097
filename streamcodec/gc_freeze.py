"""Python's garbage collector and real time: how a program avoids its long pauses."""

from __future__ import annotations

import gc

__all__ = ["freeze_gc"]


def freeze_gc() -> None:
    """Exclude everything that is in memory now from later garbage collections: call it once, when a program has loaded what it needs.

    torch, OpenVINO and similar libraries leave 200,000 objects behind. A full collection visits all of them and stops every thread of the
    program for 0.13 s: longer than any buffer here lasts. Objects that are made later are collected as usual.
    """
    gc.collect()
    gc.freeze()
