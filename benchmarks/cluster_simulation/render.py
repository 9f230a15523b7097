"""The section on the simulated cluster: tables and a picture, from its figures alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.cluster_growth.model import PACKETS_PER_S
from benchmarks.harness.plots import numbers, picture
from benchmarks.harness.run import Headline
from benchmarks.harness.sections import Figures
from benchmarks.harness.tables import table, verdict

__all__ = ["draw", "headlines", "render"]

_KINDS = ("nodes written", "nodes read", "names written", "names read")


def render(figures: Figures) -> str:
    """The section's text, from its figures alone."""
    told = figures["conditions"]
    (bus_low, bus_high), (client_low, client_high) = told["bus_ms"], told["client_ms"]
    intro = (
        f"Virtual time, seed {figures['seed']}: membership, placement, claims and leases are the server's own code; networks and machines "
        f"are assumed. One way to the bus takes {bus_low:g} to {bus_high:g} ms, one way between a client and a node {client_low:g} to "
        f"{client_high:g} ms, and a node takes one hello after the other, {told['hello_ms']:g} ms each. A node renews its entry every "
        f"{told['renew_s']:g} s and is taken for dead {told['ttl_s']:g} s after the last time. A hop is a node that a client asks."
    )
    return "\n\n".join([intro, verdict(figures["failures"]), *_herds(figures), *_drains(figures), *_partitions(figures), *_growth(figures)])


def _herds(figures: Figures) -> list[str]:
    told = figures["conditions"]
    low, high = (100 * one for one in told["full"])
    rows = [
        [
            one["nodes"],
            one["clients"],
            one["spare"],
            one["placed"],
            *(one["after_s"][part] for part in ("p50", "p99", "max")),
            one["hops"]["mean"],
            f"{one['hops']['max']:.0f}",
            one["arrived_max_over_mean"],
        ]
        for one in figures["herds"]
    ]
    return [
        f"**A herd.** A node dies, and all its listeners go to the addresses that they were told, at the same moment. The other nodes have "
        f"{told['listeners']} places each, and {low:g} to {high:g}% of them are taken (those at 100% or more are full, and send on).",
        table(
            [
                "nodes",
                "clients",
                "places free",
                "placed",
                "after, s, p50",
                "p99",
                "last",
                "hops, mean",
                "most",
                "arrivals at a node, most / mean",
            ],
            rows,
        ),
        "![How soon a herd is placed, and what the stores carry](cluster_simulation.png)",
    ]


def _drains(figures: Figures) -> list[str]:
    first = figures["drains"][0]
    rows = [
        [one["rule"], one["placed"], one["hops"]["mean"], f"{one['hops']['max']:.0f}", one["max_over_mean"], f"{100 * one['fullest']:.0f}%"]
        for one in figures["drains"]
    ]
    return [
        f"**Placement.** {first['draining']} of {first['nodes']} nodes, all half full, drain at once; each sends its publishers, "
        f"{first['publishers']} in all, to other nodes by what it knows of them. Two choices: the emptier of two that are drawn, as the "
        "server does. The other rules are there to compare with.",
        table(["rule", "placed", "hops, mean", "most", "publishers at a node, most / mean", "fullest node"], rows),
    ]


def _partitions(figures: Figures) -> list[str]:
    first = figures["partitions"][0]
    rows = [
        [
            f"{one['lasts_s']:g} s",
            one["contested"],
            one["begun"].get("taken", 0),
            one["begun"].get("without the bus", 0),
            one["doubles_at_the_end"],
            one["doubles_after"],
            one["ended"],
            one["resolved_s"],
            f"{one['agreed_after']} of {one['names_after']}",
        ]
        for one in figures["partitions"]
    ]
    return [
        f"**A partition.** {first['cut']} of {first['nodes']} nodes lose the bus, not their clients. A third of the contested names "
        "are published there already, a third on the other side, and a third are new on both. Publishers want them on both sides, and try "
        "again.",
        table(
            [
                *("lasts", "contested names", "begun with the bus", "without", "two publishers at its end", "after it", "streams ended"),
                *("resolved after, s", "names whose one publisher has the claim"),
            ],
            rows,
        ),
    ]


def _growth(figures: Figures) -> list[str]:
    rows = []
    for one in figures["growth"]:
        per_s, resumed = one["per_s"], one["resumed_s"]
        rows.append(
            [
                one["streams"],
                *(per_s.get(kind, 0.0) for kind in _KINDS),
                per_s.get("nodes written", 0.0) * one["nodes"],
                PACKETS_PER_S * one["streams"],
                one["streams"],
                one["resumed"],
                *((None, None) if resumed is None else (resumed["p50"], resumed["max"])),
                None if one["hops"] is None else one["hops"]["mean"],
                one["max_over_mean"],
            ]
        )
    first = figures["growth"][0]
    return [
        f"**Growth.** {first['nodes']} nodes; a stream lasts ten minutes on average, and as many begin as end; in {first['seconds']:g} s "
        f"{first['deaths']} nodes die and others join. All are per second, by kind. The renewals are heard by every node. Audio and "
        "snapshots are computed, not simulated: packets of 80 ms of streams that one other node listens to, and one snapshot a second "
        "with `--replicate`.",
        table(
            [
                *("streams", *_KINDS, "renewals heard", "audio messages", "snapshots", "publishers of dead nodes"),
                *("go on after, s, p50", "last", "hops, mean", "publishers at a node, most / mean"),
            ],
            rows,
        ),
    ]


def headlines(figures: Figures) -> list[Headline]:
    """What the report may open with."""
    last = figures["herds"][-1]
    return [
        Headline(
            f"{last['clients']:,} clients of a dead node placed among {last['nodes']:,} nodes (simulated)",
            f"{last['after_s']['p99']:.2f} s (p99)",
        )
    ]


def draw(figures: Figures, folder: Path) -> None:
    """How soon herds are placed, and the stores' operations by the number of streams."""
    with picture(folder / "cluster_simulation.png", 10, 3.6) as figure:
        left, right = figure.subplots(1, 2)
        for one in figures["herds"]:
            left.plot(numbers(one["times"]), np.linspace(0, 100, len(one["times"])), label=f"{one['nodes']:,} nodes")
        left.set(xlabel="s after the node's death", ylabel="% of its clients placed", xscale="log", ylim=(0, 102))
        left.legend(frameon=False)
        streams = [one["streams"] for one in figures["growth"]]
        for kind, line in zip(_KINDS, ("-", "--", "-", ":"), strict=True):  # a name is read as often as it is written, nearly
            right.plot(streams, numbers([one["per_s"].get(kind) for one in figures["growth"]]), line, marker="o", label=kind)
        right.set(xlabel="streams", ylabel="operations per second", xscale="log", yscale="log")
        right.legend(frameon=False)
