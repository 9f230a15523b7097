"""What a run of `benchmarks.quality` takes, its figures, and how they are told."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import heldout
from benchmarks.harness.machine import Observed
from benchmarks.harness.plots import picture
from benchmarks.harness.run import Benchmark, Headline
from benchmarks.harness.sections import Figures
from benchmarks.harness.tables import table
from benchmarks.quality.measures import MEASURES, Scores, check_rate, mean, means, measure, missing, plain, scorers, versions
from benchmarks.quality.opus import FRAME_MS, through_opus, why_not
from benchmarks.quality.page import write_page
from streamcodec.codec import Codec, load
from streamcodec.types import Samples

__all__ = ["BENCHMARK", "measure_quality", "render"]


_NAMES = ("pesq", "visqol", "stoi", "dnsmos", "sisdr", "mel")
_PAGE_CLIPS = 2
_BAND_EDGES_HZ = (0, 1000, 2000, 4000, 8000, 12000)


@dataclass
class Rendition:
    """All clips through one codec at one setting; `kbps` is what its packets took, None for the recording itself."""

    codec: str
    label: str
    audio: list[Samples]
    kbps: float | None = None
    more: dict[str, Any] = field(default_factory=dict)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    heldout.add_options(parser)
    parser.add_argument("--model", default="speech-24k", help="embedded name, checkpoint or hub id")
    parser.add_argument("--bandwidth", type=float, nargs="+", help="kbps (default: all of the model's)")
    parser.add_argument("--opus", type=float, nargs="*", default=[6.0, 12.0, 24.0], help="kbps that Opus aims at")
    parser.add_argument("--page", type=Path, help="folder for a page of audio pairs to listen to")


def measure_all(args: argparse.Namespace, observed: Observed) -> Figures:
    """Score what the command line asks for and, with `--page`, write a page to listen with."""
    clips = heldout.chosen(args, music=True)
    with observed:
        figures, renditions = measure_quality(args.model, clips, args.bandwidth, args.opus)
    if args.page:
        print(listen(args.page, figures, clips, renditions))
    return figures


# Measuring ---------------------------------------------------------------------------------------------------------------------------


def measure_quality(
    model: str, clips: Sequence[heldout.Clip], bandwidths: Sequence[float] | None, opus: Sequence[float]
) -> tuple[Figures, list[Rendition]]:
    """All figures of the section, and the audio that they are of. Speech is scored; music only has its level measured."""
    codec = load(model)
    check_rate(codec.sample_rate)
    wanted = list(bandwidths or codec.config.target_bandwidths)
    rate, skipped = codec.sample_rate, why_not() if opus else "not asked for"
    renditions = [_ours(codec, clips, kbps) for kbps in wanted]
    renditions += [] if skipped else [_opus(clips, rate, kbps) for kbps in opus]
    renditions.append(Rendition("original", "the recording itself", [clip.samples for clip in clips]))
    figures = {
        "model": model,
        "engine": codec.engine.name,
        "rate": rate,
        "opus_frame_ms": FRAME_MS,
        "opus_skipped": skipped,
        "clips": heldout.describe(clips),
        "missing": missing(_NAMES),
        "scored_with": versions(_NAMES),
        "rows": [_row(rendition, clips, rate) for rendition in renditions],
        "codebook_size": codec.config.codebook_size,
        "codebooks": _codebooks(codec, [clip for clip in clips if clip.kind == "speech"], max(wanted)),
    }
    return figures, renditions


def _ours(codec: Codec, clips: Sequence[heldout.Clip], kbps: float) -> Rendition:
    heard = [codec.decode(codec.encode(clip.samples, bandwidth=kbps))[: len(clip.samples)] for clip in clips]
    return Rendition("ours", f"{codec.name}, {kbps:g} kbps", heard, kbps)


def _opus(clips: Sequence[heldout.Clip], rate: int, kbps: float) -> Rendition:
    speech = np.array([clip.kind == "speech" for clip in clips])
    through = [through_opus(clip.samples, rate, kbps) for clip in clips]
    seconds = sum(len(clip.samples) for clip in clips if clip.kind == "speech") / rate
    packets, files = (
        sum(getattr(t, what) for t, s in zip(through, speech, strict=True) if s) * 8 / 1000 / seconds for what in ("packets", "file")
    )
    more = {"aimed_kbps": kbps, "file_kbps": files, "max_lag_ms": 1000 * max(abs(t.lag) for t in through) / rate}
    return Rendition("opus", f"Opus, aimed at {kbps:g} kbps", [t.audio for t in through], packets, more)


def _row(rendition: Rendition, clips: Sequence[heldout.Clip], rate: int) -> dict[str, Any]:
    pairs = list(zip(clips, rendition.audio, strict=True))
    spoken = [(clip, heard) for clip, heard in pairs if clip.kind == "speech"]
    # A clip's distance from itself says nothing.
    names = [name for name in _NAMES if rendition.codec != "original" or name not in ("sisdr", "mel")]
    scores: list[Scores] = [measure(names, clip.samples, heard) for clip, heard in spoken]
    absent = missing(names)
    levels = {
        kind: mean([_level(heard, clip.samples) for clip, heard in pairs if clip.kind == kind and clip.samples.any() and heard.any()])
        for kind in ("speech", "music")
    }
    return {
        "codec": rendition.codec,
        "label": rendition.label,
        "kbps": rendition.kbps,
        **rendition.more,
        "scores": means(_NAMES, scores),
        "level_db": {kind: plain(found) for kind, found in levels.items()},
        "bands": None if rendition.codec == "original" else bands([(clip.samples, heard) for clip, heard in spoken], rate),
        "undefined": [
            {"clip": clip.name, "measure": name, "why": why}
            for (clip, _), score in zip(spoken, scores, strict=True)
            for name, why in score.undefined.items()
            if name not in absent
        ],
    }


def _level(output: Samples, original: Samples) -> float:
    return float(10 * np.log10(np.mean(np.square(output, dtype=np.float64)) / np.mean(np.square(original, dtype=np.float64))))


def bands(pairs: Sequence[tuple[Samples, Samples]], rate: int) -> list[dict[str, float]]:
    """What became of each band of all (original, output) pairs together: the waveform's `snr_db`, and `level_db`, output over original.

    An SNR of 0 dB says that a band's waveform is not coded: silence instead of it would be as far off.
    """
    power = np.zeros((3, len(_BAND_EDGES_HZ) - 1))  # of the originals, of the outputs, of their differences
    for original, output in pairs:
        length = min(len(original), len(output))
        band_of = np.digitize(np.fft.rfftfreq(length, 1 / rate), _BAND_EDGES_HZ[1:-1])
        for at, samples in enumerate((original[:length], output[:length], output[:length] - original[:length])):
            power[at] += np.bincount(band_of, np.abs(np.fft.rfft(samples)) ** 2, power.shape[1]) / length
    decibels = 10 * np.log10(power + 1e-12)
    snr, level = decibels[0] - decibels[2], decibels[1] - decibels[0]
    found = zip(pairwise(_BAND_EDGES_HZ), snr, level, strict=True)
    return [{"from_hz": low, "to_hz": high, "snr_db": float(s), "level_db": float(lv)} for (low, high), s, lv in found]


def _codebooks(codec: Codec, clips: Sequence[heldout.Clip], kbps: float) -> list[dict[str, float]]:
    """Of each codebook, the share of entries that occur in the speech and the perplexity of their use."""
    import torch

    from streamcodec.training.quantize import perplexity

    codes = np.concatenate([codec.encode(clip.samples, bandwidth=kbps) for clip in clips], axis=1)
    used = perplexity(torch.from_numpy(codes[None].astype(np.int64)), codec.config.codebook_size)
    shares = [len(np.unique(book)) / codec.config.codebook_size for book in codes]
    return [{"used": share, "perplexity": float(value)} for share, value in zip(shares, used, strict=True)]


def listen(folder: Path, figures: Figures, clips: Sequence[heldout.Clip], renditions: Sequence[Rendition]) -> Path:
    """The first clips of each source on a page, the recording first."""
    picked = [at for at, clip in enumerate(clips) if sum(other.source == clip.source for other in clips[:at]) < _PAGE_CLIPS]
    ordered = [*renditions[-1:], *renditions[:-1]]
    columns = {rendition.label: [rendition.audio[at] for at in picked] for rendition in ordered}
    return write_page(folder, f"{figures['model']} beside Opus", [clips[at].name for at in picked], columns, figures["rate"])


# Telling -----------------------------------------------------------------------------------------------------------------------------


def render(figures: Figures) -> str:
    """The section's text, from its figures alone."""
    rows = figures["rows"]
    names = [name for name in _NAMES if name not in figures["missing"]]
    scored = scorers(figures["scored_with"])
    text = (
        f"`{figures['model']}` ({figures['engine']}), {heldout.tell(figures['clips'], figures['rate'])}. Scores are means over the speech, "
        "± half of their 95% interval (bootstrap over the clips), against the recording; DNSMOS hears the output alone. Scored with "
        f"{scored}."
    )
    opus = [row for row in rows if row["codec"] == "opus"]
    if opus:
        files = " to ".join(f"{row['file_kbps']:.1f}" for row in (opus[0], opus[-1])[: len(opus)])
        text += (
            f" Opus is ffmpeg's libopus for speech (`-application voip`) with frames of {figures['opus_frame_ms']} ms, its output brought "
            f"into step with the recording (by up to {max(row['max_lag_ms'] for row in opus):.1f} ms); its kbps are those of its packets, "
            f"as ours are those of the codes; with the Ogg file around them they are {files}."
        )
    if figures["opus_skipped"]:
        text += f" Opus was not measured: {figures['opus_skipped']}."
    for name, why in figures["missing"].items():
        text += f" {MEASURES[name].title} was not measured: {why}."
    parts = [text]
    header = ["", "kbps", *(_title(name) for name in names)]
    cells = [[row["label"], None if row["kbps"] is None else f"{row['kbps']:.1f}", *(_cell(row, name) for name in names)] for row in rows]
    parts.append(table(header, cells))
    compared = _against_opus(rows, names)
    if compared:
        parts.append(compared)
    coded = [row for row in rows if row["codec"] != "original"]
    levels = [[row["label"], *(None if found is None else f"{found['mean']:+.2f}" for found in row["level_db"].values())] for row in coded]
    parts.append("The output's level over the recording's, in dB (mean over the clips):")
    parts.append(table(["", *rows[0]["level_db"]], levels))
    parts.append(
        "The waveform's SNR in bands of the speech, and the output's level over the recording's, in dB (all clips together). Where the SNR "
        "is 0 or less, the waveform is not coded: what is heard there, if anything, is of the decoder's making."
    )
    header = ["", *(f"{band['from_hz'] / 1000:g} to {band['to_hz'] / 1000:g} kHz" for band in rows[0]["bands"])]
    parts.append(table(header, [[row["label"], *(f"{b['snr_db']:.1f}, {b['level_db']:+.1f}" for b in row["bands"])] for row in coded]))
    books = figures["codebooks"]
    least = min(range(len(books)), key=lambda at: books[at]["perplexity"])
    parts.append(
        f"Of {figures['codebook_size']} entries, the {len(books)} codebooks use {100 * min(b['used'] for b in books):.0f}% to "
        f"{100 * max(b['used'] for b in books):.0f}% on this speech; the perplexity of their use is {books[0]['perplexity']:.0f} in the "
        f"first and {books[least]['perplexity']:.0f} in the least evenly used one, number {least + 1}."
    )
    undefined = [(row["label"], entry) for row in rows for entry in row["undefined"]]
    if undefined:
        told = "; ".join(f"{entry['clip']}, {label}: {entry['measure']} ({entry['why']})" for label, entry in undefined)
        parts.append(f"{len(undefined)} scores are not defined and count in no mean: {told}.")
    return "\n\n".join(parts) + "\n\n![Scores over the bitrate, ours and Opus, and the codebooks' use](quality.png)\n"


