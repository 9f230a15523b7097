"""Silence with one codebook: what `silence_db` saves on the wire, and whether the far end stays natural.

Speech with pauses, in a silent room and in noisier ones, is sent with all codebooks and again with one in each quiet packet; both are
decoded and compared. In process, on real codes; no network and no clock.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.common import Figures, Observed, argument_parser, table, write_section
from benchmarks.dtx_talks import PAUSE_S, Samples, Sent, noise, send, talk, utterances
from streamcodec.codec import load

__all__ = ["main", "render", "spectral_distance"]

Numbers = npt.NDArray[np.float64]

_NOISE_DB = (-60.0, -55.0, -52.0)
_WANTED_DB = 30.0
_BEST_DB = 120.0
_INAUDIBLE_DB = -80.0
_WINDOW, _HOP = 512, 128
_STEP_MS = 20
_AFTER_MS = 1000
_TRACE_S = 16.0
_SPEECH_DB = -40.0
_PAIRS = (("fewer", "every"), ("every", "sound"), ("fewer", "sound"))


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write the section `dtx`."""
    import torch

    from benchmarks import heldout
    from streamcodec.audio import SILENCE_DB, bundled_clip
    from streamcodec.training.corpus import Corpus

    parser = argument_parser(__doc__)
    add = parser.add_argument
    add("--model", default="speech-24k")
    add("--bandwidth", type=float, default=6.0, help="kbps")
    add("--packet-frames", type=int, default=6)
    add("--silence-db", type=float, default=SILENCE_DB, help="what is quieter is silence, dBFS (default: %(default)s)")
    add("--noise-db", type=float, nargs="*", default=list(_NOISE_DB), help="of the noisier rooms, dBFS")
    add("--corpus", type=Path, help="from `python -m benchmarks.heldout`; without it the bundled clip is all there is")
    add("--talks", type=int, default=4, help="of the corpus, of five clips each")
    add("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    codec = load(args.model)
    said = [utterances(bundled_clip()[0], codec.sample_rate)]
    if args.corpus is not None:
        clips = [clip.samples for clip in heldout.select(Corpus(args.corpus), "speech", 5 * args.talks, args.seed)]
        said += [clips[at :: args.talks] for at in range(args.talks)]
    with Observed() as observed:
        talks = [talk(clips, codec.sample_rate, args.seed + i) for i, clips in enumerate(said)]
        rows, trace = [], None
        for noise_db in (None, *args.noise_db):
            sent = []
            for i, sound in enumerate(talks):
                room = 0.0 if noise_db is None else noise(len(sound), codec.sample_rate, noise_db, args.seed + i)
                sent.append(send(codec, np.asarray(sound + room, np.float32), args.bandwidth, args.packet_frames, args.silence_db))
            rows.append(_figures(noise_db, sent, args.seed))
            trace = trace or (_trace(sent[0], noise_db) if sent[0].pauses and noise_db is not None else None)
    figures: Figures = {
        "model": args.model,
        "kbps": args.bandwidth,
        "n_q": codec.config.n_q_for(args.bandwidth),
        "quiet_n_q": codec.config.least_n_q,
        "packet_ms": 1000 * args.packet_frames / codec.frame_rate,
        "silence_db": args.silence_db,
        "talks": len(talks),
        "corpus": args.corpus is not None,
        "pause_s": list(PAUSE_S),
        "wanted_db": _WANTED_DB,
        "speech_db": _SPEECH_DB,
        "rows": rows,
        "trace": trace,
    }
    args.out.mkdir(parents=True, exist_ok=True)
    draw(figures, args.out / "dtx.png")
    title = "Silence with one codebook"
    print(write_section(args.out, "dtx", title, figures, observed, render, threads=1, argv=argv).read_text(encoding="utf-8"))
    return 0


# Figures -----------------------------------------------------------------------------------------------------------------------------


def _figures(noise_db: float | None, sent: list[Sent], seed: int) -> Figures:
    seconds = sum(len(one.sound) / one.rate for one in sent)
    quiet = np.concatenate([one.quiet for one in sent])
    pauses = [(one, first, end) for one in sent for first, end in one.pauses]
    returns = [(one, first) for one in sent for first, _ in one.returns]
    behind = [found for one in sent for run in one.returns if np.isfinite(found := _behind(one, *run)).any()]
    payload, message = (np.concatenate([getattr(one, what) for one in sent], axis=1) for what in ("payload", "message"))
    row: Figures = {
        "noise_db": noise_db,
        "seconds": seconds,
        "packets": len(quiet),
        "quiet_share": float(quiet.mean()),
        "payload_kbps": (8 * payload.sum(axis=1) / 1000 / seconds).tolist(),
        "message_kbps": (8 * message.sum(axis=1) / 1000 / seconds).tolist(),
        "bytes": {"payload": payload[:, quiet].mean(axis=1).tolist(), "message": message[:, quiet].mean(axis=1).tolist()}
        if quiet.any()
        else None,
        "pauses": len(pauses),
        "returns": len(behind),
        "difference_db": _spread([_db(one.cut(one.fewer, *run)) - _db(one.cut(one.every, *run)) for one, *run in pauses]),
        "step_in_db": _spread([_step(one, first) for one, first, _ in pauses if first]),
        "step_out_db": _spread([_step(one, first) for one, first in returns]),
        "snr_first_db": _spread([float(found[np.isfinite(found)][0]) for found in behind]),
        "snr_db": _spread([float(np.nanmedian(found)) for found in behind]),
        "own_snr_db": float(np.nanmedian(np.concatenate([_snr(one.sound, one.sound, one.every, one.rate) for one in sent]))),
        "back_ms": _spread([_back_ms(found) for found in behind]),
        "below_share": float(np.mean([value < _WANTED_DB for found in behind for value in found[np.isfinite(found)]])) if behind else None,
        "behind_db": _curves(behind),
    }
    for name in ("sound", "every", "fewer"):
        parts = [one.cut(getattr(one, name), *run) for one, *run in pauses]
        row[f"level_db_{name}"] = _db(np.concatenate(parts)) if parts else None
    for a, b in _PAIRS:
        apart = [spectral_distance(one.cut(getattr(one, a), *run), one.cut(getattr(one, b), *run)) for one, *run in pauses]
        row[f"distance_db_{a}_{b}"] = float(np.mean(apart)) if apart else None
    if noise_db is not None:
        takes = [noise(4 * sent[0].rate, sent[0].rate, noise_db, seed + other) for other in (100, 101)]
        row["distance_db_takes"] = spectral_distance(takes[0], takes[1])
    return row


def _trace(sent: Sent, noise_db: float | None) -> Figures:
    """Levels by packet, for the picture."""
    packets = range(min(len(sent.quiet), round(_TRACE_S * sent.rate / sent.size)))
    levels = {name: [round(_db(sent.cut(getattr(sent, name), i, i + 1)), 1) for i in packets] for name in ("sound", "every", "fewer")}
    return {"noise_db": noise_db, "packet_s": sent.size / sent.rate, "quiet": sent.quiet[: len(packets)].tolist(), **levels}


def _db(samples: Samples) -> float:
    """The level in dBFS; digital silence is at -120."""
    return float(10 * np.log10(np.mean(np.square(samples, dtype=np.float64)) + 1e-12))


def _spread(values: Sequence[float]) -> dict[str, float] | None:
    """The mean, percentiles and extremes; None of nothing."""
    if not values:
        return None
    low, median, high = np.percentile(values, (5, 50, 95)).tolist()
    return {"mean": float(np.mean(values)), "p5": low, "median": median, "p95": high, "least": min(values), "most": max(values)}


def _step(sent: Sent, at: int) -> float:
    """How much more the level changes where packet `at` begins than it does with all codebooks, dB, over a packet on each side."""
    before, after = (_db(sent.cut(sent.fewer, i, i + 1)) - _db(sent.cut(sent.every, i, i + 1)) for i in (at - 1, at))
    return after - before


def _behind(sent: Sent, first: int, end: int) -> Numbers:
    """SNR in dB of `fewer` against `every` in each 20 ms of packets `first` to `end` - 1; NaN where nobody speaks."""
    sound, every, fewer = (sent.cut(x, first, end) for x in (sent.sound, sent.every, sent.fewer))
    return _snr(sound, every, fewer, sent.rate)


def _snr(sound: Samples, reference: Samples, other: Samples, rate: int) -> Numbers:
    """SNR in dB of `other` [T] against `reference` [T] in each 20 ms; NaN where `sound` [T] is no speech."""
    step = rate * _STEP_MS // 1000
    steps = len(sound) // step
    error = other.astype(np.float64) - reference
    powers = [np.square(x[: steps * step], dtype=np.float64).reshape(steps, step).mean(axis=1) for x in (sound, reference, error)]
    snr = 10 * np.log10(np.maximum(powers[1], 1e-30) / np.maximum(powers[2], 1e-30))
    return np.where(powers[0] >= 10 ** (_SPEECH_DB / 10), np.minimum(snr, _BEST_DB), np.nan)


def _back_ms(behind: Numbers) -> float:
    """From when on the speech stays at the wanted SNR or above, ms behind the pause's end; 0 where it always is."""
    below = np.flatnonzero(behind < _WANTED_DB)
    return float(_STEP_MS * (below[-1] + 1)) if below.size else 0.0


def _curves(behind: list[Numbers]) -> dict[str, list[float | None]]:
    """The median and the worst SNR in each 20 ms of the first second behind the pauses; None where nobody ever speaks."""
    length = _AFTER_MS // _STEP_MS
    padded = np.array([np.pad(found[:length], (0, length - len(found[:length])), constant_values=np.nan) for found in behind])
    columns = [column[np.isfinite(column)] for column in padded.reshape(-1, length).T]
    take: dict[str, Any] = {"median": np.median, "worst": np.min}
    return {name: [float(of(column)) if column.size else None for column in columns] for name, of in take.items()}


def spectral_distance(a: Samples, b: Samples) -> float:
    """Log-spectral distance of two sounds [T], dB: RMS over frequency of the difference in level, 21 ms at a time, averaged over time.

    What is below a noise of -80 dBFS in both is no difference.
    """
    window = np.hanning(_WINDOW)
    floor = 10 ** (_INAUDIBLE_DB / 10) * np.sum(window**2)
    levels = []
    for samples in (a, b):
        frames = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float64), _WINDOW)[::_HOP]
        levels.append(10 * np.log10(np.abs(np.fft.rfft(frames * window, axis=1)) ** 2 + floor))
    return float(np.mean(np.sqrt(np.mean((levels[0] - levels[1]) ** 2, axis=1))))


