"""What changed between two runs of a benchmark, headline by headline."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any

from benchmarks.harness.run import Benchmark
from benchmarks.harness.sections import figures_of, runs_of
from benchmarks.harness.tables import table

__all__ = ["changes", "render_changes"]

Change = dict[str, Any]


def changes(
    before: Mapping[str, Any] | None, after: Mapping[str, Any], benchmark: Benchmark, measured: Container[str] | None = None
) -> list[Change]:
    """Each headline of the section `after`, with what the section `before` said of the same; None where it said nothing.

    With `measured`, headlines of other cases are left out; those that belong to no single case stay.
    """
    earlier = {} if before is None else {line.what: (line.ours, _processor(before, line.case)) for line in _lines(before, benchmark)}
    found = []
    for line in _lines(after, benchmark):
        if measured is not None and line.case in runs_of(after) and line.case not in measured:
            continue
        ours, processor = earlier.get(line.what, (None, None))
        now = _processor(after, line.case)
        found.append({"benchmark": benchmark.name, "what": line.what, "before": ours, "on": processor, "after": line.ours, "now_on": now})
    return found


def render_changes(found: Sequence[Change]) -> str:
    """A table of the changes; figures of different processors do not compare, so those of another one name it."""
    rows = [
        [
            f"[{change['what']}](results/{change['benchmark']}.md)",
            change["before"] if change["on"] in (None, change["now_on"]) else f"{change['before']} (on {change['on']})",
            change["after"],
        ]
        for change in found
    ]
    return table(["what", "before", "now"], rows)


def _lines(section: Mapping[str, Any], benchmark: Benchmark) -> Sequence[Any]:
    return benchmark.headlines(figures_of(section))


def _processor(section: Mapping[str, Any], case: str) -> str:
    runs = runs_of(section)
    machine = runs.get(case, next(iter(runs.values())))["machine"]  # a headline of all cases names none
    widest = machine["instructions"][-1:]
    return " ".join([machine["cpu"], *(f"with {name}" for name in widest)])
