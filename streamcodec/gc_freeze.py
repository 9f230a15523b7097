"""Keeps the long pauses of Python's garbage collector out of real-time programs."""

from __future__ import annotations

import gc

__all__ = ["freeze_gc"]


def freeze_gc() -> None:
    """Exclude every object that exists now from later garbage collections. Call it once, after the program has loaded its libraries.

    torch, OpenVINO and similar libraries create 200,000 long-lived objects. A full collection visits all of them and stops every thread
    for 0.13 s, which is longer than any buffer here. Objects that are created later are collected as usual.
    """
    gc.collect()
    gc.freeze()
