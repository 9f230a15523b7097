"""The declaration: which scenarios are run, with how many nodes, clients and streams."""

from __future__ import annotations

import argparse

from benchmarks.cluster_simulation.render import draw, headlines, render
from benchmarks.cluster_simulation.scenarios import RULES, drain, growth, herd, partition
from benchmarks.cluster_simulation.world import Assumptions
from benchmarks.harness.machine import Observed
from benchmarks.harness.run import Benchmark
from benchmarks.harness.sections import Figures
from streamcodec.server.cluster.membership import NODE_TTL_S, RENEW_EVERY_S

__all__ = ["BENCHMARK"]

_FULL = (0.7, 1.05)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    add = parser.add_argument
    add("--nodes", type=int, nargs="+", default=[10, 100, 1000], help="for the herd; the last one for all else")
    add("--clients", type=int, default=10_000, help="listeners of the node that dies")
    add("--streams", type=int, nargs="+", default=[10, 1000, 100_000])
    add("--contested", type=int, default=200, help="names that are wanted on both sides of a partition, of each of three kinds")
    add("--partition-s", type=float, nargs="+", default=[2.0, 12.0, 60.0])
    add("--seconds", type=float, default=30.0, help="of streams that come and go (virtual)")
    add("--seed", type=int, default=0)


def measure(args: argparse.Namespace, observed: Observed) -> Figures:
    """Run all scenarios."""
    nodes, seed = args.nodes[-1], args.seed
    with observed:
        herds = [herd(many, args.clients, _FULL, seed) for many in args.nodes]
        drains = [drain(nodes, max(1, nodes // 10), 50, rule, seed) for rule in RULES]
        cut = max(1, 3 * nodes // 10)
        partitions = [partition(nodes, cut, 4 * args.contested, args.contested, lasts, seed) for lasts in args.partition_s]
        grown = [growth(nodes, streams, args.seconds, seed) for streams in args.streams]
    figures = {"herds": herds, "drains": drains, "partitions": partitions, "growth": grown}
    conditions = Assumptions()
    return {
        **figures,
        "conditions": {
            "bus_ms": [1000 * one for one in conditions.bus_s],
            "client_ms": [1000 * one for one in conditions.client_s],
            "hello_ms": 1000 * conditions.hello_s,
            "listeners": conditions.listeners,
            "ttl_s": NODE_TTL_S,
            "renew_s": RENEW_EVERY_S,
            "full": list(_FULL),
        },
        "seed": seed,
        "failures": [*_failures(figures)],
    }


def _failures(figures: Figures) -> list[str]:
    found = []
    for one in figures["herds"]:
        if one["placed"] != min(one["clients"], one["spare"]):
            found.append(f"a herd at {one['nodes']} nodes: {one['clients'] - one['placed']} clients have no place")
    for one in figures["partitions"]:
        if one["doubles_after"] or one["agreed_after"] != one["names_after"]:
            found.append(f"after a partition of {one['lasts_s']:g} s: {one['doubles_after']} names with two publishers")
    for one in figures["growth"]:
        if one["doubles"] or one["failed"]:
            found.append(f"at {one['streams']} streams: {one['doubles']} names with two publishers, {one['failed']} publishers lost")
    return found


BENCHMARK = Benchmark(
    name="cluster_simulation",
    title="A thousand nodes, simulated",
    question="Where do clients go, who has which name, and what does the bus carry, when nodes of a large cluster die and part?",
    options=add_options,
    measure=measure,
    render=render,
    draw=draw,
    headlines=headlines,
    embedded=False,
)
