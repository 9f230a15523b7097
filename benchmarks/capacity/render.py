"""The section on capacity: tables and pictures of all cases that were measured, from their figures alone."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness.plots import numbers, picture
from benchmarks.harness.run import Headline
from benchmarks.harness.sections import Figures
from benchmarks.harness.tables import milliseconds, table

__all__ = ["draw", "headlines", "render"]

Cases = Mapping[str, Figures]

_USUAL_MS = 80


def render(cases: Cases) -> str:
    """The section's text; `cases` are the figures of each case by its name."""
    limit = next(iter(cases.values()))["limit_ms"]
    parts = [
        "Publishers of speech in real time, each with a phase of its own. A packet falls due when its last sample is captured; it is late "
        "by the time from there until its codes are out: in process, at the sink of the worker's stream; through WebSockets, parsed by a "
        "listener, one for each stream, in the load's process on the same cores. Growth adds publishers until the 99th percentile "
        f"of a step's packets reaches {limit:g} ms or one is dropped, however often the step is tried; then a count is held, and a step "
        "fewer if those are late over the longer time. *Cores* are those of the model's "
        "process: in process with the thread that hands the packets over, else the server's, all of them where it has several (`serve "
        "--processes`). *Handed over* is how late the load itself "
        "was: it is part of the lateness.",
        table(
            [
                "",
                "packets",
                "grown to",
                "held",
                "for",
                "p50 ms",
                "p95",
                "p99",
                "max",
                "dropped",
                f"p99 < {limit:g}",
                "cores",
                "load's cores",
            ],
            [[name, *_held(case)] for name, case in cases.items()],
        ),
        *_too_many(cases),
        table(
            ["the held, further", "handed over p99 ms", "max", "MiB at the start", "at the end", "PCM p50 ms", "p99", "max"],
            [[name, *_held_further(case)] for name, case in cases.items()],
        ),
        "At 150% of what was held, everybody let in. In process nothing is dropped: what cannot be encoded in time waits. The server drops "
        "the newest messages of a stream that is 1 s behind until half of it is left, tells the listeners with a gap, and begins a new "
        "epoch. Then a third of the publishers and more leave, bringing out what they said, until 75% are there: *back after* is from "
        f"there until the first second whose packets are in time, 99% within {limit:g} ms and none dropped.",
        table(
            ["150%", "publishers", "for", "p50 ms", "p99", "max", "dropped", "cores", "then publishers", "back after"],
            [[name, *_beyond(case)] for name, case in cases.items()],
        ),
    ]
    admitted = {name: case["admission"] for name, case in cases.items() if case.get("admission")}
    if admitted:
        parts += [
            "The same number at a server with its default limits, which refuses publishers for whom it has no room:",
            table(
                ["150%, refusing", "asked", "accepted", "refused", "p50 ms", "p99", "max", "dropped"],
                [[name, *_admitted(figures)] for name, figures in admitted.items()],
            ),
            *_reasons(admitted),
        ]
    return "\n\n".join([*parts, "![Lateness as publishers come, held, and beyond](capacity.png)"]) + "\n"


def _held(case: Figures) -> list[object]:
    hold = case["hold"]
    seconds = f"{hold['seconds'] / 60:.1f} min" if hold["seconds"] >= 60 else f"{hold['seconds']:.0f} s"
    grown = str(case["grown_to"]) if case["grown_to"] else f"below {case['growth'][0]['streams']}"
    return [
        f"{case['packet_ms']:.3g} ms",
        grown if any(not level["in_time"] for level in case["growth"]) else f"{grown}, not further",
        hold["streams"],
        seconds,
        *milliseconds(hold["late_ms"], "p50", "p95", "p99", "max"),
        hold["dropped"],
        "yes" if case["held"] else "no",
        f"{hold['cores']:.2f}",
        f"{hold['load_cores']:.2f}",
    ]


def _too_many(cases: Cases) -> list[str]:
    told = [
        f"{name}: {one['streams']} (p99 {one['late_ms']['p99']:.0f} ms, {one['dropped']} dropped)"
        for name, case in cases.items()
        for one in case.get("held_too_many", ())
    ]
    return [f"Held before, and too many: {'; '.join(told)}."] if told else []


def _held_further(case: Figures) -> list[object]:
    hold = case["hold"]
    memory = [f"{value:.0f}" for value in hold["rss_mib"]]
    pcm = milliseconds(hold["pcm_late_ms"], "p50", "p99", "max") if "pcm_late_ms" in hold else ["-"] * 3
    return [*milliseconds(hold["handed_over_late_ms"], "p99", "max"), *memory, *pcm]


