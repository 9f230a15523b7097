"""A batch waits for more rows on a busy engine only, where that saves time, and never longer than it may."""

from __future__ import annotations

import math

import pytest

from streamcodec.scheduler.batcher import Batcher
from streamcodec.scheduler.batching_delay import BatchingDelay

WAIT_S = 0.01


def loaded(share: float, *, workers: int = 1, lone_s: float = 0.005, shared_s: float | None = 0.002) -> BatchingDelay:
    """After 20 s of rows that would take `share` of the engine one by one; the last row was due at 20 s."""
    delay = BatchingDelay(workers)
    delay.ran("k", 1, lone_s)
    if shared_s is not None:
        delay.ran("k", 8, 8 * shared_s)
    every = lone_s / (share * workers)
    for i in range(int(20 / every) + 1):
        delay.arrived("k", i * every)
    return delay


@pytest.mark.parametrize(("share", "expected"), [(0.1, 0.0), (0.55, 0.0), (0.75, 0.5), (0.95, 1.0), (3.0, 1.0)])
@pytest.mark.parametrize("workers", [1, 4])
def test_the_wait_grows_with_what_rows_one_by_one_would_take_of_the_engine(share: float, expected: float, workers: int) -> None:
    assert loaded(share, workers=workers).share("k", 20.0) == pytest.approx(expected, abs=0.1)


def test_where_the_rows_stop_the_wait_does() -> None:
    delay = loaded(0.95)
    assert delay.share("k", 20.0) == 1.0
    assert delay.share("k", 22.0) == 0.0


@pytest.mark.parametrize(("shared_s", "waits"), [(None, True), (0.001, True), (0.0039, True), (0.0041, False), (0.02, False)])
def test_nothing_waits_where_a_row_takes_as_long_in_a_batch(shared_s: float | None, waits: bool) -> None:
    assert (loaded(2.0, shared_s=shared_s).share("k", 20.0) > 0) is waits


def test_nothing_waits_before_a_lone_row_was_timed() -> None:
    delay = BatchingDelay()
    for i in range(1000):
        delay.arrived("k", i / 1000)
    delay.ran("k", 8, 0.1)
    assert delay.share("k", 1.0) == delay.share("unknown", 1.0) == 0.0


def test_rows_of_all_kinds_count_for_the_load() -> None:
    delay = loaded(0.7)
    alone = delay.share("k", 20.0)
    delay.ran("other", 1, 0.1)
    for i in range(20):
        delay.arrived("other", 18.0 + i / 10)
    assert delay.share("k", 20.0) == 1.0 > alone


def test_what_came_least_recently_is_forgotten_when_there_are_many_kinds() -> None:
    delay = loaded(2.0)
    for i in range(31):
        delay.arrived(i, 20.0 + i / 1000)
    assert delay.share("k", 20.031) == 1.0
    delay.arrived("one more", 20.031)
    assert delay.share("k", 20.031) == 0.0


@pytest.fixture
def batcher() -> Batcher[str]:
    return Batcher(4, delay=loaded(2.0))


def test_a_held_batch_runs_when_its_oldest_row_has_waited(batcher: Batcher[str]) -> None:
    batcher.add("k", "first", 20.0, WAIT_S)
    batcher.add("k", "second", 20.004, WAIT_S)
    assert batcher.take(20.005) == []
    assert batcher.ready_at(20.005) == pytest.approx(20.0 + WAIT_S)
    assert batcher.take(20.0 + WAIT_S + 1e-6) == [(20.0, "first"), (20.004, "second")]
    assert batcher.ready_at(20.02) == math.inf


def test_a_full_batch_does_not_wait(batcher: Batcher[str]) -> None:
    for i in range(4):
        batcher.add("k", str(i), 20.0, WAIT_S)
    assert batcher.ready_at(20.0) <= 20.0
    assert len(batcher.take(20.0)) == 4


def test_a_batch_of_another_kind_does_not_wait_for_one_that_is_held(batcher: Batcher[str]) -> None:
    batcher.add("k", "held", 20.0, WAIT_S)
    batcher.add("rare", "goes", 20.001, WAIT_S)
    assert batcher.take(20.002) == [(20.001, "goes")]
    assert batcher.take(20.002) == []
    assert len(batcher) == 1


def test_on_an_idle_engine_everything_goes_at_once() -> None:
    batcher: Batcher[str] = Batcher(4, delay=loaded(0.1))
    batcher.add("k", "row", 20.0, WAIT_S)
    assert batcher.ready_at(20.0) <= 20.0
    assert batcher.take(20.0) == [(20.0, "row")]


def test_a_row_that_may_not_wait_takes_along_those_that_do(batcher: Batcher[str]) -> None:
    batcher.add("k", "waits", 20.0, WAIT_S)
    assert batcher.take(20.001) == []
    batcher.add("k", "is behind", 20.001)
    assert batcher.take(20.001) == [(20.0, "waits"), (20.001, "is behind")]
