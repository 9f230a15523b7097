"""What benchmarks of several processes share: how a process runs its loop, tells what it used, is heard, and is brought to its end."""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

__all__ = ["finish", "receive", "run_loop", "usage"]

T = TypeVar("T")


def run_loop(main: Coroutine[Any, Any, T]) -> T:
    """Run `main` on uvloop where it is installed, else on asyncio's own loop."""
    factory: Callable[[], asyncio.AbstractEventLoop] | None
    try:
        import uvloop
    except ImportError:
        factory = None
    else:
        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main)


def usage() -> dict[str, float]:
    """What this process has used: called on the loop's thread, whose share is told apart; seconds and MiB."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = used.ru_utime + used.ru_stime
    return {"cpu_s": cpu_s, "loop_s": time.thread_time(), "at": time.perf_counter(), "peak_mib": used.ru_maxrss / 1024}


def receive(pipe: Any, process: Any) -> Any:
    """The next thing from `pipe`; raises `RuntimeError` if its process died instead."""
    while not pipe.poll(0.2):
        if not process.is_alive() and not pipe.poll():
            raise RuntimeError(f"a process of the load ended with exit code {process.exitcode}")
    return pipe.recv()


def finish(*processes: Any) -> None:
    """Wait for each that was started, 10 s at most, then end it."""
    for process in processes:
        if process is not None:
            process.join(10)
            if process.is_alive():
                process.terminate()
                process.join()
