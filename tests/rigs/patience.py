"""Limits of a server that no slow machine breaks, and an event loop whose time a test can move."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any

from streamcodec.server import Limits

__all__ = ["PATIENT", "TIMEOUT_S", "pass_time", "patient_limits", "run_patiently"]

TIMEOUT_S = 600.0  # a guard against hangs alone: no verdict depends on how fast the machine is

PATIENT = dict.fromkeys(
    (
        "handshake_s",
        "encode_wait_s",
        "decode_wait_s",
        "listener_max_lag_s",
        "listener_give_up_s",
        "stall_s",
        "drain_s",
        "hung_step_s",
        "first_packet_s",
        "silent_s",
    ),
    TIMEOUT_S,
)
"""Waits of a server that no slow machine reaches, by the names of its limits."""


def patient_limits(**changes: Any) -> Limits:
    """Limits that admit every client and wait for a slow machine; `changes` are what a test is about."""
    return Limits(**{**PATIENT, "capacity": None, **changes})


class MovableLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock a test can move forward: timers that are due by then run at once."""

    moved_s = 0.0

    def time(self) -> float:
        return super().time() + self.moved_s


async def pass_time(seconds: float) -> None:
    """Move the running loop's clock forward, and let what is due by then run."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, MovableLoop)
    loop.moved_s += seconds
    for _ in range(3):
        await asyncio.sleep(0)


def run_patiently(main: Coroutine[Any, Any, Any], timeout_s: float = TIMEOUT_S) -> Any:
    """Run `main` on a loop whose time can be moved; cancel it where it hangs, which real time tells."""
    hung = False
    with asyncio.Runner(loop_factory=MovableLoop) as runner:
        loop = runner.get_loop()

        async def guarded() -> Any:
            nonlocal hung
            task = asyncio.current_task()
            assert task is not None

            def give_up() -> None:
                nonlocal hung
                hung = True
                task.cancel()

            guard = threading.Timer(timeout_s, lambda: loop.call_soon_threadsafe(give_up))
            guard.daemon = True
            guard.start()
            try:
                return await main
            finally:
                guard.cancel()
                guard.join()

        try:
            return runner.run(guarded())
        except asyncio.CancelledError:
            if hung:
                raise TimeoutError(f"the test hangs: it is not over after {timeout_s:g} s") from None
            raise
