"""The section on growth: tables and a picture, from its figures alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from benchmarks.cluster_growth.model import breaks_first
from benchmarks.harness.plots import numbers, picture
from benchmarks.harness.run import Headline
from benchmarks.harness.sections import Figures
from benchmarks.harness.tables import table

__all__ = ["draw", "headlines", "render"]


def render(figures: Figures) -> str:
    """The section's text."""
    room, sizes, bounds, copies = figures["room"], figures["sizes"], figures["bounds"], figures["copy_bytes"]
    intro = (
        f"A model, fed with what this machine has measured. A node holds {room['publishers']} live publishers of PCM, or "
        f"{room['listeners']:,} listeners of codes, or some of both. Listeners of a stream come to any node. A packet of 80 ms at "
        f"{figures['kbps']:g} kbps has {sizes['packet_in']} bytes on its way to NATS and {sizes['packet_out']} from it. A stream lasts "
        f"{figures['life_s']:g} s. A stream's copy (`--replicate`) has {copies:,} bytes."
    )
    return "\n\n".join([intro, *_costs(figures), *_loads(figures, bounds), *_regions(figures)])


def _costs(figures: Figures) -> list[str]:
    costs = figures["costs"]
    lost = sum(run.get("lost", 0) for run in figures["runs"])
    paces = ", ".join(
        f"{run['per_s']:,} " + (f"messages to {run['takers']}" if "takers" in run else f"writes of {run['bytes']:,} bytes")
        for run in figures["runs"]
    )
    return [
        f"**What one costs**, processor time in us, measured at an even pace: {paces} a second; {lost} were lost.",
        table(
            ["", "a node", "NATS"],
            [
                ["a message that is sent", costs["send_us"], costs["nats_in_us"]],
                ["a message that is taken", costs["take_us"], costs["nats_out_us"]],
                ["a write", costs["write_us"], costs["nats_write_us"]],
                ["the write of a stream's copy", None, costs["nats_copy_us"]],
            ],
        ),
    ]


def _loads(figures: Figures, bounds: Figures) -> list[str]:
    loads = figures["loads"]
    return [
        "**What a node has**, per second. *Followed* is at how many other nodes a stream is heard. *Bus* is what the node sends to "
        "NATS and takes from it; *cores* is the part of one core that the bus takes there.",
        table(
            [
                *("streams x listeners", "nodes", "followed", "packets in", "to listeners", "bus out", "bus in", "renewals heard"),
                *("Mbit/s", "cores"),
            ],
            [
                [
                    *(_name(one), f"{one['nodes']:,}", one["followed"], one["node_packets_in"], _many(one["node_packets_to_listeners"])),
                    *(
                        one["node_bus_out"],
                        _many(one["node_bus_in"]),
                        _many(one["node_renewals"]),
                        one["node_bits"] / 1e6,
                        one["node_cores"],
                    ),
                ]
                for one in loads
            ],
        ),
        f"**What NATS has**, per second. *Breaks first* is what uses most of its bound, and how much of it: {bounds['node_cores']:g} of a "
        f"core for the bus at a node, one NATS server with {bounds['nats_cores']:g} cores and {bounds['nats_bits_per_s'] / 1e9:g} Gbit/s. "
        "With more than 1 the bound is passed.",
        table(
            [
                *("streams x listeners", "subscriptions", "messages in and out", "Gbit/s out", "cores", "writes"),
                *("writes with `--replicate`", "Gbit/s of copies", "breaks first", "of its bound", "without `--replicate`", "of its bound"),
            ],
            [
                [
                    *(_name(one), _many(one["subscriptions"]), _many(one["nats_messages"]), one["nats_bits"] / 1e9, one["nats_cores"]),
                    *(_many(one["writes"]), _many(one["writes"] + one["copies"]), one["copy_bits"] / 1e9),
                    *_first(one["used"]),
                    *_first({what: share for what, share in one["used"].items() if "replicate" not in what}),
                ]
                for one in loads
            ],
        ),
        "![What the bus carries](cluster_growth.png)",
    ]


def _regions(figures: Figures) -> list[str]:
    regions = figures["regions"]
    return [
        f"**Between {regions[0]['regions']} regions**, each with as many publishers, listeners and nodes: all nodes at one NATS, or a leaf "
        "node of NATS in each region, which takes a packet once for all nodes behind it.",
        table(
            ["streams x listeners", "one NATS, Mbit/s between regions", "leaf nodes, Mbit/s"],
            [[_name(one), one["one_bus_bits"] / 1e6, one["leaf_bits"] / 1e6] for one in regions],
        ),
    ]


def _first(used: Mapping[str, float]) -> tuple[str, float]:
    what = breaks_first(used)
    return what, used[what]


def _name(one: Figures) -> str:
    return f"{one['streams']:,} x {one['listeners']:,}"


def _many(count: float) -> str | float:
    """A large number with its thousands set apart."""
    return f"{count:,.0f}" if count >= 100 else count


def headlines(figures: Figures) -> list[Headline]:
    """The largest load that passes no bound."""
    fitting = [one for one in figures["loads"] if max(one["used"].values()) <= 1.0]
    if not fitting:
        return []
    most = max(fitting, key=lambda one: one["streams"] * one["listeners"])
    what, share = _first(most["used"])
    return [Headline(f"{_name(most)} listeners (a model): what breaks first, and how much of its bound is used", f"{what}, {share:.0%}")]


def draw(figures: Figures, folder: Path) -> None:
    """How much of each bound is used, by the number of streams, for each number of listeners."""
    loads = figures["loads"]
    counts = sorted({one["listeners"] for one in loads})
    with picture(folder / "cluster_growth.png", 4 * len(counts), 4.2) as figure:
        for axes, listeners in zip(figure.subplots(1, len(counts), sharey=True, squeeze=False)[0], counts, strict=True):
            rows = [one for one in loads if one["listeners"] == listeners]
            for what in rows[0]["used"]:
                axes.plot([one["streams"] for one in rows], numbers([one["used"][what] for one in rows]), marker="o", label=what)
            axes.axhline(1.0, color="black", lw=0.8, ls="--")
            axes.set(xlabel=f"streams, {listeners:,} listeners each", xscale="log", yscale="log")
        figure.axes[0].set_ylabel("part of the bound")
        figure.axes[0].legend(frameon=False, fontsize=7)