# The section -------------------------------------------------------------------------------------------------------------------------


def _room(row: Figures) -> str:
    return "none" if row["noise_db"] is None else f"{row['noise_db']:g} dBFS"


def _cells(values: Figures | None, *names: str, digits: int = 1) -> list[str]:
    found = [None if values is None else values.get(name) for name in names]
    return ["-" if value is None else f"{value:.{digits}f}" for value in found]


def render(figures: Figures) -> str:
    """The section's text, from its figures alone."""
    rows = figures["rows"]
    whose = "the bundled clip and held-out speech" if figures["corpus"] else "the bundled clip"
    books = "one codebook" if figures["quiet_n_q"] == 1 else f"{figures['quiet_n_q']} codebooks"
    least, most = figures["pause_s"]
    wanted, speech = figures["wanted_db"], figures["speech_db"]
    own = " to ".join(dict.fromkeys(f"{of(row['own_snr_db'] for row in rows):.1f}" for of in (min, max)))
    intro = (
        f"`{figures['model']}` at {figures['kbps']:g} kbps, packets of {figures['packet_ms']:g} ms; {figures['talks']} talk(s), {whose}, "
        f"with a pause of {least:g} to {most:g} s behind every utterance: as recorded (the pauses are digital silence), and with pink "
        f"noise under all of it. Packets below {figures['silence_db']:g} dBFS carry {books} instead of {figures['n_q']}, once all has "
        f"been for 0.3 s. "
    )
    wire = table(
        ["noise", "talk, s", "quiet packets", "payload, kbps, all", "fewer", "messages, kbps, all", "fewer", "bytes saved"],
        [
            [
                _room(row),
                f"{row['seconds']:.0f}",
                f"{100 * row['quiet_share']:.0f}%",
                *(f"{row[kind][i]:.2f}" for kind in ("payload_kbps", "message_kbps") for i in (0, 1)),
                f"{100 * _saved(row):.0f}%",
            ]
            for row in rows
        ],
    )
    quiet = table(
        [
            *("noise", "recorded, dBFS", "all", "fewer", "fewer to all, mean dB", "least", "most"),
            *("distance, fewer to all", "all to recorded", "fewer to recorded", "two takes"),
        ],
        [
            [
                _room(row),
                *_cells(row, "level_db_sound", "level_db_every", "level_db_fewer"),
                *_cells(row["difference_db"], "mean", "least", "most"),
                *_cells(row, *(f"distance_db_{a}_{b}" for a, b in _PAIRS), "distance_db_takes"),
            ]
            for row in rows
        ],
    )
    switches = table(
        [
            *("noise", "pauses", "step in, mean dB", "least", "most", "step out, mean dB", "least", "most"),
            *("first SNR, median dB", "worst", "SNR, median dB", "worst pause", f"below {wanted:g} dB", "the last of it, ms"),
        ],
        [
            [
                _room(row),
                row["pauses"],
                *_cells(row["step_in_db"], "mean", "least", "most"),
                *_cells(row["step_out_db"], "mean", "least", "most"),
                *_cells(row["snr_first_db"], "median", "least"),
                *_cells(row["snr_db"], "median", "least"),
                "-" if row["below_share"] is None else f"{100 * row['below_share']:.1f}%",
                *_cells(row["back_ms"], "most", digits=0),
            ]
            for row in rows
        ],
    )
    parts = [
        intro + " ".join([_packet_bytes(rows), *(_said(row, wanted) for row in rows)]).strip(),
        wire,
        "The pauses, decoded with all codebooks and with fewer: levels, by how much the two differ from pause to pause, and log-spectral "
        "distances in dB, beside that of two takes of the same noise, which differ by chance alone.",
        quiet,
        "Where codebooks go and come back: by how much the level steps there beyond what it does with all codebooks, over a packet on each "
        f"side; then what the decoder still remembers of a pause: SNR of the speech behind it (20 ms at a time, above {speech:g} dBFS) "
        f"against that with all codebooks, at first and in the median, how much of it is below {wanted:g} dB, and how long behind a pause "
        f"the last of that is. As a yardstick: all codebooks have {own} dB against what was recorded.",
        switches,
        "![Levels in a talk, and SNR behind its pauses](dtx.png)",
    ]
    return "\n\n".join(parts) + "\n"


