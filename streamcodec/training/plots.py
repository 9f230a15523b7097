"""Draws a run's CSV logs: losses over steps, and quality on held-out voices per bandwidth."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

from streamcodec.errors import InputError, MissingDependencyError
from streamcodec.output_file import replacing

__all__ = ["plot"]

Curves = dict[str, dict[str, tuple[list[float], list[float]]]]


def plot(run: Path, target: Path) -> None:
    """Write a PNG of everything that `run` has logged; raises `InputError` if that is nothing."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError("plots need matplotlib: pip install 'streamcodec[plots]'") from error
    panels = {**curves(run / "steps.csv", None), **{f"held-out {k}": v for k, v in curves(run / "quality.csv", "kbps").items()}}
    if not panels:
        raise InputError(f"{run}: no logs to plot in this folder")
    columns = 4
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(4.5 * columns, 3.0 * rows), layout="constrained")
    for i, (name, lines) in enumerate(panels.items()):
        axes = figure.add_subplot(rows, columns, i + 1)
        for label, (x, y) in lines.items():
            axes.plot(x, y, label=f"{label} kbps" if label else None, linewidth=1.0)
        axes.set_title(name)
        axes.set_xlabel("step")
        if len(lines) > 1:
            axes.legend(fontsize="x-small")
    with replacing(target, [run / "steps.csv", run / "quality.csv"]) as file:
        figure.savefig(file, format=target.suffix[1:] or "png", dpi=100)


def curves(path: Path, by: str | None) -> Curves:
    """A log's columns over its steps: name -> value of column `by` (or "") -> (steps, values); gaps are left out."""
    found: Curves = defaultdict(lambda: defaultdict(lambda: ([], [])))
    if not path.is_file():
        return {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            for name, value in row.items():
                if value and name not in ("step", by):
                    steps, values = found[name]["" if by is None else row[by]]
                    steps.append(float(row["step"]))
                    values.append(float(value))
    return {name: dict(lines) for name, lines in found.items()}