def headlines(figures: Figures) -> list[Headline]:
    """PESQ and ViSQOL at each bandwidth of ours at which Opus was measured too."""
    found = []
    names = [name for name in ("pesq", "visqol") if name not in figures["missing"]]
    for opus in (row for row in figures["rows"] if row["codec"] == "opus"):
        for ours in (row for row in figures["rows"] if row["codec"] == "ours" and row["kbps"] == opus["aimed_kbps"]):
            what = f"{' / '.join(MEASURES[name].title for name in names)} at {ours['kbps']:g} kbps on held-out speech, `{figures['model']}`"
            told = [" / ".join(f"{row['scores'][name]['mean']:.2f}" for name in names if row["scores"][name]) for row in (ours, opus)]
            found.append(Headline(what, told[0], f"{told[1]} (Opus at {opus['kbps']:.1f} kbps)"))
    return found


def _title(name: str) -> str:
    unit = MEASURES[name].unit
    return f"{MEASURES[name].title}, {unit}" if unit in ("dB", "nepers") else MEASURES[name].title


def _cell(row: dict[str, Any], name: str) -> str | None:
    found, digits = row["scores"][name], MEASURES[name].digits
    return None if found is None else f"{found['mean']:.{digits}f} ± {(found['high'] - found['low']) / 2:.{digits}f}"


