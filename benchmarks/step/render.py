"""The section `step` in words and tables, from its figures alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.harness.models import FULL_SIZE
from benchmarks.harness.parity import told
from benchmarks.harness.run import Headline
from benchmarks.harness.sections import Figures
from benchmarks.harness.tables import percent, table
from benchmarks.step.candidates import LYRA, STREAMING_PEERS

__all__ = ["batches", "candidate_name", "excess", "headlines", "main_steps", "render", "streams"]

Row = dict[str, Any]

_ENGINES = {"openvino": "OpenVINO", "torch": "torch", "onnx": "ONNX Runtime"}
_PARTS = {
    "convolutions": "convolutions",
    "lstm": "LSTM",
    "elementwise": "ELU, sums",
    "moving": "moving data",
    "other": "other operations",
    "between": "between operations",
    "search": "codebook search",
    "outside": "outside the network",
}
_REST = {
    "convolutions": "convolutions below the peak's pace",
    "lstm": "the LSTM below the peak's pace",
    "elementwise": "ELU and sums",
    "moving": "moving data",
    "other": "other operations",
    "between": "the network between its operations",
    "search": "the codebook search below the peak's pace",
    "outside": "what surrounds the network",
}
_MEASURES = {
    "realtime": "times real time",
    "packages_80_ms": "times the packages' 80 ms call",
    "transformers_clip": "times `transformers` on whole clips",
}


def render(figures: Figures) -> str:
    """The section's text, from its figures alone."""
    parts = [_how(figures), "### Targets", _targets(figures), "### Steps", *_steps(figures)]
    parts += ["![Times real time of each candidate](step.png)", *_small(figures), _clips(figures), *_threads(figures)]
    parts += ["### How close to the machine's peak", *_peak(figures)]
    if figures["profile"]:
        parts += ["### Where the time goes", *_profile(figures)]
    return "\n\n".join([*parts, "### More streams per step", *_batches(figures)]) + "\n"


def headlines(figures: Figures) -> list[Headline]:
    """The full-size model's steps, each beside the quickest call of another on the same audio."""
    found = []
    for batch in figures["batches"]:
        for operation in ("encode", "decode"):
            rows = [row for row in main_steps(figures, batch) if row["operation"] == operation]
            ours = min((row for row in rows if row["ours"] and row["who"] == FULL_SIZE), key=_median_ms)
            other = min((row for row in rows if not row["ours"] and row["who"] != LYRA), key=_median_ms, default=None)
            what = f"{operation} {_ms(figures, figures['frames'])}, full-size model, {streams(batch)}, {figures['threads']} thread(s)"
            told = f"{_median_ms(ours):.1f} ms ({_ENGINES[ours['engine']]} {ours['precision']})"
            best = None if other is None else f"{_median_ms(other):.1f} ms ({candidate_name(other)})"
            found.append(Headline(what, told, best))
    return found + _smaller(figures)


def _smaller(figures: Figures) -> list[Headline]:
    """Encode and decode together: the smaller of our models beside Lyra, where that was measured."""
    rows = main_steps(figures, 1)
    theirs = [row for row in rows if row["who"] == LYRA]
    ours = [row for row in rows if row["ours"] and row["who"] != FULL_SIZE]
    if not theirs or not ours:
        return []
    quickest = [min((row for row in ours if row["operation"] == operation), key=_median_ms) for operation in ("encode", "decode")]
    what = f"encode and decode {_ms(figures, figures['frames'])}, {ours[0]['who']}, one stream, {figures['threads']} thread(s)"
    told, best = (f"{sum(map(_median_ms, found)):.1f} ms" for found in (quickest, theirs))
    return [Headline(what, told, f"{best} ({LYRA})")]


def _median_ms(row: Row) -> float:
    return float(row["ms"]["p50"])


# Choosing rows -----------------------------------------------------------------------------------------------------------------------


def streams(batch: int) -> str:
    """`batch` streams, in words."""
    return "one stream" if batch == 1 else f"{batch} streams"


