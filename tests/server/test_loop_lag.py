"""How late the loop reads what comes is told by ticks on a clock that a test winds."""

from __future__ import annotations

import pytest

from streamcodec.server.capacity.recent import NEWEST_S, WINDOW_S, LoopLag, Recent


def ticking(recent: Recent, late_s: float, seconds: float, begin: float = 0.0) -> float:
    """Let each tick come so late."""
    lag = LoopLag(recent, begin, 0.05)
    due = begin + 0.05
    while due < begin + seconds:
        due = lag.tick(due + late_s)
    return due


def test_a_loop_that_is_in_time_has_no_lag() -> None:
    recent = Recent()
    now = ticking(recent, 0.001, 10.0)
    assert recent.quantiles(now, 0.5, 0.99) == pytest.approx([0.001, 0.001])


def test_a_loop_that_reads_late_is_known_by_it() -> None:
    recent = Recent()
    now = ticking(recent, 0.03, 10.0)
    assert recent.quantiles(now, 0.5) == pytest.approx([0.03])


def test_a_loop_that_stands_still_for_a_while_is_late_for_all_that_fell_due_meanwhile() -> None:
    recent = Recent()
    lag = LoopLag(recent, 0.0, 0.05)
    due = 0.05
    for turn in range(100):
        due = lag.tick(due + (1.0 if turn % 10 == 9 else 0.0))  # one tick of ten is a second late
    median, p95 = recent.quantiles(due, 0.5, 0.95)
    assert p95 > 0.8
    assert 0.2 < median < 0.6


def test_a_loop_that_stood_still_for_an_hour_notes_no_more_than_a_window_of_it() -> None:
    recent = Recent()
    lag = LoopLag(recent, 0.0, 0.05)
    assert lag.tick(3600.0) > 3600.0
    assert recent.quantiles(3600.0, 0.99)[0] <= WINDOW_S
    assert recent.worst(3600.0, 0.95) > NEWEST_S


def test_a_tick_that_comes_early_is_none() -> None:
    recent = Recent()
    lag = LoopLag(recent, 0.0, 0.05)
    assert lag.tick(0.04) == 0.05
    due = 0.05
    for _ in range(30):
        due = lag.tick(due)
    assert due == pytest.approx(1.55)
    assert recent.quantiles(1.5, 0.99) == [0.0]