def _beyond(case: Figures) -> list[object]:
    over, recovery = case["overload"], case["recovery"]
    back = recovery["back_after_s"]
    return [
        over["streams"],
        f"{over['seconds']:.0f} s",
        *milliseconds(over["late_ms"], "p50", "p99", "max"),
        over["dropped"],
        f"{over['cores']:.2f}",
        recovery["streams"],
        f"not in {recovery['seconds']:.0f} s" if back is None else f"{back:.1f} s",
    ]


def _admitted(figures: Figures) -> list[object]:
    return [
        figures["asked"],
        figures["streams"],
        figures["refused"],
        *milliseconds(figures["late_ms"], "p50", "p99", "max"),
        figures["dropped"],
    ]


def _reasons(admitted: Cases) -> list[str]:
    told = [
        f'- {name}: {reason["count"]} x `{code}`, the first: "{reason["first"]}".'
        for name, figures in admitted.items()
        for code, reason in figures["reasons"].items()
    ]
    return ["Why, in the server's words:\n\n" + "\n".join(told)] if told else []


def headlines(cases: Cases) -> list[Headline]:
    """The publishers through WebSockets that were held in time, where nobody listens to PCM."""
    return [
        Headline(
            f"live publishers through WebSockets, {case['model']}{_apart(case)}, p99 lateness < {case['limit_ms']:g} ms, "
            f"{case['threads']} thread(s)",
            f"{case['hold']['streams']} ({case['precision']}, p99 {case['hold']['late_ms']['p99']:.0f} ms)",
            case=name,
        )
        for name, case in cases.items()
        if case["way"] == "WebSockets" and case["held"] and not case["pcm_listeners"]
    ]


def _apart(case: Figures) -> str:
    """What a case has that is not as usual: packets of another length, several processes."""
    packets = "" if round(case["packet_ms"]) == _USUAL_MS else f", packets of {case['packet_ms']:.0f} ms"
    return packets + (f", {case['processes']} processes" if case.get("processes", 1) > 1 else "")


# Drawing -----------------------------------------------------------------------------------------------------------------------------


def draw(cases: Cases, folder: Path) -> None:
    """Lateness and cores against publishers while they come, the distribution of the holds, and the course through hold and overload."""
    with picture(folder / "capacity.png", 13, 8.6) as figure:
        _draw(figure, cases)


def _draw(figure: Any, cases: Cases) -> None:
    from matplotlib.ticker import FuncFormatter

    (growth, cost), (held, course) = figure.subplots(2, 2)
    limit = next(iter(cases.values()))["limit_ms"]
    for (name, case), colour in zip(cases.items(), cycle(f"C{i}" for i in range(10)), strict=False):
        levels = list({level["streams"]: level for level in case["growth"]}.values())  # of several tries the last
        streams = [level["streams"] for level in levels]
        growth.plot(streams, [level["p99_ms"] for level in levels], ".-", color=colour, lw=1.2, label=name)
        cost.plot(streams, [1000 * level["cores"] / level["streams"] for level in levels], ".-", color=colour, lw=1.2, label=name)
        values = case["hold_distribution_ms"]
        held.plot(values, np.linspace(0, 100, len(values)), color=colour, lw=1.2, label=f"{name}: {case['hold']['streams']}")
        _draw_course(course, case, colour, name)
    growth.set(title="while publishers come: 99th percentile of lateness", xlabel="publishers", ylabel="ms", yscale="log")
    cost.set(title="what one publisher costs", xlabel="publishers", ylabel="thousandths of a core", yscale="log")
    held.set(title="held: distribution of lateness", xlabel="ms", ylabel="% of packets within", ylim=(0, 100), xlim=(0, 1.5 * limit))
    course.set(
        title="held, 150% from 0 s on, 75% from the mark on: 99th percentile",
        xlabel="s since the load grew to 150%",
        ylabel="ms",
        yscale="log",
    )
    for axes in (growth, course):
        axes.axhline(limit, color="tab:red", lw=0.8)
    for axes in (growth, cost, course):
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else ""))
    held.axvline(limit, color="tab:red", lw=0.8)
    for axes in (growth, cost, held, course):
        axes.legend(fontsize=7, frameon=False)


def _draw_course(axes: Any, case: Figures, colour: str, name: str) -> None:
    over = case["over_time"]
    p99 = numbers(over["p99"])
    seconds = np.arange(len(p99)) + 0.5 - over["overload_at"]
    shown = seconds > -30
    axes.plot(seconds[shown], p99[shown], color=colour, lw=1.2, label=name)
    fall = over["recovery_at"] - over["overload_at"]
    axes.plot([fall], [np.interp(fall, seconds, np.nan_to_num(p99))], "v", color=colour, ms=6)
