"""When the machine itself ran nothing, as happens to a virtual machine while its host runs another one.

A thread on each processor sleeps for 2 ms at a time, at a real-time priority above everything that is measured. Where it wakes late, its
processor was stopped.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["Stalls", "of_stalls"]

_ROOT = Path(__file__).parents[2]
_SLEEP_S, _STALL_S = 0.002, 0.01
_PRIORITY = 50  # PulseAudio's own threads have 5
_BEHIND_S = 0.2  # for so long after a stall, what was late because of it still arrives late


class Stalls:
    """Watches the processors while the context lasts.

    `found` are the stalls of 10 ms and more: their ends on `time.monotonic` and their lengths (s). It is None where this user may not ask
    for a real-time priority, because another program would look like a stall there.
    """

    found: list[tuple[float, float]] | None = None

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.mouth_to_ear.stalls"],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        told, _ = self._process.communicate()
        if self._process.returncode:
            raise RuntimeError(f"the watch for stalls ended with exit code {self._process.returncode}")
        found = json.loads(told)
        self.found = None if found is None else [(end_s, length_s) for end_s, length_s in found]


def of_stalls(times_s: list[float], stalls: list[tuple[float, float]]) -> int:
    """How many of these times lie within a stall or the 0.2 s behind it."""
    return sum(any(end_s - length_s <= at_s <= end_s + _BEHIND_S for end_s, length_s in stalls) for at_s in times_s)


def watch() -> list[tuple[float, float]] | None:
    """The stalls from now until standard input ends; None where no real-time priority can be had."""
    found: list[tuple[float, float]] = []
    refused, over = threading.Event(), threading.Event()

    def look(processor: int) -> None:
        try:
            os.sched_setaffinity(0, {processor})
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(_PRIORITY))
        except OSError:
            refused.set()
            return
        while not over.is_set():
            begun = time.monotonic()
            time.sleep(_SLEEP_S)
            woken = time.monotonic()
            if woken - begun - _SLEEP_S >= _STALL_S:
                found.append((woken, woken - begun - _SLEEP_S))

    threads = [threading.Thread(target=look, args=(processor,)) for processor in os.sched_getaffinity(0)]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    over.set()
    for thread in threads:
        thread.join()
    return None if refused.is_set() else sorted(found)


if __name__ == "__main__":
    json.dump(watch(), sys.stdout)
