"""A benchmark's section: its figures in words and tables, made from the stored JSON alone, and how they came about."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from benchmarks.harness.provenance import Repository, outdated

__all__ = ["Figures", "figures_of", "render_section", "runs_of"]

Figures = dict[str, Any]


def runs_of(section: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The runs that a section was made of, by their cases' names; a section without cases has one, named ""."""
    cases: dict[str, Mapping[str, Any]] | None = section.get("cases")
    return {"": section} if cases is None else cases


def figures_of(section: Mapping[str, Any]) -> Figures:
    """What a benchmark's `render` and `draw` get: the figures, or those of each case by its name."""
    cases = section.get("cases")
    return section["figures"] if cases is None else {name: ran["figures"] for name, ran in cases.items()}


def render_section(section: Mapping[str, Any], render: Callable[[Figures], str], now: Repository) -> str:
    """The Markdown of a section: what is outdated in it, its figures as `render` tells them, and the command, the run and the machine."""
    parts = [f"## {section['title']}", *_warnings(section, now), render(figures_of(section)).strip(), f"<sub>{_notes(section)}</sub>"]
    return "\n\n".join(parts) + "\n"


def _warnings(section: Mapping[str, Any], now: Repository) -> Iterator[str]:
    """A line for each reason why runs are outdated, with the cases that it holds for."""
    runs = runs_of(section)
    reasons: dict[str, list[str]] = {}
    for name, ran in runs.items():
        for reason in outdated(ran, now):
            reasons.setdefault(reason, []).append(name)
    if reasons:
        told = (why if len(names) == len(runs) else f"{why} ({', '.join(names)})" for why, names in reasons.items())
        yield f"> **Outdated: measured with {'; and '.join(told)}.**"


def _notes(section: Mapping[str, Any]) -> str:
    if "cases" not in section:
        return f"{_run_note(section)}. {_machine_note(section['machine'])}"
    machines: dict[str, list[str]] = {}
    for name, ran in section["cases"].items():
        machines.setdefault(_machine_note(ran["machine"]), []).append(f"{name}: {_run_note(ran)}.")
    return "<br>\n".join(line for machine, runs in machines.items() for line in (*runs, machine))


def _run_note(ran: Mapping[str, Any]) -> str:
    run = ran["run"]
    busy = f"took {run['wall_s']:g} s and {run['own_cores']:g} cores of its own"
    if "other_cores" in run:
        busy += f"; other programs used {run['other_cores']:g} cores, and {run['other_low_priority_cores']:g} more at low priority"
    commit = f" at commit {ran['commit']}" if ran.get("commit") else ""
    return f"`{ran['command']}`{commit} on {run['when']}, {busy}"


def _machine_note(machine: Mapping[str, Any]) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    models = "".join(f", {name} {digits}" for name, digits in machine.get("models", {}).items())
    wide = f" ({', '.join(machine['instructions'])})" if machine["instructions"] else ""
    return (
        f"{machine['cpu']}{wide}, {machine['cores']} cores, {machine['ram_gib']:g} GiB, {machine['system']}; Python {machine['python']}, "
        f"{packages}{models}; {machine['threads']} thread(s) per model."
    )
