"""Notices steps of the engine that hang: the server says that it is unwell, gives such a step up, and ends where that does not help.

What counts is the time that the event loop has seen go by. So a machine that was asleep, or a program that was stopped, has no step that
hangs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from streamcodec.scheduler.worker import RunningStep, Worker

__all__ = ["MAX_ABANDONED", "Watchdog"]

MAX_ABANDONED = 3
"""So many steps in a row may be given up; where the next one hangs as well, no new thread helps."""
_MOST_SEEN_S = 0.5

log = logging.getLogger("streamcodec.server")


class Watchdog:
    """Looks at the worker's steps from time to time.

    A step that has run for `hung_s` makes the server unwell. After twice that it is abandoned, and its streams go on in a new epoch, on a
    new thread. A thread that has died has a successor at once. `give_up` is called, once, with the reason when step after step hangs. The
    server is well again as soon as a step ends in time, or as long as no step runs for `hung_s`.
    """

    def __init__(self, worker: Worker, hung_s: float, now: float, give_up: Callable[[str], None]) -> None:
        self.abandoned = 0
        self.replaced = 0
        self._worker = worker
        self._hung_s = hung_s
        self._give_up: Callable[[str], None] | None = give_up
        self._now = now
        self._step: RunningStep | None = None
        self._seen_s = 0.0  # of this step, or of no step running
        self._in_row = 0
        self._steps = 0  # how many had ended when one was abandoned last
        self._unwell = False

    @property
    def complaint(self) -> str | None:
        """What is wrong, in words; None while the server is well."""
        if not self._unwell:
            return None
        return "a step of the engine hangs" if self._step is not None else "no step of the engine has ended since one hung"

    def check(self, now: float) -> None:
        """Look at the steps that run, at `now` (s)."""
        passed_s, self._now = min(_MOST_SEEN_S, now - self._now), now
        if died := self._worker.replace_dead():
            self.replaced += died
            log.error("%d thread(s) of the model died: new ones go on, and what they ran begins in a new epoch", died)
        step = next(iter(self._worker.running), None)
        if step is not self._step:
            self._step, self._seen_s = step, 0.0
        else:
            self._seen_s += passed_s
        if self._unwell and (self._worker.stats.steps > self._steps or (step is None and self._seen_s >= self._hung_s)):
            self._unwell, self._in_row = False, 0
            log.warning("the engine works again")
        if step is None or self._seen_s < self._hung_s:
            return
        if not self._unwell:
            self._unwell, self._steps = True, self._worker.stats.steps
            log.error("a step of the engine with %d streams hangs: it has run for %.1f s", len(step.batch), self._seen_s)
        if self._seen_s >= 2 * self._hung_s:
            self._abandon(step)

    def _abandon(self, step: RunningStep) -> None:
        if self._in_row >= MAX_ABANDONED:
            if self._give_up is not None:
                give_up, self._give_up = self._give_up, None
                give_up(f"{MAX_ABANDONED + 1} steps of the engine in a row hang")
            return
        if self._worker.abandon(step):
            self._in_row += 1
            self.abandoned += 1
            self._steps = self._worker.stats.steps
            self._step, self._seen_s = None, 0.0
            log.error("gave that step up: its streams go on in a new epoch, on a new thread")
