"""Python's garbage collector and realtime: a program's pauses, and how to have none."""

from __future__ import annotations

import gc

__all__ = ["settle"]


def settle() -> None:
    """Leave all that is in memory now out of every later collection: call it once, when a program has loaded what it needs.

    torch, OpenVINO and their like leave 200,000 objects behind. Looking through all of them, which Python does now and then, stops every
    thread of the program for 0.13 s: longer than anything is buffered here. What comes later is collected as ever.
    """
    gc.collect()
    gc.freeze()
