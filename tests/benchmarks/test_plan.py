"""The plan of all benchmarks: every one is in it, within its time; what is done of it, what is left, and how long it takes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from benchmarks import plan, report
from benchmarks.harness.provenance import Repository
from benchmarks.harness.run import RESULTS, commands_of
from benchmarks.plan import BUDGET_S, LONG, SHORT, Planned, Provenance, Took

NOW = Repository({"speech-24k": "f" * 32}, "0" * 12)
STATE = Provenance("abc1234", NOW, "A processor avx2")


def ran(command: str, /, **changes: Any) -> dict[str, Any]:
    """A stored run of `STATE`, but for the changes."""
    machine = {"cpu": "A processor", "instructions": ["avx2"], "models": dict(NOW.models)}
    return {"command": command, "commit": STATE.commit, "engine": NOW.engine, "machine": machine, **changes}


def planned(benchmark: str, *words: str, among: tuple[Planned, ...] = SHORT) -> Planned:
    [found] = [one for one in among if one.benchmark == benchmark and set(words) <= set(one.words)]
    return found


def left(
    one: Planned, section: dict[str, Any] | None, *, resume: bool = True, longer: tuple[Planned, ...] = LONG
) -> tuple[str, ...] | None:
    return plan.left(one, report.benchmark(one.benchmark), section, STATE, longer, resume=resume)


def test_every_benchmark_is_in_the_plan_but_for_what_needs_a_device() -> None:
    assert {one.benchmark for one in SHORT} == set(report.BENCHMARKS) - {"accelerator"}
    assert {one.benchmark for one in LONG} < {one.benchmark for one in SHORT}


@pytest.mark.parametrize("one", (*SHORT, *LONG), ids=lambda one: one.command)
def test_every_command_is_one_that_its_benchmark_takes(one: Planned) -> None:
    assert commands_of(report.benchmark(one.benchmark), one.words)


@pytest.mark.parametrize("run", (SHORT, LONG), ids=("short", "long"))
def test_no_run_of_a_plan_takes_the_place_of_another(run: tuple[Planned, ...]) -> None:
    cases = [(one.benchmark, case) for one in run for case in commands_of(report.benchmark(one.benchmark), one.words)]
    assert len(cases) == len(set(cases))


def test_all_of_it_fits_into_its_time_by_what_the_last_runs_took() -> None:
    """Times that `make bench` stored stand in for the plan's own: a run that took longer is seen here."""
    for took in ([], report.stored_took(RESULTS)):
        assert plan.expected_s(SHORT, took, lanes=2) <= BUDGET_S


def test_the_long_plan_has_every_run_that_is_shorter_in_the_short_one() -> None:
    for one in LONG:
        short = {case: command for other in SHORT if other.benchmark == one.benchmark for case, command in cases_of(other).items()}
        for case, command in cases_of(one).items():
            assert short[case] != command, f"{command} is in both plans"
            assert plan.longer_run(short[case], report.benchmark(one.benchmark), case) == command
    assert plan.longer_run("python -m benchmarks.soak --minutes 7", report.benchmark("soak"), "") is None
    assert plan.longer_run("python -m benchmarks.seams", report.benchmark("seams"), "") is None


def cases_of(one: Planned) -> dict[str, str]:
    return commands_of(report.benchmark(one.benchmark), one.words)


def test_what_hangs_on_no_clock_runs_side_by_side_where_a_lane_is_free() -> None:
    run = [Planned("seams", 30, timed=False), Planned("dtx", 20, timed=False), Planned("late_join", 15, timed=False), Planned("step", 100)]
    assert plan.expected_s(run, [], lanes=1) == 165
    assert plan.expected_s(run, [], lanes=2) == 100 + 35
    assert plan.expected_s(run, [], lanes=3) == 100 + 30
    assert plan.expected_s([], [], lanes=2) == 0


def test_a_command_is_expected_to_take_what_it_took_unless_it_failed() -> None:
    one = Planned("seams", 30)
    took = Took("seams", one.command, 41.0, plan.MEASURED)
    assert plan.seconds_of(one, []) == 30
    assert plan.seconds_of(one, [took, Took("seams", f"{one.command} --seconds 1", 3.0, plan.MEASURED)]) == 41
    assert plan.seconds_of(one, [replace(took, ended=plan.FAILED)]) == 30


