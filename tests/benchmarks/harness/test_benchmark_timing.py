"""Candidates take turns, and percentiles are of all calls. No test looks at a clock."""

from __future__ import annotations

import math

from benchmarks.harness.timing import Candidate, alternate, percentiles


def test_candidates_take_turns_and_every_call_is_counted() -> None:
    calls: list[str] = []
    often = Candidate(lambda: calls.append("often"), 1.0, burst=2)
    seldom = Candidate(lambda: calls.append("seldom"), 1.0, burst=1, every=3)
    times = alternate([often, seldom], rounds=4, warm_up=0)
    assert [len(seconds) for seconds in times] == [8, 2]
    assert calls[1:] == ["often", "often", "seldom", "often", "often", "often", "often", "seldom", "often", "often"]


def test_percentiles_of_nothing_are_no_numbers() -> None:
    assert percentiles([*range(101)]) == {"p50": 50.0, "p95": 95.0, "p99": 99.0, "max": 100.0}
    assert all(math.isnan(value) for value in percentiles([]).values())