def candidate_name(row: Row) -> str:
    """What ran: a model of ours and its engine, or a peer and how it was called."""
    if row["ours"]:
        return f"**ours, {row['who']}, {_ENGINES[row['engine']]} {row['precision']}**"
    if row["who"] in STREAMING_PEERS:
        return f"{row['who']}, streaming"
    return f"`{row['who']}`, full size, {'each packet alone' if row['kind'] == 'step' else 'whole'}"


def main_steps(figures: Figures, batch: int) -> list[Row]:
    """The steps of all candidates at `batch` streams, on packets of the size that all of them ran."""
    return [
        row
        for row in figures["rows"]
        if row["kind"] == "step" and row["batch"] == batch and row["threads"] == figures["threads"]
        if row["frames"] == figures["frames"] or row["who"] in STREAMING_PEERS
    ]


def batches(figures: Figures) -> list[Row]:
    """The full-size model's steps on the engine that ran all batches, by batch."""
    rows = [row for row in figures["rows"] if row["ours"] and row["who"] == FULL_SIZE and row["kind"] == "step"]
    rows = [r for r in rows if (r["engine"], r["frames"], r["threads"]) == (rows[0]["engine"], figures["frames"], figures["threads"])]
    return sorted(rows, key=lambda row: int(row["batch"]))


def _ms(figures: Figures, frames: int) -> str:
    return f"{1000 * frames * figures['frame_s']:.0f} ms"


# Parts of the section ----------------------------------------------------------------------------------------------------------------


def _how(figures: Figures) -> str:
    agreement = figures["agreement"]
    text = (
        f"{figures['bandwidth']:g} kbps with RVQ, {figures['threads']} thread(s) unless said otherwise. *Ours* carries its state from step "
        f"to step ({', '.join(figures['engines'])}); the packages' calls, in `torch.inference_mode`, are each on their own, so their "
        "packets do not join; their whole clips are what they are made for. `full size` and the packages are the published architecture "
        f"with random weights; ours, fed as a stream in {agreement['precision']}, gives the codes that `transformers` gives for the whole "
        f"clip (differing: {told(agreement['differing'], agreement['near_ties'])}), and the same codes decode within "
        f"{agreement['max_error']:.0e}. "
    )
    if figures["mimi"]:
        text += (
            f"Mimi (the package `moshi` {figures['mimi']}, random weights) runs as its README says: `mimi.streaming`, `torch.no_grad`, one "
            "80 ms frame of 8 codebooks per call, 1.1 kbps; it is another model, so its times say what else one could run, not how well it "
            "is run. "
        )
    else:
        text += (
            "Mimi was not measured here: its package's pins are not ours, so it takes `pip install --no-deps moshi==0.2.13 sentencepiece`. "
        )
    if any(row["who"] == LYRA for row in figures["rows"]):
        text += (
            f"{LYRA} is a smaller model for 16 kHz with 8-bit weights in TensorFlow Lite, so it compares with the smaller of ours; its "
            f"stream takes four frames of 20 ms per call, at {figures['bandwidth']:g} kbps. "
        )
    calls = ", ".join(f"{_calls(main_steps(figures, batch))} of steps of {streams(batch)}" for batch in figures["batches"])
    clips = _calls([row for row in figures["rows"] if row["kind"] == "clip"])
    return text + (
        f"All candidates, the products that make the machine's peak among them, took turns in one run of {figures['rounds']} rounds; calls "
        f"of each that were timed: {calls}, {clips} of whole clips."
    )


def _calls(rows: Sequence[Row]) -> str:
    found = sorted({row["calls"] for row in rows})
    return " to ".join(f"{calls}" for calls in (found[:1] + found[-1:] if len(found) > 1 else found))


def _targets(figures: Figures) -> str:
    rows = []
    for target in figures["targets"]:
        what = f"{target['operation']}, {streams(target['batch'])}, {target['precision']}: {_MEASURES[target['measure']]}"
        reached, met = target["reached"], {True: "yes", False: "**no**", None: "not measured"}[target["met"]]
        rows.append([what, f"{target['goal']:g}", None if reached is None else f"{reached:.2f}", met])
    return "One core, full-size model, 80 ms per step; the best of our engines in each precision.\n\n" + table(
        ["target", "at least", "reached", "met"], rows
    )


