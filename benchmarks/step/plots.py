"""The pictures of `benchmarks.step`: real time by candidate, and the cost of a stream and the share of the peak against the batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.harness.plots import picture
from benchmarks.harness.sections import Figures
from benchmarks.step.render import batches, candidate_name, main_steps, streams

__all__ = ["draw"]

_COLOURS = {
    ("openvino", "fp32"): "tab:blue",
    ("openvino", "bf16"): "tab:green",
    ("torch", "fp32"): "tab:orange",
    ("onnx", "fp32"): "tab:purple",
}


def draw(figures: Figures, folder: Path) -> None:
    """All pictures of the section."""
    draw_candidates(figures, folder / "step.png")
    draw_batches(figures, folder / "step_batches.png")


def draw_candidates(figures: Figures, path: Path) -> None:
    """Bars: how many times real time, by operation; a thin line reaches to what is left at the 99th percentile."""
    clips = [row for row in figures["rows"] if row["kind"] == "clip"]
    groups = [
        (f"{1000 * figures['frames'] * figures['frame_s']:.0f} ms, {streams(batch)}", main_steps(figures, batch))
        for batch in figures["batches"]
    ]
    groups.append((f"whole clip of {figures['clip_s']:g} s", clips))
    heights = [0.32 * len(rows) / 2 + 0.75 for _, rows in groups]
    with picture(path, 14, 0.6 + sum(heights)) as figure:
        grid = figure.subplots(len(groups), 2, sharex="col", squeeze=False, height_ratios=heights)
        for line, (title, rows) in zip(grid, groups, strict=True):
            for axes, operation in zip(line, ("encode", "decode"), strict=True):
                _bars(axes, [row for row in rows if row["operation"] == operation])
                axes.set_title(f"{operation}, {title}", fontsize=10)
        for axes in grid[-1]:
            axes.set_xlabel("times real time (bar: median; tick: 99th percentile; red: 1)")


def _bars(axes: Any, rows: list[dict[str, Any]]) -> None:
    names = [candidate_name(row).replace("*", "").replace("`", "") for row in rows]
    speed = [row["realtime"] for row in rows]
    slow = [row["realtime"] * row["ms"]["p50"] / row["ms"]["p99"] for row in rows]
    axes.barh(names, speed, color=[_COLOURS[row["engine"], row["precision"]] if row["ours"] else "0.7" for row in rows], height=0.65)
    axes.hlines(names, slow, speed, color="0.15", lw=1)
    axes.plot(slow, names, "|", color="0.15", ms=7)
    for name, value in zip(names, speed, strict=True):
        axes.annotate(f" {value:.1f}x", (value, name), va="center", fontsize=8)
    axes.invert_yaxis()
    axes.axvline(1, color="tab:red", lw=0.8)
    axes.margins(x=0.12)
    axes.tick_params(axis="y", labelsize=8)


def draw_batches(figures: Figures, path: Path) -> None:
    """Lines over the batch: the time that one stream's packet takes, and the share of the peak of its precision."""
    with picture(path, 12, 7) as figure:
        _draw_batches(figure, figures)


def _draw_batches(figure: Any, figures: Figures) -> None:
    from matplotlib.ticker import ScalarFormatter

    grid = figure.subplots(2, 2, sharex=True)
    swept = batches(figures)
    for column, operation in enumerate(("encode", "decode")):
        cost, share = grid[0][column], grid[1][column]
        for precision in sorted({row["precision"] for row in swept}, reverse=True):
            rows = [row for row in swept if (row["operation"], row["precision"]) == (operation, precision)]
            sizes = [row["batch"] for row in rows]
            colour = _COLOURS[rows[0]["engine"], precision]
            cost.plot(sizes, [row["ms"]["p50"] / row["batch"] for row in rows], "o-", color=colour, label=f"ours, {precision}")
            share.plot(sizes, [100 * row["of_peak"] for row in rows], "o-", color=colour, label=f"ours, {precision}")
        for marker, who in (("^", "encodec"), ("s", "transformers"), ("x", "Mimi")):
            rows = [r for r in figures["rows"] if (r["who"], r["kind"], r["operation"]) == (who, "step", operation)]
            if rows:
                per_stream = [row["ms"]["p50"] / row["batch"] for row in rows]
                cost.plot([row["batch"] for row in rows], per_stream, marker, color="0.4", label=who)
        cost.set(title=f"{operation}, full size", yscale="log", ylabel="ms per stream's packet")
        share.set(xscale="log", xlabel="streams per step", ylabel="% of the GEMM peak of its precision", ylim=(0, 100))
        share.set_xticks(sorted({row["batch"] for row in swept}))
        for axes in (cost, share):
            axes.xaxis.set_major_formatter(ScalarFormatter())
            axes.minorticks_off()
            axes.grid(alpha=0.3)
            axes.legend(fontsize=8)
        cost.yaxis.set_major_formatter(ScalarFormatter())
