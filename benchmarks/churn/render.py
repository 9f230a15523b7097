"""The section on churn: a table and a picture, from its figures alone."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from pathlib import Path
from typing import Any

from benchmarks.churn.check import FLOAT_WITHIN
from benchmarks.harness.parity import told
from benchmarks.harness.plots import picture
from benchmarks.harness.run import Headline
from benchmarks.harness.sections import Figures
from benchmarks.harness.tables import table, verdict

__all__ = ["draw", "headlines", "render"]


def render(cases: Mapping[str, Figures]) -> str:
    """The section's text; `cases` are the figures of each case by its name."""
    rows: list[tuple[str, list[object]]] = [
        ("time", [f"{case['seconds'] / 60:.1f} min" for case in cases.values()]),
        ("streams, encoders", [case["counts"].get("encode", 0) for case in cases.values()]),
        ("streams, decoders", [case["counts"].get("decode", 0) for case in cases.values()]),
        ("of them flushed / cut off", [f"{c['counts'].get('flushed', 0)} / {c['counts'].get('closed', 0)}" for c in cases.values()]),
        ("fresh starts meanwhile", [case["counts"].get("restarts", 0) for case in cases.values()]),
        ("entries of codes compared", [f"{case['entries']:,}" for case in cases.values()]),
        ("of them differ from encoding alone", [told(case["differing"], case["near_ties"]) for case in cases.values()]),
        ("seconds of decoded audio compared", [f"{case['samples'] / 24_000:,.0f}" for case in cases.values()]),
        (f"largest error of it (at most {FLOAT_WITHIN:g})", [f"{case['max_error']:.1e}" for case in cases.values()]),
        ("memory in use behind the warm-up, MiB", [_memory(case["memory"]) for case in cases.values()]),
        ("its slope, MiB a minute", [_slope(case) for case in cases.values()]),
        ("resident memory, MiB: with freed blocks that glibc keeps", [_memory(case["resident"]) for case in cases.values()]),
        ("streams, rows and waiting steps left at the end", [sum(case["left"].values()) for case in cases.values()]),
        ("streams per step, mean", [f"{case['rows_per_step']:.2f}" for case in cases.values()]),
    ]
    wrong = [f"{name}: {failure}" for name, case in cases.items() for failure in case["failures"]]
    case = next(iter(cases.values()))
    return "\n\n".join(
        [
            f"`{case['model']}`, one worker in process and in real time, with up to {case['live_at_most']} streams: encoders and "
            "decoders of all five bandwidths, in packets of 1, 2, 3, 6 and 25 frames, from exact and primed starts, each for a random "
            "while. What came out of each run is compared with encoding or decoding the same input in one call, in a process of its own. "
            f"Each engine is compared with itself. {verdict(wrong)}",
            table(["", *cases], [[label, *values] for label, values in rows]),
            "![Memory and live streams over time](churn.png)\n",
        ]
    )


def headlines(cases: Mapping[str, Figures]) -> list[Headline]:
    """How many of the codes that streams got differ from what they get alone, and by how much memory grew."""
    return [
        Headline(
            f"streams that come and go on {name}: codes unlike those alone, memory",
            f"{told(case['differing'], case['near_ties'])}, of {case['entries']:,}; {_slope(case)} MiB a minute "
            f"({case['streams']:,} streams within {case['seconds'] / 60:.1f} min)",
            case=name,
        )
        for name, case in cases.items()
    ]


def _memory(memory: Figures) -> str:
    return f"{memory['start_mib']:.0f} to {memory['end_mib']:.0f}"


def _slope(case: Figures) -> str:
    slope = case["memory"]["mib_per_minute"]
    return "too short to say" if slope is None else f"{slope:.2f} (at most {case['mib_per_minute_allowed']:g})"


def draw(cases: Mapping[str, Figures], folder: Path) -> None:
    """Memory, in use and resident, and live streams over time."""
    with picture(folder / "churn.png", 12, 5.4) as figure:
        _draw(figure, cases)


def _draw(figure: Any, cases: Mapping[str, Figures]) -> None:
    memory_axes, live_axes = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    for (name, case), colour in zip(cases.items(), cycle(f"C{i}" for i in range(10)), strict=False):
        course = case["course"]
        memory_axes.plot(course["seconds"], course["rss_mib"], color=colour, lw=0.8, alpha=0.6, label=f"{name}, resident")
        memory_axes.plot(course["seconds"], course["allocated_mib"], color=colour, lw=1.4, label=f"{name}, in use")
        live_axes.plot(course["seconds"], course["live"], color=colour, lw=0.8)
        if case["memory"]["from_s"] is not None:
            memory_axes.axvline(case["memory"]["from_s"], color="0.8", lw=0.8, zorder=0)
    memory_axes.set(title="memory of the worker's process; watched from the line on", ylabel="MiB")
    memory_axes.set_ylim(bottom=0)
    memory_axes.legend(fontsize=8, frameon=False)
    live_axes.set(ylabel="live streams", xlabel="s")
    live_axes.set_ylim(bottom=0)