def _against_opus(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> str | None:
    """At each Opus setting, our row that takes most without taking more: which measures favour whom."""
    told = []
    for opus in (row for row in rows if row["codec"] == "opus"):
        ours = [row for row in rows if row["codec"] == "ours" and row["kbps"] <= max(opus["kbps"], opus["aimed_kbps"])]
        both = [name for name in names if ours and opus["scores"][name] and ours[-1]["scores"][name]]
        if not both:
            continue
        ahead = [name for name in both if _better(ours[-1]["scores"][name], opus["scores"][name], MEASURES[name].higher_is_better)]
        behind = [name for name in both if name not in ahead]
        said = "; ".join(
            f"{who} by {', '.join(MEASURES[name].title for name in found)}"
            for who, found in (("ours is better", ahead), ("Opus is better", behind))
            if found
        )
        told.append(f"{ours[-1]['label']} beside {opus['label']}: {said}")
    return f"In the means, {'. '.join(told)}." if told else None


def _better(ours: dict[str, float], theirs: dict[str, float], higher: bool) -> bool:
    return (ours["mean"] > theirs["mean"]) == higher


def draw(figures: Figures, folder: Path) -> None:
    """A panel for each measure over the bitrate, ours and Opus and the recording's score as a line; the last shows the codebooks."""
    names = [name for name in _NAMES if name not in figures["missing"]]
    count = len(names) + 1
    with picture(folder / "quality.png", 13, 3.3 * -(-count // 4)) as figure:
        panels = figure.subplots(-(-count // 4), 4, squeeze=False).ravel()
        for axes, name in zip(panels, names, strict=False):
            for codec, colour, label in (("ours", "tab:blue", figures["model"]), ("opus", "tab:orange", "Opus")):
                rows = [row for row in figures["rows"] if row["codec"] == codec and row["scores"][name] is not None]
                found = [row["scores"][name] for row in rows]
                reach = [[f["mean"] - f["low"] for f in found], [f["high"] - f["mean"] for f in found]]
                if rows:
                    x = [row["kbps"] for row in rows]
                    axes.errorbar(x, [f["mean"] for f in found], reach, fmt="o-", color=colour, ms=4, lw=1.2, capsize=2, label=label)
            ceiling = figures["rows"][-1]["scores"][name]
            if ceiling is not None:
                axes.axhline(ceiling["mean"], color="0.5", ls="--", lw=1, label="the recording")
            axes.set_xscale("log")
            axes.set_xticks([1.5, 3, 6, 12, 24], ["1.5", "3", "6", "12", "24"])
            axes.minorticks_off()
            axes.set(title=_title(name) + ("" if MEASURES[name].higher_is_better else " (less is better)"), xlabel="kbps")
        panels[0].legend(fontsize=8, frameon=False)
        books, number = figures["codebooks"], len(names)
        panels[number].bar(range(1, len(books) + 1), [book["perplexity"] for book in books], color="tab:blue")
        panels[number].axhline(figures["codebook_size"], color="0.5", ls="--", lw=1)
        panels[number].set(title="perplexity of each codebook", xlabel="codebook")
        for axes in panels[count:]:
            axes.set_visible(False)


BENCHMARK = Benchmark(
    name="quality",
    title="How it sounds",
    question="How does held-out speech sound at every bandwidth, beside Opus and beside the recording itself?",
    options=add_options,
    measure=measure_all,
    render=render,
    draw=draw,
    headlines=headlines,
)