def _saved(row: Figures) -> float:
    every, fewer = row["message_kbps"]
    return float(1 - fewer / every)


def _packet_bytes(rows: list[Figures]) -> str:
    found = next((row["bytes"] for row in rows if row["bytes"]), None)
    if found is None:
        return "No packet was quiet."
    payload, message = found["payload"], found["message"]
    told = f"payload has {payload[1]:.0f} bytes instead of {payload[0]:.0f}, its message {message[1]:.0f} instead of {message[0]:.0f}"
    return f"A quiet packet's {told}."


def _said(row: Figures, wanted: float) -> str:
    where = "As recorded" if row["noise_db"] is None else f"With noise at {_room(row)}"
    text = f"{where} {100 * row['quiet_share']:.0f}% of the packets are quiet, which saves {100 * _saved(row):.0f}% of the bytes"
    if row["back_ms"] is None:
        return f"{text}."
    return f"{text}; {100 * row['below_share']:.1f}% of the speech behind them has an SNR below {wanted:g} dB."


def draw(figures: Figures, path: Path) -> None:
    """Levels of one talk, and the SNR behind pauses."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4.4), dpi=110, layout="constrained")
    levels, after = figure.subplots(1, 2, width_ratios=(2, 1))
    trace = figures["trace"]
    if trace is not None:
        at = trace["packet_s"] * np.arange(len(trace["quiet"]))
        levels.fill_between(at, -90, 0, where=trace["quiet"], step="post", color="0.92", label="quiet packets")
        for name, label in (("sound", "recorded"), ("every", "all codebooks"), ("fewer", "one where it is quiet")):
            levels.step(at, trace[name], where="post", lw=1.0, label=label)
        levels.axhline(figures["silence_db"], color="0.7", lw=0.8)
        room = f"noise at {trace['noise_db']:g} dBFS"
        levels.set(title=f"a talk with {room}, packet by packet", xlabel="s", ylabel="dBFS", ylim=(-70, -10))
        levels.legend(fontsize=8, framealpha=1, loc="center")
    for i, row in enumerate(figures["rows"]):
        for name, line in (("median", "-"), ("worst", ":")):
            values = [np.nan if value is None else value for value in row["behind_db"][name]]
            label = f"{_room(row)}, {name}" if row["noise_db"] is not None else f"as recorded, {name}"
            after.plot(_STEP_MS * np.arange(len(values)), values, line, color=f"C{i}", label=label)
    after.axhline(figures["wanted_db"], color="0.7", lw=0.8)
    after.set(title="behind a pause, against all codebooks", xlabel="ms behind the pause", ylabel="SNR of 20 ms, dB", ylim=(0, 95))
    after.legend(fontsize=7, frameon=False, loc="upper right", ncols=2)
    for axes in (levels, after):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


if __name__ == "__main__":
    sys.exit(main())
