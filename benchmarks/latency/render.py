"""The section on latency: goals, stages, courses and pictures of all cases that were run, from their figures alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness.plots import numbers, picture
from benchmarks.harness.run import Headline
from benchmarks.harness.sections import Figures
from benchmarks.harness.tables import milliseconds, table
from benchmarks.latency.figures import AGAIN_WITHIN_MS, STAGES

__all__ = ["draw", "headlines", "render"]

Cases = Mapping[str, Figures]

_SPREAD = ("p50", "p95", "p99", "max")


def render(cases: Cases) -> str:
    """The section's text; `cases` are the figures of each case by its name."""
    goals = [
        [name, goal["goal"], _amount(goal["found"], goal["unit"]), _amount(goal["most"], goal["unit"]), "yes" if goal["met"] else "**no**"]
        for name, case in cases.items()
        for goal in case["goals"]
    ]
    withheld = max(ear["withheld_ms"] for _, ear, _ in _ears(cases))
    missed = sum(not goal["met"] for case in cases.values() for goal in case["goals"])
    verdict = "Every goal is met." if not missed else f"{missed} of {len(goals)} goals are missed."
    parts = [
        "A packet's way: *capture* from when its last sample is due until the microphone's program offers it, *uplink* until the server "
        "has it, *queue* until a step takes it, *encode* the step, *downlink* sending and receiving, *decode* until its samples exist, "
        "*playout* until the device is handed its first sample. *Added* is all of that without the playout's target, which holds the "
        "device's block of 5 ms as well. The device is simulated: a thread that pulls such blocks. Delay is *back* with the first whole "
        f"second in which no packet is more than {AGAIN_WITHIN_MS:g} ms further behind its target than the median was before the "
        f"disturbance, counted from its end. {verdict}",
        _networks(cases),
        f"Of *added*, the resampler in front of the device withholds {withheld:g} ms all the time.",
        table(["case", "goal", "found", "at most", "met"], goals),
        "\n".join(f"- `{name}`: {case['about']}{_network(case)}" for name, case in cases.items()),
        "What listeners felt. *Missing* packets were never received, *told* are those that gaps named; *left out* were received and jumped "
        "over; *shorter* and *longer* is what was taken out or put in without a change of pitch; *silence* is the longest between two "
        "packets' sounds; *broken* is how often a connection was lost or could not be made and the program had to try again, *resumed* how "
        "often the client library did so by itself.",
        table(
            [
                "",
                "packets",
                "missing",
                "told",
                "left out",
                "underruns",
                "jumps",
                "dropped s",
                "shorter s",
                "longer s",
                "silence s",
                "broken",
                "resumed",
            ],
            [[label, *_felt(ear)] for label, ear, _ in _ears(cases)],
        ),
        "Stage by stage: p50 / p95 / p99 / max in ms.",
        table(
            ["", *STAGES, "target", "added", "until decoded"],
            [
                [label, *(_spread(ear["stages_ms"][stage]) for stage in (*STAGES, "target", "added", "decoded"))]
                for label, ear, _ in _ears(cases)
            ],
        ),
    ]
    runs = [(name, case, run) for name, case in cases.items() for run in case["runs"].values()]
    if compressed := [(name, played) for name, _, run in runs for played in run.get("compressed", [])]:
        parts += [
            "Drift in made-up time, the playout alone:",
            table(
                ["", "minutes", "delay at the start ms", "at the end", "most", "target ms", "steering ppm", "underruns", "jumps"],
                [[f"{name}, {played['drift_ppm']:+g} ppm", *_drifted(played)] for name, played in compressed],
            ),
        ]
    for name, case, run in runs:
        if "quality_db" in run:
            parts += _quality(name, case, run)
    pictures = ["![Delay: distribution, and over time in each case](latency.png)"]
    if any("quality_db" in run for *_, run in runs):
        pictures.append("![Bandwidth, delay and quality on a link that shrinks](latency_shrink.png)")
    return "\n\n".join([*parts, *pictures]) + "\n"


def _networks(cases: Cases) -> str:
    proxied = "a TCP proxy in the clients' process, on loopback, which delays, narrows, holds up and cuts what passes"
    if all(case["network"] == "proxy" for case in cases.values()):
        return f"Every network is {proxied}; none was made by the kernel (`--netns`)."
    return f"Networks are {proxied}, where a case does not say that the kernel made them."


def _network(case: Figures) -> str:
    return " On network namespaces with netem." if case["network"] == "netns" else ""


def _ears(cases: Cases) -> Iterator[tuple[str, Figures, Figures]]:
    for name, case in cases.items():
        for run_name, run in case["runs"].items():
            for ear in run["ears"]:
                words = [name, *([run_name] if run_name != name else []), *([ear["name"]] if ear["name"] != "listener" else [])]
                yield ", ".join(words), ear, run


def _amount(value: float | None, unit: str) -> str:
    if value is None:
        return "never"
    return f"{value:.3g} {unit}".strip()


def _felt(ear: Figures) -> list[object]:
    seconds = [f"{ear[name]:.2f}" for name in ("dropped_s", "shortened_s", "lengthened_s", "longest_silence_s")]
    counts = [ear[name] for name in ("packets", "missing", "told_missing", "left_out", "underruns", "jumps")]
    return [*counts, *seconds, len(ear["broken"]), ear["resumed"]]


def _spread(spread: dict[str, float]) -> str:
    return " / ".join(milliseconds(spread, *_SPREAD))


