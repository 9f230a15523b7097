"""What a run that nobody watches takes: programs that end in time or are ended with all that they started, and a machine kept quiet."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import Self

import psutil

__all__ = ["Quiet", "run_to_end"]

_LOOK_EVERY_S = 0.2
_GRACE_S = 10.0
_LOW_PRIORITY = 10


def run_to_end(command: Sequence[str], folder: Path, limit_s: float, stop: Event) -> int | None:
    """Run a command in `folder`, its output dropped; return its exit status, or None where it took longer than `limit_s` or `stop` was set.

    Then it is ended with all that it started.
    """
    with subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        waited = 0.0
        while True:
            try:
                return process.wait(_LOOK_EVERY_S)
            except subprocess.TimeoutExpired:
                waited += _LOOK_EVERY_S
            except BaseException:
                _end(process.pid)
                raise
            if stop.is_set() or waited >= limit_s:
                _end(process.pid)
                return None


def _end(pid: int) -> None:
    """End a process and its descendants: asked first, so that they tidy up, and then not asked."""
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for asked in (True, False):
        for one in family:
            try:
                if asked:
                    one.terminate()
                else:
                    one.kill()
            except psutil.NoSuchProcess:
                continue
        _, family = psutil.wait_procs(family, _GRACE_S)


class Quiet:
    """Within a `with`, programs of low priority that belong to the same user are stopped: they would share caches and processors.

    `look` stops those that came meanwhile. All go on afterwards.
    """

    def __init__(self) -> None:
        self.stopped: list[psutil.Process] = []

    def __enter__(self) -> Self:
        self.look()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for process in self.stopped:
            try:
                process.resume()
            except psutil.NoSuchProcess:
                continue

    def look(self) -> None:
        """Stop those that run now."""
        me = psutil.Process()
        for process in psutil.process_iter():
            try:
                if _of_low_priority(process, me):
                    process.suspend()
                    self.stopped.append(process)
            except psutil.Error:  # it has ended meanwhile, or is not ours to look at
                continue


def _of_low_priority(process: psutil.Process, me: psutil.Process) -> bool:
    """Whether this is a running program of our user's at low priority; threads of the kernel have no command line."""
    return bool(
        process.uids().real == me.uids().real
        and process.nice() >= _LOW_PRIORITY
        and process.status() not in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE)
        and process.cmdline()
    )
