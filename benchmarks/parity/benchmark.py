"""What a run of `benchmarks.parity` takes, its figures, and how they are told."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from benchmarks.harness.clips import AUDIO_WITHIN, SCALES_WITHIN
from benchmarks.harness.machine import Observed
from benchmarks.harness.parity import told
from benchmarks.harness.run import Benchmark, Headline
from benchmarks.harness.sections import Figures
from benchmarks.harness.tables import table, verdict
from benchmarks.parity.compare import batch_rows, clip_rows
from benchmarks.peers.references import PACKAGES, reference_of
from streamcodec.codec import load
from streamcodec.model.checkpoint import load_file
from streamcodec.model.near_ties import NearTies
from streamcodec.published import PUBLISHED

__all__ = ["BENCHMARK"]

_ENGINES = {"torch": "torch", "openvino": "OpenVINO", "onnx": "ONNX Runtime"}
"""All of ours, and how tables name them."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    add = parser.add_argument
    add("--model", nargs="+", choices=PUBLISHED, default=list(PUBLISHED), help="published architectures, with random weights")
    add("--package", nargs="+", choices=list(PACKAGES), default=list(PACKAGES))
    add("--engine", nargs="+", choices=list(_ENGINES), default=list(_ENGINES))
    add("--lengths", type=int, nargs="+", help="of the clips, in samples (default: short ones, around seams, and 3 s)")
    add("--batch-seconds", type=float, default=1.2, help="the longest clip of a batch")


def measure_all(args: argparse.Namespace, observed: Observed) -> Figures:
    """Compare each model with each package that has it."""
    rows: list[Figures] = []
    with observed:
        for name in args.model:
            for package in args.package:
                if name in PACKAGES[package]:
                    rows += _rows(package, name, args)
    failures = [failure for row in rows for failure in row.pop("failures")]
    return {
        "lengths": args.lengths,
        "batch_s": args.batch_seconds,
        "audio_within": AUDIO_WITHIN,
        "scales_within": SCALES_WITHIN,
        "rows": rows,
        "failures": failures,
    }


def _rows(package: str, name: str, args: argparse.Namespace) -> list[Figures]:
    with tempfile.TemporaryDirectory() as folder:
        reference = reference_of(package, name)
        path = reference.save(Path(folder))
        rule = NearTies(load_file(path))
        labels = {"model": name, "package": package}
        codecs = {engine: load(path, engine=engine, threads=1) for engine in args.engine}
        rows = clip_rows(labels, reference, codecs, rule, args.lengths)
        if package == "transformers":
            rows += batch_rows(labels, reference, args.engine, path, rule, args.batch_seconds)
    return rows


# Telling -----------------------------------------------------------------------------------------------------------------------------


def render(figures: Figures) -> str:
    """The section's text, from its figures alone."""
    peaks = [row["peak"] for row in figures["rows"]]
    text = (
        "Each package makes a model with random weights and writes its checkpoint, which our code loads. Then both encode the same clips "
        f"of made-up music, and ours decodes the package's codes. *Clips* have {_lengths(figures['lengths'])}. A *batch* is four clips of "
        f"1 sample to {figures['batch_s']:g} s, which both feature extractors pad alike: `streamcodec.compat.transformers` beside "
        "`transformers`, with the mask. Sums in another order decide a near-tie the other way, which changes the codes behind it in its "
        f"frame: proved in float64, code by code. Scales may be apart by {figures['scales_within']:g} of themselves, and audio of the same "
        f"codes by {figures['audio_within']:g}; the largest sample of the packages' own is {min(peaks):.2g} to {max(peaks):.2g} in the "
        f"rows below. {verdict(figures['failures'])}"
    )
    for model, rows in groupby(figures["rows"], key=lambda row: row["model"]):
        text += f"\n\n### {PUBLISHED[model].sampling_rate // 1000} kHz\n\n{_table(list(rows))}"
    return text + "\n"


def _lengths(lengths: Sequence[int] | None) -> str:
    if lengths:
        return f"{', '.join(f'{length:,}' for length in lengths)} samples"
    return (
        "1 sample, 2, a hop and one less and one more, other odd lengths up to 12,347, and 3 s; and they end where a chunk begins or ends, "
        "one sample before or one after. The causal model has no chunks: ours goes through a clip of it in pieces of 4 s, whose seam "
        "stands for them. Of these, lower bandwidths than the highest, whose codes begin with theirs, have those alone that end one sample "
        "behind a seam of the first second"
    )


def _table(rows: Sequence[Figures]) -> str:
    """A line for each package, kind and bandwidth, with the engines side by side; differences are the largest of all engines."""
    engines = list(dict.fromkeys(row["engine"] for row in rows))
    header = ["beside", "kbps", "clips", "samples", "codes", *(f"differ, {_ENGINES[engine]}" for engine in engines)]
    lines = []
    for (package, what, kbps), found in groupby(rows, key=lambda row: (row["package"], row["what"], row["kbps"])):
        by_engine = {row["engine"]: row for row in found}
        row = next(iter(by_engine.values()))
        scales = [each["scales"] for each in by_engine.values() if each["scales"] is not None]
        counts = [f"{row[key]:,}" for key in ("clips", "samples", "entries")]
        differing = [told(each["differing"], each["near_ties"]) for each in by_engine.values()]
        apart = [_apart(max(scales)) if scales else None, _apart(max(each["audio"] for each in by_engine.values()))]
        lines.append([f"`{package}`, {what}", f"{kbps:g}", *counts, *differing, *apart])
    return table([*header, "scales apart", "audio apart"], lines)


def _apart(value: float) -> str:
    return f"{value:.1e}" if value else "0"


def headlines(figures: Figures) -> list[Headline]:
    """Of all models, packages, engines and bandwidths together."""
    rows = figures["rows"]
    entries, differing = (sum(row[key] for row in rows) for key in ("entries", "differing"))
    near_ties = None if any(row["near_ties"] is None for row in rows) else sum(row["near_ties"] for row in rows)
    rates = ", ".join(dict.fromkeys(f"{PUBLISHED[row['model']].sampling_rate // 1000}" for row in rows))
    apart = max(row["audio"] for row in rows)
    what = f"whole clips and batches at {rates} kHz: codes unlike the packages', and audio apart"
    return [Headline(what, f"{told(differing, near_ties)}, of {entries:,}; {apart:.0e}")]


BENCHMARK = Benchmark(
    name="parity",
    title="The same as the packages",
    question="Do whole clips and padded batches by every published architecture give the packages' codes, scales and audio?",
    options=add_options,
    measure=measure_all,
    render=render,
    headlines=headlines,
)
