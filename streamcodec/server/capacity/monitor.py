"""What the server's work really took of the machine, reported to admission."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from streamcodec.protocol import now_us
from streamcodec.scheduler.worker import WorkerStats
from streamcodec.server.capacity.admission import Admission
from streamcodec.server.capacity.load_model import Demand, Work
from streamcodec.server.metrics import Metrics

__all__ = ["CapacityMonitor"]

log = logging.getLogger("streamcodec.server")


class CapacityMonitor:
    """Corrects `admission` by what the worker and the loop have done; call it on the loop's thread, whose time is counted."""

    def __init__(self, admission: Admission, stats: WorkerStats, metrics: Metrics) -> None:
        self._admission = admission
        self._stats = stats
        self._metrics = metrics
        self._logged_room = admission.room()

    def correct(self, demand: Callable[[], Demand]) -> None:
        """Report what was done to admission, where it is due; log the room that there is when it has changed much.

        `demand` gives what it was done for. It is asked only then, as this is called after each step and asking goes through all streams.
        """
        now = now_us() / 1e6
        if not self._admission.correction_due(now):
            return
        self._admission.worked(now, demand(), self.work())
        room = self._admission.room()
        if room and self._logged_room and not 2 / 3 < room / self._logged_room < 3 / 2:
            self._logged_room = room
            log.info("room for about %d live publishers of PCM now", room)

    def work(self) -> Work:
        """All that was done so far."""
        stats, metrics = self._stats, self._metrics
        return Work(
            steps=stats.steps,
            rows=stats.rows,
            busy_s=stats.busy_s,
            cpu_s=time.process_time(),
            beside_s=time.thread_time() + stats.scheduling_s,
            messages=metrics.packets_received + metrics.packets_sent,
            hellos=metrics.hellos,
        )
