"""The relay benchmark: what it makes of made-up listeners, and a tiny run; never its speed."""

from __future__ import annotations

from array import array
from pathlib import Path
from typing import Any

import pytest
from tiny_benchmark import files_of, run_tiny

from benchmarks.relay.benchmark import figures_of
from benchmarks.relay.listener import RelayLog
from benchmarks.relay.load import RelayLoad, RelayReport
from benchmarks.relay.render import headlines, render

LOAD = RelayLoad("ws://127.0.0.1:1", "", listeners=2, join_s=1.0, hold_s=8.0, over_s=4.0)
USED = [{"at": 10.0 * at, "cpu_s": 5.0 * at, "rss_mib": 100.0} for at in range(3)]
DUES = [float(at) for at in range(20)]


def heard(late_s: float = 0.02, *, first: int = 0, missing: tuple[int, ...] = (), **said: Any) -> RelayLog:
    """A listener that came before packet `first`, and got all from there on but the `missing` ones, each so late."""
    seqs = [seq for seq in range(first, 20) if seq not in missing]
    told = {"asked": first - 1.0, "answered": first - 0.9, "ended": True, "first_live": first, **said}
    return RelayLog(due=array("d", [DUES[seq] for seq in seqs]), late=array("f", [late_s] * len(seqs)), **told)


def refused(**said: Any) -> RelayLog:
    return RelayLog(asked=14.0, **{"answered": 14.5, "refused": "server_full", "reason": "no room", **said})


def figures(held: list[RelayLog], newcomers: list[RelayLog], error: str = "") -> dict[str, Any]:
    report = RelayReport(held, newcomers, (2.0, 10.0), (14.0, 18.0), USED, [0.001] * 20, DUES, error)
    return figures_of(LOAD, report, USED)


def test_all_that_was_due_and_came_in_time_is_delivered_and_the_headline_says_so() -> None:
    found = figures([heard(), heard(0.05)], [heard(first=13)])
    assert found["failures"] == []
    hold, over = found["hold"], found["over"]
    assert (hold["expected"], hold["came"], hold["within_1s"]) == (16, 16, 16)
    assert (over["expected"], over["came"], over["let_in"], over["silent"]) == (12, 12, 1, 0)
    assert hold["late_ms"]["max"] == pytest.approx(50)
    assert hold["hello_ms"]["max"] == pytest.approx(100)
    assert hold["server_cores"] == 0.5
    [headline] = headlines({"2 listeners": found})
    assert headline.ours == "2 (p99 50 ms)"
    assert "**Every check passed.**" in render({"2 listeners": found})


def test_what_came_too_late_or_never_is_not_delivered() -> None:
    found = figures([heard(1.5), heard(missing=(3, 4), told=2)], [])
    assert (found["hold"]["expected"], found["hold"]["came"], found["hold"]["within_1s"], found["hold"]["told"]) == (16, 14, 6, 2)
    assert headlines({"2 listeners": found}) == []
    assert "37.50%" in render({"2 listeners": found})


def test_those_that_were_refused_are_told_with_the_server_s_words_and_those_that_heard_nothing_are_a_failure() -> None:
    found = figures([heard(), heard()], [refused(), refused(), RelayLog(asked=14.0)])
    assert found["over"]["refused"] == {"server_full": {"count": 2, "first": "no room"}}
    assert found["over"]["silent"] == 1
    assert found["failures"] == ["1 listeners were not answered", "1 listeners were let in and saw no end of the stream"]
    assert '2 x `server_full`, the first: "no room"' in render({"2 listeners": found})


@pytest.mark.parametrize(
    ("said", "failure"), [({"unnamed": 1}, "missed packets"), ({"differing": 1}, "differ"), ({"error": "reset"}, "reset")]
)
def test_a_listener_that_got_something_else_fails_the_run(said: dict[str, Any], failure: str) -> None:
    [told] = figures([heard(**said), heard()], [])["failures"]
    assert failure in told


def test_a_publisher_that_is_lost_fails_the_run() -> None:
    assert figures([heard(), heard()], [], error="the publisher: reset")["failures"] == ["the publisher: reset"]


def test_a_tiny_run_delivers_every_packet_and_answers_everybody(model: str, tmp_path: Path) -> None:
    words = ["--listeners", "4", "--join-seconds", "0.2", "--hold-seconds", "0.5", "--over-seconds", "0.3", "--model"]
    section = run_tiny("relay", [*words, model], tmp_path, stands=" ".join([*words, Path(model).name]), here=True)
    assert files_of(tmp_path) == {"relay.json", "relay.md"}
    [case] = section["cases"].values()
    found = case["figures"]
    assert found["failures"] == []
    for crowd, asked in ((found["hold"], 4), (found["over"], 2)):
        assert crowd["silent"] == crowd["told"] == crowd["unnamed"] == 0
        assert crowd["let_in"] + sum(refusal["count"] for refusal in crowd["refused"].values()) == crowd["asked"] == asked
        assert crowd["came"] == crowd["expected"] > 0
