"""A benchmark run as its users run it, in a tiny setting, with what holds for every one of them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.harness.provenance import repository
from benchmarks.harness.sections import render_section

ROOT = Path(__file__).parents[2]
HANGS_S = 1200  # nothing takes so long but what hangs


def run_tiny(name: str, words: Sequence[str], out: Path, *, stands: str | None = None) -> dict[str, Any]:
    """Run `benchmarks.NAME` with `words` and return the section that it stored in `out`; `stands` is how its command ends (`words`)."""
    command = [sys.executable, "-m", f"benchmarks.{name}", *words, "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=HANGS_S)
    assert done.returncode == 0, done.stderr
    section: dict[str, Any] = json.loads((out / f"{name}.json").read_text(encoding="utf-8"))
    text = (out / f"{name}.md").read_text(encoding="utf-8")
    assert render_section(section, report.benchmark(name).render, repository()) == text, "every figure of a section comes from its JSON"
    assert f"`python -m benchmarks.{name} {' '.join(words) if stands is None else stands}`" in text, "the command stands beside its figures"
    assert str(out) not in text + json.dumps(section), "where somebody's files lie is nobody's business"
    assert "Outdated" not in text, "what was measured just now is of this repository"
    return section


def files_of(out: Path) -> set[str]:
    """The names of what a benchmark wrote."""
    return {path.name for path in out.iterdir()}
