"""The section on failures: a table of all that were run, from their figures alone."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.harness.run import Headline
from benchmarks.harness.sections import Figures
from benchmarks.harness.tables import table, verdict

__all__ = ["headlines", "render"]

_MOST = 4


def render(cases: Mapping[str, Figures]) -> str:
    """The section's text; `cases` are the figures of each failure by its name."""
    rows = [
        [
            name,
            _seconds(case["recovered_s"]),
            _told([f"{at:g} s: {said}" for at, said in case["health"]]) or "ok all the time",
            _told([f"{at:g} s: {count} packets, {reason}" for at, count, reason in case["gaps"]]) or "none",
            case["lost"],
            _told([f"{at:g} s: {what}" for at, what in case["clients"]]) or "nothing",
            _told([f"{name} +{value:g}" for name, value in case["counters"].items()]) or "nothing",
        ]
        for name, case in cases.items()
    ]
    wrong = [f"{name}: {failure}" for name, case in cases.items() for failure in case["failures"]]
    return (
        "\n\n".join(
            [
                "One publisher of PCM and its listener of codes, which connect again where they are told to or lose their connection. "
                "*Audio goes on after* is the time from the failure to the first packet behind the longest silence. *Lost untold* are "
                "packets that the server had taken, that did not come and that no gap names. A server that is started again loads its "
                f"model in that time. {verdict(wrong)}",
                table(["failure", "audio goes on after", "/readyz", "gaps told", "lost untold", "clients say", "figures"], rows),
            ]
        )
        + "\n"
    )


def headlines(cases: Mapping[str, Figures]) -> list[Headline]:
    """How soon audio goes on behind each failure."""
    return [Headline(f"{name}: audio goes on after", _seconds(case["recovered_s"]), case=name) for name, case in cases.items()]


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.2f} s"


def _told(lines: list[str]) -> str:
    if len(lines) > _MOST:
        lines = [*lines[: _MOST - 1], f"{len(lines) - _MOST} more", lines[-1]]
    return "; ".join(lines).replace("|", "/")
