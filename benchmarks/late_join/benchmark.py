"""What a run of `benchmarks.late_join` takes, its figures, and how they are told."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks import heldout
from benchmarks.harness.machine import Observed
from benchmarks.harness.models import Loading
from benchmarks.harness.plots import picture
from benchmarks.harness.run import Benchmark, Headline
from benchmarks.harness.sections import Figures
from benchmarks.harness.tables import table
from streamcodec.audio import bundled_clip
from streamcodec.codec import Codec
from streamcodec.types import Codes, Samples

__all__ = ["BENCHMARK", "join_errors", "render"]


_HISTORY_MS = (0, 80, 240, 500, 1000, 2000, 4000)
_SPANS_MS = (240, 1000)
_WANTED_DB = 30.0
_BEST_DB = 120.0
_QUIET = 1e-4  # RMS: of what is silent there is no ratio


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    add = parser.add_argument
    add("--model", default="speech-24k")
    add("--bandwidth", type=float, nargs="+", default=[6.0], help="kbps, one or more")
    add("--packet-frames", type=int, default=6)
    add("--history-ms", type=int, nargs="+", default=list(_HISTORY_MS))
    add("--joins", type=int, default=40, help="points of each stream at which somebody joins")
    add("--streams", type=int, default=4, help="of the corpus: clips one after the other, about half a minute each")
    add("--corpus", type=Path, help="from `python -m benchmarks.heldout`; without it the bundled clip is all there is")
    add("--seed", type=int, default=0)


def measure_all(args: argparse.Namespace, observed: Observed) -> Figures:
    """Join all streams as late as the command line asks for."""
    from streamcodec.server.limits import Limits

    codec = Loading(args.model)()
    sounds: list[Samples] = [np.resize(bundled_clip()[0], 24 * codec.sample_rate)]
    if args.corpus is not None:
        clips = [clip.samples for clip in heldout.select(heldout.Corpus(args.corpus), "speech", 5 * args.streams, args.seed)]
        sounds += [np.concatenate(clips[at :: args.streams]) for at in range(args.streams)]
    with observed:
        errors = {
            f"{kbps:g}": np.concatenate(
                [
                    join_errors(codec, sound, kbps, args.packet_frames, args.history_ms, args.joins, args.seed + i)
                    for i, sound in enumerate(sounds)
                ]
            )
            for kbps in args.bandwidth
        }
    return _figures(args.history_ms, errors) | {
        "model": args.model,
        "packet_ms": 1000 * args.packet_frames / codec.frame_rate,
        "streams": len(sounds),
        "streams_s": sum(len(sound) for sound in sounds) / codec.sample_rate,
        "corpus": args.corpus is not None,
        "joins": args.joins,
        "default_ms": round(1000 * Limits().history_s),
    }


def join_errors(
    codec: Codec, sound: Samples, kbps: float, packet_frames: int, history_ms: Sequence[int], joins: int, seed: int
) -> npt.NDArray[np.float64]:
    """SNR in dB [joins, histories, spans] of what late listeners of `sound` [T] play, against one from the start; NaN in silence."""
    encoder = codec.stream_encoder(kbps)
    codes = np.concatenate([*encoder.feed(sound), *encoder.flush()], axis=1)
    reference = codec.stream_decoder(kbps).feed(codes)
    packets = codes.shape[1] // packet_frames
    # As the server counts: whole packets, and at least what was asked for.
    lengths = [-(-round(ms * codec.frame_rate) // (1000 * packet_frames)) for ms in history_ms]
    played = -(-round(max(_SPANS_MS) * codec.frame_rate) // (1000 * packet_frames))
    first, last = max(lengths) + 1, packets - played
    if last < first:
        raise ValueError(f"the sound is {packets} packets long, and its history and what is played take {first + played}")
    points = np.random.default_rng(seed).choice(np.arange(first, last + 1), min(joins, last + 1 - first), replace=False)
    found = np.full((len(points), len(lengths), len(_SPANS_MS)), np.nan)
    for i, point in enumerate(np.sort(points)):
        for j, length in enumerate(lengths):
            late = _join(codec, codes, kbps, int(point), length, played, packet_frames)
            begin = int(point) * packet_frames * codec.hop_length
            for k, ms in enumerate(_SPANS_MS):
                size = min(round(ms * codec.sample_rate / 1000), len(late))
                found[i, j, k] = _snr(late[:size], reference[begin : begin + size])
    return found


def _join(codec: Codec, codes: Codes, kbps: float, point: int, length: int, played: int, packet_frames: int) -> Samples:
    """What a listener plays who joins at packet `point` with `length` packets of history."""
    decoder = codec.stream_decoder(kbps, start="primed")
    begin, end = (point - length) * packet_frames, (point + played) * packet_frames
    samples = decoder.feed(np.ascontiguousarray(codes[:, begin:end]))
    return samples[length * packet_frames * codec.hop_length :]


def _snr(late: Samples, reference: Samples) -> float:
    signal = float(np.sum(reference.astype(np.float64) ** 2))
    if signal < _QUIET**2 * len(reference):
        return float("nan")
    noise = float(np.sum((late.astype(np.float64) - reference) ** 2))
    return min(_BEST_DB, 10 * float(np.log10(signal / max(noise, 1e-30))))


def _figures(history_ms: Sequence[int], errors: dict[str, npt.NDArray[np.float64]]) -> Figures:
    rows = [
        {
            "kbps": kbps,
            "history_ms": ms,
            "points": int(np.count_nonzero(~np.isnan(found[:, j, 0]))),
            **{
                f"snr_db_{span}": {
                    "mean": float(np.nanmean(found[:, j, k])),
                    "p5": float(np.nanpercentile(found[:, j, k], 5)),
                    "worst": float(np.nanmin(found[:, j, k])),
                }
                for k, span in enumerate(_SPANS_MS)
            },
        }
        for kbps, found in errors.items()
        for j, ms in enumerate(history_ms)
    ]
    enough = {kbps: next((row["history_ms"] for row in rows if row["kbps"] == kbps and _worst(row) >= _WANTED_DB), None) for kbps in errors}
    return {"wanted_db": _WANTED_DB, "spans_ms": list(_SPANS_MS), "rows": rows, "enough_ms": enough}


def _worst(row: Figures) -> float:
    return min(float(row[f"snr_db_{span}"]["worst"]) for span in _SPANS_MS)


def render(figures: Figures) -> str:
    """The section's text, from its figures alone."""
    spans = figures["spans_ms"]
    header = ["kbps, history", "joins", *(f"{which}, first {span} ms" for span in spans for which in ("mean dB", "5% below", "worst"))]
    rows = [
        [
            f"{row['kbps']}, {row['history_ms']} ms",
            row["points"],
            *(f"{row[f'snr_db_{span}'][which]:.1f}" for span in spans for which in ("mean", "p5", "worst")),
        ]
        for row in figures["rows"]
    ]
    wanted, default = figures["wanted_db"], figures["default_ms"]
    said = []
    for kbps, enough in figures["enough_ms"].items():
        if enough is None:
            said.append(f"At {kbps} kbps no history that was tried gives {wanted:g} dB in the worst case.")
            continue
        against = "which the server's default" if default >= enough else "more than the server's default"
        covers = f"{against}, {default} ms, covers" if default >= enough else f"{against} of {default} ms"
        said.append(f"At {kbps} kbps {enough} ms of history give {wanted:g} dB in the worst case, {covers}.")
    sources = "the bundled clip and held-out speech" if figures["corpus"] else "the bundled clip, over and over"
    return (
        f"`{figures['model']}`, packets of {figures['packet_ms']:g} ms: what a late listener plays against one who was there from "
        f"the start, SNR in dB over the first {' and '.join(map(str, spans))} ms. {figures['streams']} stream(s), "
        f"{figures['streams_s']:.0f} s in all ({sources}), {figures['joins']} joins in each; joins into silence do not count. "
        f"{' '.join(said)}\n\n{table(header, rows)}\n\n![SNR by history](late_join.png)\n"
    )


