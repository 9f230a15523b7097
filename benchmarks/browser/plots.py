"""The picture of `benchmarks.browser`: the codec's time and the page's memory as the minutes go by."""

from __future__ import annotations

from pathlib import Path

from benchmarks.browser.render import AIM_BOTH_MS
from benchmarks.harness.plots import picture
from benchmarks.harness.sections import Figures

__all__ = ["draw"]

_COLOURS = {"speech": "tab:blue", "silence": "tab:orange"}


def draw(figures: Figures, folder: Path) -> None:
    """The picture, where the steps were measured."""
    if "steps" not in figures:
        return
    steps = figures["steps"]
    with picture(folder / "browser.png", 9, 5) as figure:
        times, memory = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1.2))
        for line in steps["series"]:
            colour = _COLOURS[line["signal"]]
            times.plot(line["minutes"], line["p50"], ".-", color=colour, label=f"{line['signal']}, median")
            times.plot(line["minutes"], line["p99"], ".:", color=colour, label=f"{line['signal']}, 99th percentile")
        times.axhline(AIM_BOTH_MS, color="tab:red", lw=0.8)
        times.set_title("80 ms encoded and decoded by the page's codec in Chromium, one processor", fontsize=10)
        times.set(ylabel="ms", ylim=(0, None))
        times.legend(fontsize=8, ncols=2)
        private = [look["private_mib"] for look in steps["memory"]]
        memory.plot([look["at_s"] / 60 for look in steps["memory"]], private, color="0.3")
        memory.set(xlabel="minutes (red: the aim for the 99th percentile)", ylabel="memory, MiB", ylim=(0, 1.2 * max(private)))
        for axes in (times, memory):
            axes.grid(alpha=0.3)