def _steps(figures: Figures) -> list[str]:
    found = [
        "The last column is the time of the quicker package's call on the same audio, divided by this row's: only full size compares like "
        "with like. GMAC/s are the model's own multiplications, search included, over the median; the peak is that of the row's precision."
    ]
    for batch in figures["batches"]:
        for operation in ("encode", "decode"):
            rows = [row for row in main_steps(figures, batch) if row["operation"] == operation]
            packages = [row["realtime"] for row in rows if row["who"] in ("encodec", "transformers")]
            best = max(packages, default=None)
            header = [f"{operation}, {_ms(figures, figures['frames'])}, {streams(batch)}", "median ms", "p99 ms", "x real time"]
            cells = [
                [
                    *[candidate_name(row), f"{row['ms']['p50']:.2f}", f"{row['ms']['p99']:.2f}", f"{row['realtime']:.1f}"],
                    *[row.get("gmacs"), percent(row.get("of_peak")), None if best is None else f"{row['realtime'] / best:.2f}"],
                ]
                for row in rows
            ]
            found.append(table([*header, "GMAC/s", "of the peak", "against the packages"], cells))
    return found


def _small(figures: Figures) -> list[str]:
    first = next(row for row in figures["rows"] if row["ours"])
    same = ("ours", "engine", "precision", "threads", "batch")
    rows = [row for row in figures["rows"] if row["kind"] == "step" and all(row[key] == first[key] for key in same)]
    rows.sort(key=lambda row: (row["operation"] != "encode", row["who"] == FULL_SIZE, row["frames"]))
    if len({row["frames"] for row in rows}) < 2:
        return []
    cells = [
        [f"{row['operation']}, **{row['who']}**, {_ms(figures, row['frames'])}", f"{row['ms']['p50']:.2f}", f"{row['realtime']:.1f}"]
        for row in rows
    ]
    what = f"packets by size, {streams(first['batch'])}, {_ENGINES[first['engine']]} {first['precision']}"
    return [table([what, "median ms", "x real time"], cells)]


def _clips(figures: Figures) -> str:
    rows = [row for row in figures["rows"] if row["kind"] == "clip"]
    cells = [[f"{candidate_name(r)}, {r['operation']}", f"{r['ms']['p50']:.0f}", f"{r['realtime']:.1f}", r.get("gmacs")] for r in rows]
    return table([f"whole clip, {figures['clip_s']:g} s", "median ms", "x real time", "GMAC/s"], cells)


def _threads(figures: Figures) -> list[str]:
    base = figures["threads"]
    rows = [r for r in figures["rows"] if r["threads"] != base]
    cells = []
    for row in rows:
        alone = next(
            r
            for r in figures["rows"]
            if r["threads"] == base and all(r[k] == row[k] for k in ("who", "engine", "precision", "operation", "kind", "batch", "frames"))
        )
        what = f"{row['operation']}, {streams(row['batch'])}, {row['threads']} threads"
        cells.append([what, f"{row['ms']['p50']:.2f}", f"{row['realtime']:.1f}", f"{row['realtime'] / alone['realtime']:.2f}"])
    if not cells:
        return []
    what = f"more threads, full size, {_ENGINES[rows[0]['engine']]} {rows[0]['precision']}"
    return [table([what, "median ms", "x real time", f"against {base} thread(s)"], cells)]


def _peak(figures: Figures) -> list[str]:
    macs = figures["macs_per_s"]
    costs = [[model, *(sum(ops["encode"][:2]) / 1e6, ops["encode"][2] / 1e6, sum(ops["decode"]) / 1e6)] for model, ops in macs.items()]
    cells = [[f"{_ENGINES[r['engine']]} {r['precision']}, {r['size']} x {r['size']}", r["gmacs"]] for r in figures["gemm"]]
    best = ", ".join(f"{peak['gmacs']:.0f} GMAC/s in {precision}" for precision, peak in sorted(figures["peak"].items(), reverse=True))
    return [
        f"The best of these products, on as many threads as a model has, counts as the machine's peak: {best}. The share of it that each "
        "step reaches stands in the tables above.",
        table(["square matrices", "GMAC/s"], cells),
        table(["million MACs per second of audio", "encoder", "search", "decoder"], costs),
    ]


# Where the time goes -----------------------------------------------------------------------------------------------------------------


