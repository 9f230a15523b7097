"""A small cluster in virtual time: nobody is lost, no name has two publishers at the end, and a seed decides everything."""

from __future__ import annotations

import asyncio
import copy
from pathlib import Path

import pytest
from tiny_benchmark import files_of, run_tiny

from benchmarks.cluster_simulation.benchmark import BENCHMARK, _failures
from benchmarks.cluster_simulation.scenarios import RULES, drain, growth, herd, partition
from benchmarks.cluster_simulation.virtual_time import run_virtually

TINY = ["--nodes", "4", "12", "--clients", "60", "--streams", "10", "60", "--contested", "4", "--partition-s", "2", "8", "--seconds", "5"]


@pytest.fixture(scope="module")
def section(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, Path]:
    out = tmp_path_factory.mktemp("out")
    return run_tiny("cluster_simulation", TINY, out, here=True), out


def test_a_tiny_run_tells_every_scenario(section: tuple[dict, Path]) -> None:
    stored, out = section
    figures = stored["figures"]
    assert [len(figures[name]) for name in ("herds", "drains", "partitions", "growth")] == [2, 3, 2, 2]
    assert figures["failures"] == []
    assert files_of(out) == {"cluster_simulation.json", "cluster_simulation.md", "cluster_simulation.png"}
    [headline] = BENCHMARK.headlines(figures)
    assert "60 clients" in headline.what and "12 nodes" in headline.what


def test_a_check_that_does_not_hold_is_told(section: tuple[dict, Path]) -> None:
    figures = section[0]["figures"]
    assert _failures(figures) == []
    for kind, key, value in (
        ("herds", "placed", 59),
        ("partitions", "doubles_after", 1),
        ("growth", "doubles", 1),
        ("growth", "failed", 1),
    ):
        wrong = copy.deepcopy(figures)
        wrong[kind][0][key] = value
        assert len(_failures(wrong)) == 1


def test_all_clients_of_a_dead_node_have_a_place_also_where_most_nodes_are_full() -> None:
    found = herd(12, 100, (0.95, 1.2), seed=3)
    assert found["placed"] == 100 and found["hops"]["max"] > 1 and found["fullest"] <= 1.0


def test_a_partition_leaves_one_publisher_of_each_name_and_one_of_each_publishers_of_it() -> None:
    found = partition(12, 4, 24, 6, 8.0, seed=5)
    assert found["doubles_at_the_end"] > 0, "there is something to decide"
    assert (found["doubles_after"], found["orphans_after"]) == (0, 0)
    assert found["agreed_after"] == found["names_after"] == 24 + 6
    assert found["ended"] >= found["doubles_at_the_end"]


def test_the_rule_of_two_choices_spreads_a_drain_better_than_that_of_the_emptiest() -> None:
    spread = {rule: drain(20, 2, 20, rule, seed=1) for rule in RULES}
    assert all(one["placed"] == 40 for one in spread.values())
    assert spread["two choices"]["max_over_mean"] < spread["the emptiest"]["max_over_mean"]
    assert spread["two choices"]["hops"]["mean"] <= spread["the emptiest"]["hops"]["mean"]


def test_publishers_of_nodes_that_die_go_on_elsewhere_under_their_names() -> None:
    found = growth(10, 100, 10.0, seed=2)
    assert found["resumed"] > 0 and (found["failed"], found["doubles"]) == (0, 0)
    assert found["per_s"]["nodes written"] == pytest.approx(10, rel=0.1), "a node writes once a second, whatever it carries"


def test_a_seed_decides_everything() -> None:
    assert growth(6, 20, 5.0, seed=7) == growth(6, 20, 5.0, seed=7)
    assert growth(6, 20, 5.0, seed=7) != growth(6, 20, 5.0, seed=8)


def test_virtual_time_passes_where_all_wait_and_a_wait_for_nothing_is_told() -> None:
    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        seen = [loop.time()]
        await asyncio.gather(asyncio.sleep(3600), asyncio.sleep(10))
        return [*seen, loop.time()]

    began, ended = run_virtually(main())
    assert 3600 <= ended - began < 3600.1
    with pytest.raises(RuntimeError, match="nobody does"):
        run_virtually(asyncio.wait_for(asyncio.Event().wait(), None))
