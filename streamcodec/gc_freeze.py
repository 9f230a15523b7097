"""Keeps the long pauses of Python's garbage collector out of real-time programs."""

from __future__ import annotations

import gc

__all__ = ["freeze_gc"]

_FULL_EVERY = 100  # collections of the middle generation; Python's own number is 10


def freeze_gc() -> None:
    """Exclude every object that exists now from later garbage collections. Call it once, after the program has loaded its libraries.

    torch, OpenVINO and similar libraries create 200,000 long-lived objects. A full collection visits all of them and stops every thread
    for 0.13 s, which is longer than any buffer here. Objects that are created later are collected as usual, but for one thing: a full
    collection also visits the 100 objects of each connection, 0.1 s for 1,000 of them. So it comes ten times as rarely.
    """
    gc.collect()
    gc.freeze()
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, _FULL_EVERY)
