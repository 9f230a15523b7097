"""The section on a soak: a table and a picture, from its figures alone."""

from __future__ import annotations

from pathlib import Path

from benchmarks.harness.plots import picture
from benchmarks.harness.run import Headline
from benchmarks.harness.sections import Figures
from benchmarks.harness.tables import milliseconds, table, verdict

__all__ = ["draw", "headlines", "render"]


def render(figures: Figures) -> str:
    """The section's text, from its figures alone."""
    growth, slope = figures["growth"], figures["growth"]["mib_per_minute"]
    rows = [
        [what, f"{figures['idle'][name]:.0f}", *(f"{value:.1f}" for value in growth[name]), f"{figures['left'][name]:.0f}"]
        for what, name in (("resident memory, MiB", "rss_mib"), ("descriptors", "descriptors"), ("threads", "threads"))
    ]
    late = ", ".join(milliseconds(figures["late_ms"], "p50", "p99", "max")) if figures["late_ms"] else "-"
    return (
        "\n\n".join(
            [
                f"`{figures['model']}` with default limits for {figures['minutes']:g} min: {figures['streams_at_a_time']} live publishers, "
                f"where the server says that it has room for {figures['room']}, each of PCM and with a listener of codes. A stream lives "
                f"for {figures['mean_life_s']:g} s on average, and another takes its place: {figures['streams']:,} in all. "
                f"{verdict(figures['failures'])}",
                f"{figures['packets']:,} packets came, {figures['lost']} were lost, and gaps named {figures['told']}. From a packet's last "
                f"sample to its listener, p50, p99 and largest: {late} ms. The server used {figures['cores']:.2f} cores.",
                table(["", "before anybody came", "behind the warm-up", "at the end", "when all had left"], rows),
                "Behind the warm-up and at the end: means of a tenth of the time between. Memory's slope: "
                + ("too short to tell." if slope is None else f"{slope:.3f} MiB a minute."),
                "![Memory, descriptors and threads over time](soak.png)",
            ]
        )
        + "\n"
    )


def draw(figures: Figures, folder: Path) -> None:
    """Memory, descriptors and threads over time."""
    course = figures["course"]
    minutes = [seconds / 60 for seconds in course["seconds"]]
    with picture(folder / "soak.png", 13, 3.6) as figure:
        names = (("rss_mib", "resident memory, MiB"), ("descriptors", "descriptors"), ("threads", "threads"))
        for axes, (name, title) in zip(figure.subplots(1, 3), names, strict=True):
            axes.plot(minutes, course[name], lw=1.0)
            axes.set(title=title, xlabel="min")
            axes.set_ylim(bottom=0)


def headlines(figures: Figures) -> list[Headline]:
    """How many packets were lost, and by how much memory grew."""
    start, end = figures["growth"]["rss_mib"]
    told = f"{figures['lost']} of {figures['packets']:,}, {start:.0f} to {end:.0f} MiB within {figures['minutes']:g} min"
    return [Headline("left running at 70% of its room: packets lost, memory", told)]
