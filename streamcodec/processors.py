"""How many processors this process may use, and how several processes share them out."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ProcessorShare", "available_processors", "processor_shares", "usable_processors"]

_most = math.inf  # what `ProcessorShare.take` has left to this process


@dataclass(frozen=True)
class ProcessorShare:
    """What one of several processes has: `count` processors, and which ones where it is to keep to some."""

    count: int
    numbers: tuple[int, ...] = ()

    def take(self) -> None:
        """Let this process have no more than this. Call it before anything starts a thread."""
        global _most
        _most = self.count
        if self.numbers and hasattr(os, "sched_setaffinity"):
            with contextlib.suppress(OSError):  # it may be forbidden, and is only for the better
                os.sched_setaffinity(0, self.numbers)


def processor_shares(processes: int, available: int, numbers: Collection[int]) -> list[ProcessorShare]:
    """Share `available` processors out among so many processes, each one at least.

    Each process keeps to processors of its own, next to one another, where `numbers` are all that there are. It does not where a quota
    gives fewer, as others may keep to the same ones; nor where there are more processes than processors.
    """
    counts = [max(1, available // processes + (index < available % processes)) for index in range(processes)]
    if available != len(numbers) or available < processes:
        return [ProcessorShare(count) for count in counts]
    ordered = sorted(numbers)
    firsts = [sum(counts[:index]) for index in range(processes)]
    return [ProcessorShare(count, tuple(ordered[first : first + count])) for first, count in zip(firsts, counts, strict=True)]


def usable_processors() -> frozenset[int]:
    """The numbers of the processors that affinity leaves to this process."""
    return frozenset(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1))


def available_processors(root: Path = Path("/")) -> int:
    """The processors that affinity and control groups leave to this process, at least 1.

    A control group's quota counts as whole processors, rounded up: a container that may use 1.5 processors has 2. `root` is where the
    system's files are.
    """
    return max(1, int(min([len(usable_processors()), _most, *(math.ceil(quota) for quota in _quotas(root))])))


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