def headlines(figures: Figures) -> list[Headline]:
    """The history that a late listener needs, at each bandwidth."""
    return [
        Headline(
            f"history that gives a late listener {figures['wanted_db']:g} dB in the worst case, {kbps} kbps",
            "more than was tried" if enough is None else f"{enough} ms",
        )
        for kbps, enough in figures["enough_ms"].items()
    ]


def draw(figures: Figures, folder: Path) -> None:
    """SNR against the history's length: mean, and worst."""
    with picture(folder / "late_join.png", 12, 4.4) as figure:
        for axes, span in zip(figure.subplots(1, 2, sharey=True), figures["spans_ms"], strict=True):
            for i, kbps in enumerate(figures["enough_ms"]):
                rows = [row for row in figures["rows"] if row["kbps"] == kbps]
                x = [row["history_ms"] for row in rows]
                axes.plot(x, [row[f"snr_db_{span}"]["mean"] for row in rows], ".-", color=f"C{i}", label=f"{kbps} kbps, mean")
                axes.plot(x, [row[f"snr_db_{span}"]["worst"] for row in rows], ".--", color=f"C{i}", label=f"{kbps} kbps, worst")
            axes.axhline(figures["wanted_db"], color="0.7", lw=0.8)
            axes.axvline(figures["default_ms"], color="0.7", lw=0.8, ls=":")
            axes.set(title=f"the first {span} ms that are played", xlabel="history, ms (dots: the server's default)", ylabel="SNR, dB")
            axes.legend(fontsize=8, frameon=False)


BENCHMARK = Benchmark(
    name="late_join",
    title="Joining late",
    question="How far is a listener who joins in the middle from one who was there all along, by the history it gets?",
    options=add_options,
    measure=measure_all,
    render=render,
    draw=draw,
    headlines=headlines,
)
