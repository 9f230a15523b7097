"""Write RESULTS.md, and the section of each benchmark, from the JSON that the benchmarks stored in `results/`.

    python -m benchmarks.report     # RESULTS.md and results/*.md, from what is stored: seconds
    python -m benchmarks.run_all    # measures everything anew before, on an idle machine

A benchmark is repeated by the command that stands beside its figures, from the repository's root and with the `dev` extra installed
(`pip install -e '.[dev]'`); each takes `--help`. Those on held-out speech take a corpus: `python -m benchmarks.heldout corpus`.

Times of two machines, or of two runs, do not compare; the ratios inside one run do, since its candidates take turns.
"""

from __future__ import annotations

import argparse
import importlib
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness.changes import render_changes
from benchmarks.harness.provenance import Repository, outdated, repository
from benchmarks.harness.run import RESULTS, Benchmark, Headline
from benchmarks.harness.sections import figures_of, render_section, runs_of
from benchmarks.harness.tables import table
from benchmarks.plan import Took, longer_run
from streamcodec.output_file import write_text

__all__ = ["BENCHMARKS", "CHANGES", "HEADLINES", "TOOK", "benchmark", "render_report", "write"]

_ROOT = Path(__file__).parents[1]
BENCHMARKS = (
    *(
        "seams",
        "parity",
        "step",
        "load",
        "chunks",
        "capacity",
        "relay",
        "churn",
        "soak",
        "attacks",
        "failures",
        "cluster",
        "cluster_simulation",
        "cluster_growth",
        "quality",
        "long_streams",
        "tokenize",
        "batches",
        "precision",
        "entropy_coding",
        "latency",
        "late_join",
        "dtx",
        "mouth_to_ear",
        "browser",
    ),
    "accelerator",
)
CHANGES = "changes.json"
TOOK = "took.json"

# Which headlines of each benchmark the first table shows, by the words that they contain: twelve rows.
HEADLINES: tuple[tuple[str, str], ...] = (
    ("seams", " 6 kbps"),
    ("step", "encode 80 ms, full-size model, one stream"),
    ("step", "encode 80 ms, full-size model, 16 streams"),
    ("step", "decode 80 ms, full-size model, one stream"),
    ("step", "decode 80 ms, full-size model, 16 streams"),
    ("capacity", "full size, p99"),
    ("capacity", "speech-24k, p99"),
    ("load", "publishers"),
    ("latency", "packets of 80 ms"),
    ("mouth_to_ear", "mouth to ear"),
    ("quality", "at 6 kbps"),
    ("churn", "openvino"),
)
_PICTURE = ("step", "step.png", "Encode and decode of one packet, in times real time")

_HEAD = """# Results

Written by `python -m benchmarks.report` from the files in [results](results), which the benchmarks stored: no figure here was typed.
A figure belongs to its processor, its weights and its code: each section names them, and says at its top where the repository has moved on
since. Best other: the best of what else took part in the same run."""
_OUTDATED = "†"
_SHORTER = "`make bench` has 90 minutes for all. These runs are shorter, or of fewer clips, than those that `make bench-long` makes."
_TOOK = "How each command of `make bench` and `make bench-long` went when it ran last."


def benchmark(name: str) -> Benchmark:
    """The declaration of a benchmark."""
    found: Benchmark = importlib.import_module(f"benchmarks.{name}.benchmark").BENCHMARK
    return found


def stored(results: Path, names: Sequence[str] = BENCHMARKS) -> dict[str, dict[str, Any]]:
    """The stored section of each benchmark that was run, of those named."""
    files = {name: results / f"{name}.json" for name in names}
    return {name: json.loads(file.read_text(encoding="utf-8")) for name, file in files.items() if file.exists()}


def write(results: Path, now: Repository) -> Path:
    """Write every section, and RESULTS.md beside the folder; return the latter's path."""
    sections = stored(results)
    for name, section in sections.items():
        write_text(results / f"{name}.md", render_section(section, benchmark(name).render, now))
    path = results.with_name("RESULTS.md")
    write_text(path, render_report(sections, now, stored_changes(results), stored_took(results)))
    return path


