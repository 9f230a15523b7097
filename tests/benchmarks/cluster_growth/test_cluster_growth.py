"""The model of growth on numbers that can be counted by hand, and a tiny run of the benchmark that feeds it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_benchmark import files_of, run_tiny

from benchmarks.cluster_growth.benchmark import BENCHMARK
from benchmarks.cluster_growth.model import PACKETS_PER_S, Bounds, ClusterLoad, Costs, Room, Sizes, breaks_first, grow, part
from benchmarks.report import benchmark

TINY = [
    *("--streams", "4", "100", "--listeners", "1", "10", "--messages-per-s", "100", "--writes-per-s", "50", "--copies-per-s", "50"),
    *("--seconds", "0.2", "--copies", "4"),
]
SIZES = Sizes(packet_in=100, packet_out=200, record_out=1000, copy_in=10_000)
COSTS = Costs(send_us=10, take_us=20, write_us=30, nats_in_us=1, nats_out_us=2, nats_write_us=3, nats_copy_us=400)


ROOM = Room(10, 100)


def load(streams: int, listeners: int, room: Room = ROOM, costs: Costs = COSTS) -> ClusterLoad:
    return grow(streams, listeners, 600.0, room, SIZES, costs, Bounds(nats_bits_per_s=1e15))


def test_nodes_have_room_for_publishers_and_listeners_together() -> None:
    assert load(100, 1).nodes == 11  # 100 / 10 publishers, 100 / 100 listeners
    assert load(100, 10).nodes == 20
    assert load(1, 1).nodes == 2, "a cluster has two nodes at least"


def test_one_listener_is_at_another_node_as_often_as_chance_has_it() -> None:
    found = load(100, 1)
    assert found.followed == pytest.approx(1 - 1 / 11)
    assert found.node_bus_out == pytest.approx(PACKETS_PER_S * 100 * (1 - 1 / 11) / 11)
    assert found.node_bus_out == pytest.approx(found.node_bus_in), "each packet that is sent is taken by one node"
    assert found.node_packets_in == pytest.approx(found.node_packets_to_listeners)


def test_with_many_listeners_every_node_follows_every_stream_and_nats_carries_each_packet_once_to_each() -> None:
    found = load(100, 10_000, Room(10, 100_000))
    assert found.nodes == 20
    assert found.followed == pytest.approx(19)
    assert found.node_bus_in == pytest.approx(PACKETS_PER_S * 100 * 19 / 20)
    assert found.subscriptions == pytest.approx(100 * 19 + 100 * 20 + 2 * 20)


def test_renewals_grow_with_the_square_of_the_nodes_and_break_first_where_there_are_very_many() -> None:
    small, large = load(10_000, 1), load(100_000, 1)
    assert large.nodes == 10 * small.nodes
    free = replace(COSTS, nats_copy_us=0.0, send_us=0.0, take_us=0.0, write_us=0.0)
    renewals = "NATS: renewals that all nodes hear"
    assert large.used[renewals] == pytest.approx(100 * small.used[renewals])
    assert breaks_first(load(1_000_000, 1, costs=free).used) == renewals


def test_copies_break_first_where_they_cost_most() -> None:
    assert breaks_first(load(1000, 1, costs=replace(COSTS, nats_copy_us=1e6)).used) == "NATS: copies (`--replicate`)"
    assert load(1000, 1).copy_bits == pytest.approx(8 * 1000 * 10_000)


def test_writes_are_the_renewals_of_nodes_and_the_ends_of_streams_whatever_is_heard() -> None:
    assert load(6000, 1).writes == pytest.approx(load(6000, 1).nodes + 2 * 6000 / 600)
    assert load(6000, 1).writes - load(6000, 1).nodes == load(6000, 100).writes - load(6000, 100).nodes


def test_a_leaf_node_takes_a_packet_once_for_its_region() -> None:
    followed = load(100, 10_000, Room(10, 100_000)).followed
    found = part(100, 10_000, followed, 4, SIZES)
    assert found.leaf_bits == pytest.approx(8 * PACKETS_PER_S * 100 * 3 * SIZES.packet_out)
    assert found.one_bus_bits == pytest.approx(8 * PACKETS_PER_S * 100 * 19 * 0.75 * SIZES.packet_out)


@pytest.fixture(scope="module")
def section(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    out = tmp_path_factory.mktemp("out")
    return run_tiny("cluster_growth", TINY, out, here=True), out


def test_a_tiny_run_measures_costs_and_sizes_and_tells_each_load(section: tuple[dict[str, Any], Path]) -> None:
    stored, out = section
    figures = stored["figures"]
    assert files_of(out) == {"cluster_growth.json", "cluster_growth.md", "cluster_growth.png"}
    assert [(one["streams"], one["listeners"]) for one in figures["loads"]] == [(4, 1), (4, 10), (100, 1), (100, 10)]
    assert [run["count"] for run in figures["runs"]] == [20, 20, 10, 10]
    assert figures["sizes"]["packet_in"] > 60, "eight codebooks of six frames"
    assert figures["copy_bytes"] > 500, "the states of a small model"


def test_the_headline_is_the_largest_load_within_all_bounds() -> None:
    loads = [{"streams": 10, "listeners": count, "used": {"audio": count / 10, "copies": 0.25}} for count in (1, 10, 11)]
    [headline] = BENCHMARK.headlines({"loads": loads})
    assert (headline.what.split(" (")[0], headline.ours) == ("10 x 10 listeners", "audio, 100%")
    assert not BENCHMARK.headlines({"loads": loads[2:]})


def test_takers_that_tell_nothing_apart_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    from benchmarks.harness.run import main

    assert main(benchmark("cluster_growth"), ["--takers", "2", "2"]) == 1
    assert "--takers is 2 2, expected two numbers of which the second is larger" in capsys.readouterr().err
