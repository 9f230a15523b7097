"""A niced run takes the cores that are free and no more."""

from __future__ import annotations

import pytest

from streamcodec.training.threads import FreeCores, busy_seconds


class Machine:
    """A machine with four cores whose clocks are set by hand."""

    def __init__(self) -> None:
        self.busy: float | None = 1000.0
        self.own = 0.0
        self.wall = 0.0

    def cores(self, most: int = 4) -> FreeCores:
        return FreeCores(most, 4, busy=lambda: self.busy, own=lambda: self.own, wall=lambda: self.wall)

    def spend(self, seconds: float, *, own: float, others: float) -> None:
        """Let `seconds` pass in which so many cores were used."""
        self.wall += seconds
        self.own += own * seconds
        if self.busy is not None:
            self.busy += (own + others) * seconds


@pytest.mark.parametrize(("others", "threads"), [(0.0, 4), (0.1, 4), (0.5, 3), (1.0, 3), (2.7, 1), (4.0, 1)])
def test_threads_are_what_others_leave_free(others: float, threads: int) -> None:
    machine = Machine()
    cores = machine.cores()
    machine.spend(10.0, own=1.0, others=others)
    assert cores.count() == threads


def test_only_the_time_since_the_last_look_counts() -> None:
    machine = Machine()
    cores = machine.cores(most=2)
    machine.spend(10.0, own=2.0, others=4.0)
    assert cores.count() == 1
    machine.spend(10.0, own=2.0, others=0.0)
    assert cores.count() == 2


def test_all_threads_are_used_on_a_machine_that_does_not_report_its_load() -> None:
    machine = Machine()
    machine.busy = None
    cores = machine.cores()
    machine.spend(10.0, own=1.0, others=0.0)
    assert cores.count() == 4


def test_the_load_of_this_machine_is_read_or_reported_as_unknown() -> None:
    busy = busy_seconds()
    assert busy is None or busy > 0.0
