"""What the section on quality says of its figures, and the picture of their scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import heldout
from benchmarks.harness.plots import picture
from benchmarks.harness.run import Headline
from benchmarks.harness.sections import Figures
from benchmarks.harness.tables import table
from benchmarks.quality.measures import LEARNT_BY, MEASURES, scorers

__all__ = ["NAMES", "draw", "headlines", "render"]

NAMES = ("distillmos", "plcmos", "dnsmos", "pesq", "visqol", "stoi", "sisdr", "mel")
_CURVES = (("ours", "tab:blue", ""), ("before", "tab:gray", "before"), ("opus", "tab:orange", "Opus"), ("lyra", "tab:green", "Lyra V2"))


def render(figures: Figures) -> str:
    """The section's text, from its figures alone."""
    rows = figures["rows"]
    names = [name for name in NAMES if name not in figures["missing"]]
    scored = scorers(figures["scored_with"])
    text = (
        f"`{figures['model']}` ({figures['engine']}), {heldout.tell(figures['clips'], figures['rate'])}. Scores are means over the speech, "
        "± half of their 95% interval (bootstrap over the clips), against the recording; Distill-MOS, PLCMOS and DNSMOS hear the output "
        f"alone, and nothing here learnt by them. {LEARNT_BY}. Scored with {scored}."
    )
    opus = [row for row in rows if row["codec"] == "opus"]
    if opus:
        files = " to ".join(f"{row['file_kbps']:.1f}" for row in (opus[0], opus[-1])[: len(opus)])
        text += (
            f" Opus{_named(figures['opus_versions'])} codes for speech at complexity 10, at each bitrate in the best of these ways: "
            f"{'; '.join(figures['opus_ways'])}; its output is brought into step with the recording (by up to "
            f"{max(row['max_lag_ms'] for row in opus):.1f} ms); its kbps are those of its packets, as ours are those of the codes; with "
            f"the Ogg file around them they are {files}."
        )
    if figures["opus_skipped"]:
        text += f" Opus was not measured: {figures['opus_skipped']}."
    if figures["lyra_skipped"]:
        text += f" Lyra was not measured: {figures['lyra_skipped']}."
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
    parts.append("![Scores over the bitrate, ours and its rivals, and the codebooks' use](quality.png)")
    return "\n\n".join(parts) + "\n"


def _named(versions: dict[str, str]) -> str:
    return f" ({scorers(versions)})" if versions else ""


def _title(name: str) -> str:
    unit = MEASURES[name].unit
    return f"{MEASURES[name].heading}, {unit}" if unit in ("dB", "nepers") else MEASURES[name].heading


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


def draw(figures: Figures, folder: Path) -> None:
    """A panel for each measure over the bitrate, ours and Opus and the recording's score as a line; the last shows the codebooks."""
    names = [name for name in NAMES if name not in figures["missing"]]
    count = len(names) + 1
    with picture(folder / "quality.png", 13, 3.3 * -(-count // 4)) as figure:
        panels = figure.subplots(-(-count // 4), 4, squeeze=False).ravel()
        for axes, name in zip(panels, names, strict=False):
            for codec, colour, label in _CURVES:
                rows = [row for row in figures["rows"] if row["codec"] == codec and row["scores"][name] is not None]
                found = [row["scores"][name] for row in rows]
                reach = [[f["mean"] - f["low"] for f in found], [f["high"] - f["mean"] for f in found]]
                if rows:
                    x = [row["kbps"] for row in rows]
                    axes.errorbar(
                        x,
                        [f["mean"] for f in found],
                        reach,
                        fmt="o-",
                        color=colour,
                        ms=4,
                        lw=1.2,
                        capsize=2,
                        label=label or figures["model"],
                    )
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