@pytest.mark.parametrize(
    "changes",
    [
        {"command": "python -m benchmarks.seams --seconds 3"},
        {"commit": "another"},
        {"engine": "1" * 12},
        {"machine": {"cpu": "A processor", "instructions": ["avx2"], "models": {"speech-24k": "e" * 32}}},
        {"machine": {"cpu": "A processor", "instructions": ["avx2", "avx512f"], "models": dict(NOW.models)}},
    ],
    ids=("command", "commit", "engine", "weights", "processor"),
)
def test_what_is_stored_of_another_state_is_measured_again(changes: dict[str, Any]) -> None:
    one = planned("seams")
    assert left(one, ran(one.command)) is None
    assert left(one, ran(one.command, **changes)) == one.words
    assert left(one, None) == one.words


def test_a_run_without_embedded_weights_stands_for_all_of_them() -> None:
    one = planned("parity")
    assert left(one, ran(one.command, machine={"cpu": "A processor", "instructions": ["avx2"], "models": {}})) is None


def test_nothing_counts_as_done_where_files_differ_from_the_commit() -> None:
    one = planned("seams")
    state = replace(STATE, commit="abc1234-dirty")
    assert plan.left(one, report.benchmark("seams"), ran(one.command, commit=state.commit), state, (), resume=True) == one.words


def test_all_is_measured_anew_unless_it_is_to_go_on() -> None:
    one = planned("seams")
    assert left(one, ran(one.command), resume=False) == one.words


def test_of_a_command_with_cases_those_that_are_missing_are_left() -> None:
    one = planned("failures")
    commands = cases_of(one)
    first, *others = commands
    assert left(one, {"cases": {first: ran(commands[first])}}) == ("--case", *others)
    assert left(one, {"cases": {case: ran(command) for case, command in commands.items()}}) is None
    words = left(one, {"cases": {first: ran(commands[first])}})
    assert words is not None
    assert commands_of(report.benchmark("failures"), words) == {case: commands[case] for case in others}, (
        "the same runs, by the same commands"
    )


def test_a_longer_run_of_the_same_state_is_not_replaced_by_a_shorter_one() -> None:
    short, long = planned("soak"), planned("soak", among=LONG)
    assert left(short, ran(long.command), resume=False) is None
    assert left(short, ran(long.command, commit="another"), resume=False) == short.words
    assert left(long, ran(short.command), longer=()) == long.words, "and a shorter one does not stand for a longer one"
    browser = planned("browser")
    [steps] = cases_of(planned("browser", among=LONG)).values()
    words = left(browser, {"cases": {"steps": ran(steps)}}, resume=False)
    assert words is not None
    assert set(commands_of(report.benchmark("browser"), words)) == set(cases_of(browser)) - {"steps"}


def test_a_command_is_measured_when_all_that_was_asked_for_is_there() -> None:
    assert plan.ended(0, {"a", "b"}, {"a", "b", "c"}) == plan.MEASURED
    assert plan.ended(1, {"a"}, {"a"}) == plan.CHECKS_FAILED
    assert plan.ended(0, {"a", "b"}, {"a"}) == plan.ended(1, {""}, set()) == plan.ended(None, {"a"}, {"a"}) == plan.FAILED


def test_the_table_tells_what_each_section_was_expected_to_take_and_took() -> None:
    run = [Planned("relay", 60), Planned("relay", 30, ("--listeners", "300")), Planned("seams", 30)]
    took = {
        one.command: Took("relay", one.command, seconds, how)
        for one, seconds, how in zip(run, (66, 24), ("measured", "failed"), strict=False)
    }
    assert plan.told(run, [], took).splitlines()[2:] == ["| relay | 1.5 | 1.5 | measured; failed |", "| seams | 0.5 | - | - |"]
    assert plan.told(run, []).splitlines()[2:] == ["| relay | 1.5 |", "| seams | 0.5 |"]


def test_lyra_takes_part_where_its_files_are() -> None:
    assert plan.with_lyra(SHORT, None) == SHORT
    told = {one.benchmark for one in plan.with_lyra(SHORT, "some/lyra-v2") if one.words[-2:] == ("--lyra", "some/lyra-v2")}
    assert told == {"step", "quality"}
    [quality] = [one for one in plan.with_lyra(SHORT, "some/lyra-v2") if one.benchmark == "quality"]
    assert plan.longer_run(quality.command, report.benchmark("quality"), "") == planned("quality", among=LONG).command
