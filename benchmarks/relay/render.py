"""The section on relaying: tables of all cases, from their figures alone."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.harness.run import Headline
from benchmarks.harness.sections import Figures
from benchmarks.harness.tables import milliseconds, percent, table, verdict

__all__ = ["headlines", "render"]


def render(cases: Mapping[str, Figures]) -> str:
    """The section's text; `cases` are the figures of each case by its name."""
    ordered = dict(sorted(cases.items(), key=lambda entry: entry[1]["listeners"]))
    first = next(iter(ordered.values()))
    columns = ["delivered", "p50 ms", "p99", "max", "told lost"]
    parts = [
        f"One publisher sends codes at {first['kbps']:g} kbps, in packets of {first['packet_ms']:g} ms and in real time. As many "
        f"listeners as the case says come at an even pace within {first['join_s']:g} s; they report as the protocol says. Server and "
        "listeners are a process each, on the same cores; where the case names several, they are the server's (`serve --processes`). "
        "*Hello* is the time from opening the connection to the answer to the hello; *late* that from a packet's last sample to the "
        "listener. *Delivered* is what came within 1 s, of all that was due to those that were let in.",
        table(
            ["held", "let in", "refused", "hello p99 ms", "max", *columns, "server's cores", "load's"],
            [[name, *_answers(case["hold"]), *_delivered(case["hold"]), *_cores(case["hold"])] for name, case in ordered.items()],
        ),
    ]
    over = {name: case for name, case in ordered.items() if case["over"]}
    if over:
        parts += [
            "Then half as many again come at the same pace. *Asked* are the newcomers; lateness and delivery are those of everybody "
            "that was let in by then.",
            table(
                ["150%", "asked", "let in", "refused", "silent", "hello p99 ms", "max", *columns],
                [
                    [name, case["over"]["asked"], *_answers(case["over"], silent=True), *_delivered(case["over"])]
                    for name, case in over.items()
                ],
            ),
            *_reasons(over),
        ]
    parts.append(verdict([failure for case in ordered.values() for failure in case["failures"]]))
    return "\n\n".join(parts) + "\n"


def _answers(figures: Figures, *, silent: bool = False) -> list[object]:
    hello = milliseconds(figures["hello_ms"], "p99", "max") if figures["hello_ms"] else ["-", "-"]
    refused = sum(told["count"] for told in figures["refused"].values())
    return [figures["let_in"], refused, *([figures["silent"]] if silent else []), *hello]


def _cores(figures: Figures) -> list[object]:
    return [f"{figures[name]:.2f}" for name in ("server_cores", "load_cores")]


def _delivered(figures: Figures) -> list[object]:
    late = milliseconds(figures["late_ms"], "p50", "p99", "max") if figures["late_ms"] else ["-"] * 3
    return [percent(figures["within_1s"] / max(1, figures["expected"]), 2), *late, figures["told"]]


def _reasons(over: Mapping[str, Figures]) -> list[str]:
    told = [
        f'- {name}: {refusal["count"]} x `{code}`, the first: "{refusal["first"]}".'
        for name, case in over.items()
        for code, refusal in case["over"]["refused"].items()
    ]
    return ["Why, in the server's words:\n\n" + "\n".join(told)] if told else []


def headlines(cases: Mapping[str, Figures]) -> list[Headline]:
    """The largest crowd that had everything."""
    whole = {name: case for name, case in cases.items() if case["hold"]["within_1s"] == case["hold"]["expected"] and not case["failures"]}
    if not whole:
        return []
    name, case = max(whole.items(), key=lambda entry: entry[1]["hold"]["let_in"])
    p99 = case["hold"]["late_ms"]["p99"]
    return [Headline("listeners of one stream, all packets delivered", f"{case['hold']['let_in']} (p99 {p99:.0f} ms)", case=name)]
