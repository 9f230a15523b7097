"""The most memory that this process has had. It imports little, so that a process which is measured can import it."""

from __future__ import annotations

import resource
from pathlib import Path

__all__ = ["peak_mib"]

_STATUS = Path("/proc/self/status")


def peak_mib() -> float:
    """The largest resident memory of this process so far, MiB; on Linux since its program began.

    `ru_maxrss` would do, but on Linux a new program begins with what the one had that started it.
    """
    if _STATUS.exists():
        return int(_STATUS.read_text().split("VmHWM:")[1].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
