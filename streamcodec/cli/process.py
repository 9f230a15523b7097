"""What a command is as a process: its standard streams, the signals that end it, and the event loop that it runs on."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
from collections.abc import Coroutine, Iterator
from typing import Any

__all__ = ["Interrupts", "ending_by_signals", "run_coroutine", "secure_standard_streams"]


def secure_standard_streams() -> None:
    """Let no standard stream be a trap.

    A closed one is reserved: otherwise the next file or socket that is opened would be written to as standard output. What a stream cannot
    encode (a name that is no UTF-8, or any accent where the locale is ASCII) is written as an escape, instead of failing when all work is
    done.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class Interrupts:
    """Whether Ctrl-C was pressed. An import that it interrupts may raise any type of error, which then means nothing else."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, *_: object) -> None:
        self.count += 1
        raise KeyboardInterrupt


@contextlib.contextmanager
def ending_by_signals() -> Iterator[Interrupts]:
    """Within the block, Ctrl-C raises `KeyboardInterrupt`; SIGTERM and SIGHUP end the program by `SystemExit`, so that it tidies up.

    A signal that is ignored stays ignored, as `nohup` wants it.
    """
    interrupts = Interrupts()

    def end(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    before: dict[int, Any] = {}
    try:
        for name, handler in (("SIGINT", interrupts), ("SIGTERM", end), ("SIGHUP", end)):
            number = getattr(signal, name, None)
            # Only the main thread may set handlers.
            if number is not None and signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                with contextlib.suppress(ValueError):
                    before[number] = signal.signal(number, handler)
        yield interrupts
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_coroutine(main_: Coroutine[Any, Any, int]) -> int:
    """Run a coroutine on uvloop where it is installed.

    Ctrl-C, SIGTERM and SIGHUP (a closed terminal) cancel it; a second Ctrl-C ends it wherever it is.
    """
    import asyncio

    try:
        import uvloop

        factory: Any = uvloop.new_event_loop
    except ImportError:
        factory = None
    with asyncio.Runner(loop_factory=factory) as runner:

        async def guarded() -> int:
            task = asyncio.ensure_future(main_)
            loop = asyncio.get_running_loop()
            before: dict[signal.Signals, Any] = {}
            if sys.platform != "win32":
                for number in (signal.SIGTERM, signal.SIGHUP):
                    if (handler := signal.getsignal(number)) is not signal.SIG_IGN:
                        before[number] = handler
                        loop.add_signal_handler(number, task.cancel)
            interrupts = 0

            def interrupt(*_: object) -> None:
                nonlocal interrupts
                interrupts += 1
                if interrupts > 1:
                    raise KeyboardInterrupt
                # The runner's own handler cancels at once, between any two steps of a callback that may be setting what is awaited.
                loop.call_soon_threadsafe(task.cancel)

            before[signal.SIGINT] = signal.signal(signal.SIGINT, interrupt)
            try:
                return await task
            except asyncio.CancelledError:
                return 130
            finally:
                for number, handler in before.items():
                    loop.remove_signal_handler(number)
                    signal.signal(number, handler)

        return runner.run(guarded())
