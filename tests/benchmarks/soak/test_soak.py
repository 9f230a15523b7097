"""What is made of a soak, and a run of it in a tiny setting. No test looks at how late anything was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from made_up_models import small_model
from tiny_benchmark import run_tiny

from benchmarks.attacks.streams import StreamLog
from benchmarks.soak.benchmark import failures, growth
from benchmarks.soak.crowd import CrowdLog, add


def figures(rss: list[float] | None = None, **changes: Any) -> dict[str, Any]:
    seconds = [float(at) for at in range(1200)]
    course = {"seconds": seconds, "rss_mib": rss or [300.0] * 1200, "descriptors": [40] * 1200, "threads": [9] * 1200}
    counts = {"rss_mib": 300.0, "descriptors": 20, "threads": 9}
    found = {"course": course, "warm_up_s": 60.0, "mib_per_minute_allowed": 0.2, "idle": counts, "left": counts}
    found |= {"errors": {}, "first": {}, "lost": 0, "told": 0, "packets": 7, **changes}
    return {**found, "growth": growth(found)}


def test_what_holds_is_no_failure() -> None:
    assert failures(figures()) == []
    assert growth(figures())["rss_mib"] == [300.0, 300.0] and abs(growth(figures())["mib_per_minute"]) < 1e-6


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"lost": 2}, "2 packets lost"),
        ({"told": 1}, "1 named by gaps"),
        ({"packets": 0}, "no packet came"),
        ({"errors": {"the stream ended": 3}}, "3 x the stream ended"),
        ({"errors": {"the server said full": 2}, "first": {"the server said full": "no room"}}, "2 x the server said full, first: no room"),
        ({"rss": [300.0 + at / 100 for at in range(1200)]}, "memory grows by 0.60 MiB a minute"),
        ({"left": {"rss_mib": 300.0, "descriptors": 30, "threads": 9}}, "30 descriptors at the end, 20 before"),
        ({"left": {"rss_mib": 300.0, "descriptors": 20, "threads": 19}}, "19 threads at the end"),
    ],
)
def test_what_does_not_hold_is_told(changes: dict[str, Any], told: str) -> None:
    [found] = failures(figures(**changes))
    assert told in found


def test_packets_count_from_the_first_that_the_listener_got_to_the_last() -> None:
    log, late = CrowdLog(), list[float]()
    add(log, StreamLog([float(at) for at in range(10)], {seq: seq + 0.5 for seq in (2, 3, 5)}, {4}, "ordinary-1: the stream ended"), late)
    add(log, StreamLog([0.0], {}, set()), late)
    assert (log.streams, log.packets, log.lost, log.told) == (2, 3, 1, 1)
    assert late == [500.0] * 3 and log.errors == {"the stream ended": 1}


def test_a_short_run_loses_nothing(tmp_path: Path) -> None:
    words = ["--minutes", "0.05", "--streams", "2", "--mean-life-seconds", "1", "--engine", "torch", "--model"]
    stands = " ".join([*words, Path(small_model()).name])
    found = run_tiny("soak", [*words, small_model()], tmp_path, stands=stands, here=True)["figures"]
    assert found["streams"] >= 2 and found["packets"] > 0 and found["growth"]["mib_per_minute"] is None
