"""What a run of `benchmarks.precision` takes, its figures, and how they are told."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import heldout
from benchmarks.harness.machine import Observed
from benchmarks.harness.plots import picture
from benchmarks.harness.run import Benchmark, Headline
from benchmarks.harness.sections import Figures
from benchmarks.harness.tables import table
from benchmarks.quality.measures import MEASURES, Scores, check_rate, differences, mean, measure, missing, scorers, versions
from streamcodec.codec import Codec, load
from streamcodec.engine.openvino.engine import has_bf16
from streamcodec.types import Codes, Samples

__all__ = ["BENCHMARK", "measure_precision", "render"]


_PACKET_FRAMES = 6

# By how much the mean scores of two precisions may differ.
_LIMITS = {"sisdr": 0.05, "pesq": 0.02, "visqol": 0.02}

# Which engine encodes and which decodes; all are compared with the first.
_WAYS = {
    "fp32": ("fp32", "fp32"),
    "bf16": ("bf16", "bf16"),
    "bf16 encoder": ("bf16", "fp32"),
    "bf16 decoder": ("fp32", "bf16"),
    "torch fp32": ("torch", "torch"),
}

_MET, _UNSURE, _MISSED = "met", "met in the mean, not over the interval", "missed"


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    heldout.add_options(parser)
    parser.add_argument("--model", default="speech-24k", help="embedded name, checkpoint or hub id")
    parser.add_argument("--bandwidth", type=float, nargs="+", help="kbps (default: all of the model's)")


def measure_all(args: argparse.Namespace, observed: Observed) -> Figures:
    """Score what the command line asks for."""
    clips = heldout.chosen(args, music=False)
    with observed:
        return measure_precision(args.model, clips, args.bandwidth)


# Measuring ---------------------------------------------------------------------------------------------------------------------------


def measure_precision(model: str, clips: Sequence[heldout.Clip], bandwidths: Sequence[float] | None) -> Figures:
    """All figures of the section."""
    codecs = {
        "fp32": load(model, engine="openvino", precision="fp32"),
        "bf16": load(model, engine="openvino", precision="bf16"),
        "torch": load(model, engine="torch"),
    }
    config = codecs["fp32"].config
    check_rate(config.sampling_rate)
    wanted = bandwidths or list(config.target_bandwidths)
    return {
        "model": model,
        "engines": {name: codec.engine.name for name, codec in codecs.items()},
        "processor_has_bf16": has_bf16(),
        "rate": config.sampling_rate,
        "packet_ms": 1000 * _PACKET_FRAMES / config.frame_rate,
        "limits": dict(_LIMITS),
        "clips": heldout.describe(clips),
        "missing": missing(_LIMITS),
        "scored_with": versions(_LIMITS),
        "rows": [row for kbps in wanted for row in _at(kbps, codecs, clips)],
    }


def _at(kbps: float, codecs: dict[str, Codec], clips: Sequence[heldout.Clip]) -> list[dict[str, Any]]:
    """One bandwidth's rows, one for each way."""
    scores: dict[str, list[Scores]] = {way: [] for way in _WAYS}
    differing: dict[str, list[float]] = {name: [] for name in codecs}
    for clip in clips:
        packets = {name: encoded(codec, clip.samples, kbps) for name, codec in codecs.items()}
        joined = {name: np.concatenate(parts, axis=1) for name, parts in packets.items()}
        for name, codes in joined.items():
            differing[name].append(float((codes != joined["fp32"]).mean()))
        for way, (encoder, decoder) in _WAYS.items():
            heard = decoded(codecs[decoder], packets[encoder], kbps)
            scores[way].append(measure(list(_LIMITS), clip.samples, heard))
    return [
        {
            "kbps": kbps,
            "way": way,
            "codes_differ": float(np.mean(differing[encoder])),
            "scores": {name: _mean(name, scores[way], scores["fp32"]) for name in _LIMITS},
            "undefined": _undefined(clips, scores[way]),
        }
        for way, (encoder, _) in _WAYS.items()
    ]


def _mean(name: str, scores: Sequence[Scores], yardstick: Sequence[Scores]) -> dict[str, Any] | None:
    """A measure's mean over the clips, and the mean of the clips' differences from the yardstick; None where no clip has both."""
    values = [score.values[name] for score in scores if name in score.values]
    difference = mean(differences(name, scores, yardstick))
    return None if difference is None else {"mean": float(np.mean(values)), "difference": asdict(difference)}