def excess(figures: Figures, row: Row) -> dict[str, float]:
    """Shares of a profiled step: `peak` is what its products would take at the peak's pace, the others what each part takes beyond that."""
    audio_s = row["batch"] * row["frames"] * figures["frame_s"]
    work = dict(zip(("convolutions", "lstm", "search"), figures["macs_per_s"][row["who"]][row["operation"]], strict=True))
    ms, found, ideal = row["ms"], {}, 0.0
    for part in _PARTS:
        # The search runs in fp32 whatever the rest runs in.
        peak = figures["peak"]["fp32" if part == "search" else row["precision"]]["gmacs"]
        least = min(ms[part], work.get(part, 0.0) * audio_s / peak / 1e6)
        found[part] = (ms[part] - least) / ms["step"]
        ideal += least / ms["step"]
    return {"peak": ideal} | found


def _profile(figures: Figures) -> list[str]:
    shown = [part for part in _PARTS if any(row["ms"][part] > 0 for row in figures["profile"])]
    cells, words, slower = [], [], []
    for row in figures["profile"]:
        what = f"{row['operation']}, {streams(row['batch'])}, {row['precision']}"
        ms = row["ms"]
        rates = [_rate(figures, row, part) for part in ("convolutions", "lstm")]
        cells.append([what, f"{ms['step']:.2f}", *(percent(ms[part] / ms["step"]) for part in shown), *map(percent, rates)])
        lost = excess(figures, row)
        largest = sorted(_PARTS, key=lambda part: -lost[part])[:3]
        listed = ", ".join(f"{_REST[part]} ({100 * lost[part]:.0f}%)" for part in largest)
        words.append(
            f"- {what}: {100 * lost['peak']:.0f}% of the step is what its products take at the peak's pace; "
            f"the largest parts of the rest are {listed}."
        )
        same = ("who", "engine", "precision", "operation", "kind", "batch", "frames", "threads")
        uncounted = next(r for r in figures["rows"] if all(r[key] == row[key] for key in same))
        slower.append(ms["step"] / uncounted["ms"]["p50"])
    header = ["full size, OpenVINO", "mean ms", *(_PARTS[part] for part in shown), "convolutions at", "LSTM at"]
    return [
        "Shares of a step by OpenVINO's own count of each operation (a convolution with what is fused into it; the LSTM with all of its "
        "layer), by the clock around each operation of a compiled program, and by the clock around all of them and the search. "
        "*Between operations* is a network's time beyond its operations; the last two columns are shares of the peak. These steps ran by "
        "themselves, behind the others, and took "
        f"{min(slower):.2f} to {max(slower):.2f} times their median above, counting included.",
        table(header, cells),
        "\n".join(words),
    ]


def _rate(figures: Figures, row: Row, part: str) -> float | None:
    """The share of the peak that a part's products reach; None where they took no time."""
    work = dict(zip(("convolutions", "lstm", "search"), figures["macs_per_s"][row["who"]][row["operation"]], strict=True))
    if not row["ms"][part]:
        return None
    audio_s = row["batch"] * row["frames"] * figures["frame_s"]
    return float(work[part] * audio_s / row["ms"][part] / 1e6 / figures["peak"][row["precision"]]["gmacs"])


def _batches(figures: Figures) -> list[str]:
    swept = batches(figures)
    sizes: Sequence[int] = sorted({row["batch"] for row in swept})
    cells = []
    for operation in ("encode", "decode"):
        for precision in sorted({row["precision"] for row in swept}, reverse=True):
            rows = {r["batch"]: r for r in swept if (r["operation"], r["precision"]) == (operation, precision)}
            times = [f"{rows[size]['ms']['p50'] / size:.2f}" if size in rows else None for size in sizes]
            cells.append([f"{operation}, {precision}, ms per stream", *times])
            cells.append(
                [f"{operation}, {precision}, of the peak", *(percent(rows[size]["of_peak"]) if size in rows else None for size in sizes)]
            )
    what = f"full size, {_ENGINES[swept[0]['engine']]}, {_ms(figures, figures['frames'])}"
    picture = "![What a stream costs, and the share of the peak, by streams per step](step_batches.png)"
    return [table([what, *(streams(size) for size in sizes)], cells), picture]
