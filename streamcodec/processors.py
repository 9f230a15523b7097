"""How many processors this process may use."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["available_processors"]


def available_processors(root: Path = Path("/")) -> int:
    """The processors that affinity and control groups leave to this process, at least 1.

    A control group's quota counts as whole processors, rounded up: a container that may use 1.5 processors has 2. `root` is where the
    system's files are.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([affinity, *(math.ceil(quota) for quota in _quotas(root))]))


def _quotas(root: Path) -> Iterator[float]:
    """The quotas, in processors, of this process's control group and of those that it lies in."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        unified = controllers == ""
        if not unified and "cpu" not in controllers.split(","):
            continue
        base = root / "sys/fs/cgroup" if unified else root / "sys/fs/cgroup" / controllers
        group = Path(path.lstrip("/"))
        # Inside a container the path may be the host's, where nothing is mounted: its own group is the root then.
        for folder in (base / part for part in [group, *group.parents]):
            words = _text(folder / "cpu.max").split() if unified else [_text(folder / f"cpu.cfs_{word}_us") for word in ("quota", "period")]
            if len(words) == 2 and all(word.strip().isdecimal() for word in words) and int(words[1]) > 0:
                yield int(words[0]) / int(words[1])


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