def _undefined(clips: Sequence[heldout.Clip], scores: Sequence[Scores]) -> list[dict[str, str]]:
    """Which clip has no score by which measure, and why; a package that is missing is told once, not for each clip."""
    absent = missing(_LIMITS)
    return [
        {"clip": clip.name, "measure": name, "why": why}
        for clip, score in zip(clips, scores, strict=True)
        for name, why in score.undefined.items()
        if name not in absent
    ]


def encoded(codec: Codec, clip: Samples, kbps: float) -> list[Codes]:
    """A clip's packets of 80 ms from a live stream's encoder."""
    encoder = codec.stream_encoder(kbps, packet_frames=_PACKET_FRAMES)
    block = _PACKET_FRAMES * codec.hop_length
    packets = [packet for at in range(0, len(clip), block) for packet in encoder.feed(clip[at : at + block])]
    return packets + encoder.flush()


def decoded(codec: Codec, packets: Sequence[Codes], kbps: float) -> Samples:
    """The samples that a live stream's decoder makes of the packets, one after the other."""
    decoder = codec.stream_decoder(kbps)
    return np.concatenate([*(decoder.feed(packet) for packet in packets), decoder.flush()])


# Telling -----------------------------------------------------------------------------------------------------------------------------


def verdict(difference: dict[str, float], limit: float) -> str:
    """Whether a mean difference, and its whole interval, stays under the limit."""
    if abs(difference["mean"]) >= limit:
        return _MISSED
    return _MET if max(abs(difference["low"]), abs(difference["high"])) < limit else _UNSURE


def render(figures: Figures) -> str:
    """The section's text, from its figures alone."""
    names = [name for name in figures["limits"] if name not in figures["missing"]]
    limits = ", ".join(f"{limit:g} {MEASURES[name].unit} of {MEASURES[name].title}" for name, limit in figures["limits"].items())
    rows, bandwidths = figures["rows"], list(dict.fromkeys(row["kbps"] for row in figures["rows"]))
    engines, scored = figures["engines"], scorers(figures["scored_with"])
    text = (
        f"Live streams through `{figures['model']}` in packets of {figures['packet_ms']:g} ms, encoded and decoded in bf16 and in fp32 "
        f"({engines['fp32']}; {engines['bf16']}); `torch fp32` ({engines['torch']}) shows what another fp32 engine changes. "
        f"{heldout.tell(figures['clips'], figures['rate'])}. The target: the mean scores of bf16 against the original differ from those "
        f"of fp32 by less than {limits}. Differences are bf16 less fp32, clip by clip, with the mean's 95% interval (bootstrap over the "
        f"clips; scored with {scored})."
    )
    if figures["model"] == "speech-24k":
        text += (
            " This is the embedded model: the published full-size one's trained weights were not at hand, and `--model "
            "facebook/encodec_24khz` measures it where they are."
        )
    if not figures["processor_has_bf16"]:
        text += " **This processor has no bf16 arithmetic, so these figures do not say what bf16 costs.**"
    for name, why in figures["missing"].items():
        text += f" {MEASURES[name].title} was not measured: {why}."
    both = {row["kbps"]: row for row in rows if row["way"] == "bf16"}
    yardstick = {row["kbps"]: row for row in rows if row["way"] == "fp32"}
    header = ["kbps", "codes that differ", *(f"{MEASURES[name].title}, fp32, and bf16 less fp32" for name in names), "target"]
    cells = [
        [
            f"{kbps:g}",
            f"{100 * both[kbps]['codes_differ']:.1f}%",
            *(_score(yardstick[kbps], both[kbps], name) for name in names),
            _verdicts(both[kbps], names, figures["limits"]),
        ]
        for kbps in bandwidths
    ]
    parts = [text, table(header, cells), _summary(both, names, figures["limits"])]
    others = list(dict.fromkeys(row["way"] for row in rows if row["way"] not in ("fp32", "bf16")))
    cells = [
        [f"{row['kbps']:g} kbps, {row['way']}", f"{100 * row['codes_differ']:.2f}%", *(_difference(row, name) for name in names)]
        for kbps in bandwidths
        for row in rows
        if row["kbps"] == kbps and row["way"] in others
    ]
    parts.append("Where the difference comes from: one side alone in bf16, and another fp32 engine, each less fp32.")
    parts.append(table(["", "codes that differ", *(MEASURES[name].title for name in names)], cells))
    undefined = [(row, entry) for row in rows for entry in row["undefined"]]
    if undefined:
        told = "; ".join(
            f"{entry['clip']} at {row['kbps']:g} kbps, {row['way']}: {entry['measure']} ({entry['why']})" for row, entry in undefined
        )
        parts.append(f"{len(undefined)} scores are not defined and count in no mean: {told}.")
    return "\n\n".join(parts) + "\n\n![Differences from fp32 by bandwidth, with intervals and limits](precision.png)\n"


