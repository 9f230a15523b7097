"""What a run of `benchmarks.long_streams` takes, its figures, and how they are told."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks import heldout
from benchmarks.harness.machine import Observed
from benchmarks.harness.plots import picture
from benchmarks.harness.run import Benchmark, Headline
from benchmarks.harness.sections import Figures
from benchmarks.harness.tables import table
from benchmarks.quality.measures import (
    LEARNT_BY,
    MEASURES,
    Scores,
    check_rate,
    differences,
    mean,
    means,
    measure,
    missing,
    plain,
    scorers,
    versions,
)
from streamcodec.codec import Codec, load
from streamcodec.types import Samples

__all__ = ["BENCHMARK", "behind", "measure_long_streams", "render"]


_NAMES = ("pesq", "visqol", "stoi")


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    heldout.add_options(parser)
    parser.add_argument("--model", default="speech-24k", help="embedded name, checkpoint or hub id")
    parser.add_argument("--bandwidth", type=float, nargs="+", default=[6.0, 12.0], help="kbps (6 and 12)")
    parser.add_argument(
        "--behind", type=float, nargs="+", default=[4.0, 30.0], help="seconds of the same source before the clip (4 and 30)"
    )


def measure_all(args: argparse.Namespace, observed: Observed) -> Figures:
    """Score what the command line asks for."""
    codec = load(args.model)
    check_rate(codec.sample_rate)
    clips = heldout.chosen(args, music=False)
    with observed:
        return measure_long_streams(args.model, codec, clips, args.bandwidth, [0.0, *args.behind])


def behind(clips: Sequence[heldout.Clip], at: int, samples: int) -> Samples:
    """`samples` of the source of clip `at` that are not in it: the other clips, again and again, and the clip's own where it is alone."""
    others = [clip.samples for i, clip in enumerate(clips) if i != at and clip.source == clips[at].source]
    return np.resize(np.concatenate(others or [clips[at].samples]), samples)


def measure_long_streams(
    model: str, codec: Codec, clips: Sequence[heldout.Clip], bandwidths: Sequence[float], seconds: Sequence[float]
) -> Figures:
    """All figures of the section; the first of `seconds` is what the others are compared with."""
    rows = []
    for kbps in bandwidths:
        first: list[Scores] = []
        for lead_s in seconds:
            scores = [_scored(codec, clips, at, kbps, lead_s) for at in range(len(clips))]
            first = first or scores
            rows.append(
                {
                    "kbps": kbps,
                    "behind_s": lead_s,
                    "scores": means(_NAMES, scores),
                    "change": {name: plain(mean(differences(name, scores, first))) for name in _NAMES},
                }
            )
    return {
        "model": model,
        "engine": codec.engine.name,
        "rate": codec.sample_rate,
        "clips": heldout.describe(clips),
        "missing": missing(_NAMES),
        "scored_with": versions(_NAMES),
        "rows": rows,
    }


def _scored(codec: Codec, clips: Sequence[heldout.Clip], at: int, kbps: float, lead_s: float) -> Scores:
    lead = behind(clips, at, round(lead_s * codec.frame_rate) * codec.hop_length)
    clip = clips[at].samples
    heard = codec.decode(codec.encode(np.concatenate([lead, clip]), bandwidth=kbps))
    return measure(_NAMES, clip, heard[len(lead) : len(lead) + len(clip)])


def render(figures: Figures) -> str:
    """The section's text, from its figures alone."""
    names = _told(figures)
    rows = []
    for row in figures["rows"]:
        cells = [f"{row['kbps']:g} kbps, {_when(row['behind_s'])}"]
        for name in names:
            score, change = row["scores"][name], row["change"][name]
            digits = 3 if name != "stoi" else 4
            cells += [f"{score['mean']:.{digits}f}"]
            cells += ["-" if not row["behind_s"] else f"{change['mean']:+.{digits}f} ± {(change['high'] - change['low']) / 2:.{digits}f}"]
        rows.append(cells)
    header = ["", *(text for name in names for text in (MEASURES[name].heading, "change"))]
    return (
        f"`{figures['model']}` ({figures['engine']}), {heldout.tell(figures['clips'], figures['rate'])}. Each clip is coded as a stream of "
        "its own, and then with the other clips of its source before it in the same stream, again and again if need be; only the clip "
        "itself is scored. Changes are those "
        f"of the same clips, ± half of their 95% interval (bootstrap over the clips). {LEARNT_BY}. "
        f"Scored with {scorers(figures['scored_with'])}.\n\n"
        f"{table(header, rows)}\n\n![Scores by the time that a stream has run](long_streams.png)\n"
    )


def headlines(figures: Figures) -> list[Headline]:
    """By how much PESQ changes with the longest time that a stream had run."""
    rows = [row for row in figures["rows"] if row["behind_s"] and row["change"]["pesq"]]
    if not rows:
        return []
    last = max(rows, key=lambda row: row["behind_s"])
    return [Headline(f"PESQ-WB after {last['behind_s']:g} s of a stream, less at its beginning", f"{last['change']['pesq']['mean']:+.3f}")]


def _told(figures: Figures) -> list[str]:
    """The measures that every row has."""
    return [name for name in _NAMES if all(row["change"][name] for row in figures["rows"])]


def _when(seconds: float) -> str:
    return f"after {seconds:g} s" if seconds else "from the start"


def draw(figures: Figures, folder: Path) -> None:
    """The change of every score with the time that a stream has run."""
    names = _told(figures)
    with picture(folder / "long_streams.png", 12, 3.6) as figure:
        for axes, name in zip(figure.subplots(1, max(1, len(names)), squeeze=False)[0], names, strict=False):
            for kbps in dict.fromkeys(row["kbps"] for row in figures["rows"]):
                rows = [row for row in figures["rows"] if row["kbps"] == kbps]
                x, change = [row["behind_s"] for row in rows], [row["change"][name] for row in rows]
                axes.plot(x, [c["mean"] for c in change], ".-", label=f"{kbps:g} kbps")
                axes.fill_between(x, [c["low"] for c in change], [c["high"] for c in change], alpha=0.15)
            axes.axhline(0.0, color="0.7", lw=0.8)
            axes.set(title=MEASURES[name].title, xlabel="seconds of the stream before the clip", ylabel="change")
            axes.legend(fontsize=8, frameon=False)


BENCHMARK = Benchmark(
    name="long_streams",
    title="Later in a stream",
    question="How does a stream sound when it has run for a while, against its beginning?",
    options=add_options,
    measure=measure_all,
    render=render,
    draw=draw,
    headlines=headlines,
)