def stored_changes(results: Path) -> list[dict[str, Any]]:
    """What each benchmark changed when `benchmarks.run_all` ran it last."""
    file = results / CHANGES
    found: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
    return found


def stored_took(results: Path) -> list[Took]:
    """How each command that `benchmarks.run_all` ran went the last time."""
    file = results / TOOK
    return [Took(**each) for each in json.loads(file.read_text(encoding="utf-8"))] if file.exists() else []


def render_report(
    sections: Mapping[str, Mapping[str, Any]], now: Repository, changed: Sequence[dict[str, Any]] = (), took: Sequence[Took] = ()
) -> str:
    """The first page: the headlines, a picture, a link to each section, what is shorter than asked for, what changed, and what it took."""
    rows = list(_rows(sections, now))
    parts = [_HEAD, table(["what", "ours", "best other", "command"], rows)]
    if any(_OUTDATED in str(row[1]) for row in rows):
        parts.append(f"{_OUTDATED} Measured with other weights or other engine code than the repository holds now.")
    name, picture, title = _PICTURE
    if name in sections:
        parts.append(f"[![{title}](results/{picture})](results/{name}.md)")
    parts += ["## Sections", "\n".join([*_links(sections, now), *_missing(sections)])]
    shorter = list(_shorter(sections))
    if shorter:
        parts += ["## Shorter than asked for", _SHORTER, table(["section", "measured with", "at its whole length"], shorter)]
    if changed:
        parts += ["## Changes", "What the last run of each benchmark said, beside the one before it.", render_changes(changed)]
    if took:
        rows = [[f"`{each.command}`", f"{each.seconds / 60:.1f}", each.ended, each.when, each.commit] for each in took]
        parts += ["## What it took", _TOOK, table(["command", "min", "ended", "began", "commit"], rows)]
    parts.append(f"<!-- compared with {now} -->")
    return "\n\n".join(parts) + "\n"


def _rows(sections: Mapping[str, Mapping[str, Any]], now: Repository) -> Iterator[list[str | None]]:
    for name, words in HEADLINES:
        if name not in sections:
            continue
        section = sections[name]
        for headline in benchmark(name).headlines(figures_of(section)):
            if words in headline.what:
                yield _row(name, headline, runs_of(section)[headline.case], now)


def _row(name: str, headline: Headline, ran: Mapping[str, Any], now: Repository) -> list[str | None]:
    mark = f" {_OUTDATED}" if outdated(ran, now) else ""
    return [f"[{headline.what}](results/{name}.md)", headline.ours + mark, headline.other, f"`{ran['command']}`"]


def _links(sections: Mapping[str, Mapping[str, Any]], now: Repository) -> Iterator[str]:
    for name, section in sections.items():
        runs = runs_of(section).values()
        processors = " and ".join(dict.fromkeys(re.sub(r"\(R\)| Processor", "", ran["machine"]["cpu"]) for ran in runs))
        when = max(ran["run"]["when"] for ran in runs)[:10]
        mark = f" {_OUTDATED}" if any(outdated(ran, now) for ran in runs) else ""
        yield f"- [{section['title']}](results/{name}.md): {benchmark(name).question} ({processors}, {when}{mark})"


def _shorter(sections: Mapping[str, Mapping[str, Any]]) -> Iterator[list[str]]:
    for name, section in sections.items():
        for case, ran in runs_of(section).items():
            if (longer := longer_run(ran["command"], benchmark(name), case)) is not None:
                yield [f"[{section['title']}](results/{name}.md){case and f', {case}'}", f"`{ran['command']}`", f"`{longer}`"]


def _missing(sections: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for name in BENCHMARKS:
        if name not in sections:
            declared = benchmark(name)
            yield f"- {declared.title}: {declared.question} Not measured yet: `python -m {declared.package}`."


def main() -> int:
    """Write RESULTS.md."""
    argparse.ArgumentParser(prog="python -m benchmarks.report", description=(__doc__ or "").split("\n")[0]).parse_args()
    print(write(RESULTS, repository()).relative_to(_ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