def headlines(figures: Figures) -> list[Headline]:
    """By how much PESQ differs in bf16, at the bandwidth where it differs most."""
    rows = [row for row in figures["rows"] if row["way"] == "bf16" and row["scores"].get("pesq")]
    if not rows:
        return []
    worst = max(rows, key=lambda row: abs(row["scores"]["pesq"]["difference"]["mean"]))
    what = f"PESQ-WB in bf16 less fp32, the most at any bandwidth ({worst['kbps']:g} kbps)"
    return [Headline(what, f"{worst['scores']['pesq']['difference']['mean']:+.4f}")]


def _score(yardstick: dict[str, Any], row: dict[str, Any], name: str) -> str | None:
    score = yardstick["scores"][name]
    return None if score is None else f"{score['mean']:.{MEASURES[name].digits}f}; {_difference(row, name)}"


def _difference(row: dict[str, Any], name: str) -> str | None:
    score = row["scores"][name]
    if score is None:
        return None
    found, digits = score["difference"], MEASURES[name].digits + 1
    mean, low, high = (f"{found[which]:+.{digits}f}" for which in ("mean", "low", "high"))
    return f"{mean} ({low} to {high})"


def _verdicts(row: dict[str, Any], names: Sequence[str], limits: dict[str, float]) -> str:
    """What of the target this bandwidth meets: one word where all measures agree."""
    found = {name: verdict(row["scores"][name]["difference"], limits[name]) for name in names if row["scores"][name] is not None}
    if set(found.values()) <= {_MET}:
        return _MET if found else "not measured"
    return "; ".join(f"{MEASURES[name].title} {what}" for name, what in found.items() if what != _MET)


def _summary(both: dict[float, dict[str, Any]], names: Sequence[str], limits: dict[str, float]) -> str:
    """The verdicts counted, and the target's misses in numbers."""
    found = [
        (name, kbps, row["scores"][name]["difference"]) for kbps, row in both.items() for name in names if row["scores"][name] is not None
    ]
    judged = [(name, kbps, difference, verdict(difference, limits[name])) for name, kbps, difference in found]
    counts = [f"{what} in {count}" for what in (_MET, _UNSURE, _MISSED) if (count := sum(j[3] == what for j in judged))]
    text = f"Of {len(judged)} targets (a measure at a bandwidth): {', '.join(counts)}."
    missed = [
        f"{MEASURES[name].title} at {kbps:g} kbps with {difference['mean']:+.{MEASURES[name].digits + 1}f} {MEASURES[name].unit}"
        for name, kbps, difference, what in judged
        if what == _MISSED
    ]
    return f"{text} Missed: {', '.join(missed)}." if missed else text


def draw(figures: Figures, folder: Path) -> None:
    """A panel for each measure: the mean difference from fp32 over the bandwidth, its interval, and the limits in grey."""
    names = [name for name in figures["limits"] if name not in figures["missing"]]
    with picture(folder / "precision.png", 4.3 * max(1, len(names)), 3.6) as figure:
        colours = {"bf16": "tab:blue", "bf16 encoder": "tab:orange", "bf16 decoder": "tab:green", "torch fp32": "0.45"}
        for axes, name in zip(np.atleast_1d(figure.subplots(1, max(1, len(names)))), names, strict=False):
            limit = figures["limits"][name]
            axes.axhspan(-limit, limit, color="0.93", zorder=0)
            axes.axhline(0, color="0.7", lw=0.8)
            for at, (way, colour) in enumerate(colours.items()):
                rows = [row for row in figures["rows"] if row["way"] == way and row["scores"][name] is not None]
                found = [row["scores"][name]["difference"] for row in rows]
                x = [row["kbps"] * 1.05 ** (at - 1.5) for row in rows]
                reach = [[f["mean"] - f["low"] for f in found], [f["high"] - f["mean"] for f in found]]
                axes.errorbar(x, [f["mean"] for f in found], reach, fmt="o-", color=colour, ms=3.5, lw=1, capsize=2, label=way)
            ticks = sorted({row["kbps"] for row in figures["rows"]})
            axes.set_xscale("log")
            axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
            axes.minorticks_off()
            axes.set(title=f"{MEASURES[name].title}, less fp32's", xlabel="kbps", ylabel=MEASURES[name].unit)
        figure.axes[0].legend(fontsize=8, frameon=False)


BENCHMARK = Benchmark(
    name="precision",
    title="bf16 against fp32 on real speech",
    question="What does bf16 cost in sound, against fp32, on held-out speech at every bandwidth?",
    options=add_options,
    measure=measure_all,
    render=render,
    draw=draw,
    headlines=headlines,
)