def _drifted(played: Figures) -> list[object]:
    delays = played["delay_ms"]
    shown = [f"{value:.1f}" for value in (delays[len(delays) // 30], delays[-1], max(delays), played["target_ms"])]
    return [f"{played['minutes']:g}", *shown, f"{played['steering_ppm']:.0f}", played["underruns"], played["jumps"]]


def _quality(name: str, case: Figures, run: Figures) -> list[str]:
    begin, end = case["disturbed"]
    rows = []
    for ear in run["ears"]:
        course, quality = ear["course"], run["quality_db"][ear["name"]]
        during = [at for at, t in enumerate(course["t"]) if begin + 3 <= t < end]
        kbps = [course["kbps"][at] for at in during]
        lags = [course["decoded_ms"][at] for at in during if course["decoded_ms"][at] is not None]
        db = [value for value in quality[int(begin) + 3 : int(end)] if value is not None]
        rows.append(
            [
                ear["name"],
                float(np.median(kbps)) if kbps else None,
                float(np.median(lags)) if lags else None,
                max(lags, default=None),
                f"{np.median(db):.1f}" if db else None,
                f"{min(db):.1f}" if db else None,
            ]
        )
    return [
        f"`{name}` while the link is small, from its third second on; SI-SDR per second against the whole bandwidth decoded without a "
        "network, silence where a packet is missing.",
        table(["", "median kbps", "median ms until decoded", "max", "median SI-SDR dB", "worst"], rows),
    ]


def headlines(cases: Cases) -> list[Headline]:
    """What is added to a packet's own length, and to the playout's target, on a connection without a network."""
    found = []
    for label, ear, run in _ears(cases):
        name = label.split(", ")[0]
        if cases[name]["disturbed"] is None and "compressed" not in run:
            added = ear["stages_ms"]["added"]
            what = f"latency added on loopback, packets of {run['packet_ms']:.0f} ms, p50 / p99"
            found.append(Headline(what, f"{added['p50']:.1f} / {added['p99']:.1f} ms", case=name))
    return found


# Drawing -----------------------------------------------------------------------------------------------------------------------------


def draw(cases: Cases, out: Path) -> None:
    """`latency.png` with a panel for each case and one for the distributions; `latency_shrink.png` where that case was run."""
    panels = 1 + len(cases)
    rows = -(-panels // 3)
    with picture(out / "latency.png", 15, 3.4 * rows, dpi=100) as figure:
        axes = list(figure.subplots(rows, 3, squeeze=False).flat)
        _draw_distributions(axes[0], cases)
        for panel, (name, case) in zip(axes[1:], cases.items(), strict=False):
            _draw_course(panel, name, case)
        for panel in axes[panels:]:
            panel.set_axis_off()
    for name, case in cases.items():
        for run in case["runs"].values():
            if "quality_db" in run:
                with picture(out / "latency_shrink.png", 12, 8, dpi=100) as figure:
                    _draw_shrink(figure, name, case, run)


def _draw_distributions(panel: Any, cases: Cases) -> None:
    calm = [(label, ear) for label, ear, _ in _ears(cases) if cases[label.split(", ")[0]]["disturbed"] is None]
    shown = calm or [(label, ear) for label, ear, _ in _ears(cases)][:8]
    widest = 1.0
    for label, ear in shown:
        values = ear["distribution_ms"]["added"]
        if values:
            panel.plot(values, np.linspace(0, 100, len(values)), lw=1.2, label=label)
            widest = max(widest, 1.3 * values[99])
    panel.set(title="added latency", xlabel="ms", ylabel="% of packets within", ylim=(0, 100), xlim=(0, widest))
    panel.legend(fontsize=7, frameon=False, loc="lower right")


def _draw_course(panel: Any, name: str, case: Figures) -> None:
    for run_name, run in case["runs"].items():
        for ear in run["ears"]:
            words = [*([run_name] if run_name != name else []), *([ear["name"]] if ear["name"] != "listener" else [])]
            course = ear["course"]
            (line,) = panel.plot(course["t"], numbers(course["delay_ms"]), lw=1.0, label=", ".join(words) or "delay")
            panel.plot(course["t"], numbers(course["target_ms"]), lw=0.7, ls=":", color=line.get_color())
    if case["disturbed"] is not None:
        panel.axvspan(*case["disturbed"], color="0.92", zorder=0)
    panel.set(title=f"{name}: to the device (dots: target)", xlabel="s", ylabel="ms", ylim=(0, None))
    panel.legend(fontsize=7, frameon=False)


def _draw_shrink(figure: Any, name: str, case: Figures, run: Figures) -> None:
    width, lag, quality = figure.subplots(3, 1, sharex=True)
    for ear in run["ears"]:
        course = ear["course"]
        width.step(course["t"], course["kbps"], where="post", lw=1.2, label=ear["name"])
        lag.plot(course["t"], numbers(course["decoded_ms"]), lw=1.2, label=ear["name"])
        values = numbers(run["quality_db"][ear["name"]])
        quality.plot(np.arange(len(values)) + 0.5, values, ".-", lw=1.2, label=ear["name"])
    width.set(title=f"{name}: bandwidth", ylabel="kbps", ylim=(0, None))
    lag.set(title="lag: from captured until decoded", ylabel="ms", yscale="log")
    quality.set(title="SI-SDR against the whole bandwidth without a network", ylabel="dB", xlabel="s")
    for panel in (width, lag, quality):
        panel.axvspan(*case["disturbed"], color="0.92", zorder=0)
        panel.legend(fontsize=8, frameon=False)
