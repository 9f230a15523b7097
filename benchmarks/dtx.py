"""Thinned silence: what `silence_db` saves on the wire, and whether the far end stays natural.

Speech with pauses, in a silent room and in noisier ones, is sent whole and again with few of the quiet packets, of one codebook each, and
comfort noise in place of the others; both are decoded as a recording is and compared. In process, on real codes; no network and no clock.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.common import Figures, Observed, argument_parser, table, write_section
from benchmarks.dtx_figures import PAIRS, SPEECH_DB, STEP_MS, WANTED_DB, figures_of
from benchmarks.dtx_figures import trace as trace_of
from benchmarks.dtx_talks import PAUSE_S, TCP_IP_BYTES, noise, send, talk, utterances
from streamcodec.codec import load
from streamcodec.protocol import QUIET_EVERY_S

__all__ = ["main", "render"]

_NOISE_DB = (-60.0, -55.0, -52.0)


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
    add("--seconds", type=float, default=60.0, help="of the bundled clip, at most")
    add("--talks", type=int, default=4, help="of the corpus, of five clips each")
    add("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    codec = load(args.model)
    said = [utterances(bundled_clip()[0][: round(args.seconds * codec.sample_rate)], codec.sample_rate)]
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
            rows.append(figures_of(noise_db, sent, args.seed))
            trace = trace or (trace_of(sent[0], noise_db) if sent[0].pauses and noise_db is not None else None)
    figures: Figures = {
        "model": args.model,
        "kbps": args.bandwidth,
        "n_q": codec.config.n_q_for(args.bandwidth),
        "quiet_n_q": codec.config.min_n_q,
        "packet_ms": 1000 * args.packet_frames / codec.frame_rate,
        "silence_db": args.silence_db,
        "talks": len(talks),
        "corpus": args.corpus is not None,
        "pause_s": list(PAUSE_S),
        "every_s": QUIET_EVERY_S,
        "tcp_ip_bytes": TCP_IP_BYTES,
        "wanted_db": WANTED_DB,
        "speech_db": SPEECH_DB,
        "rows": rows,
        "trace": trace,
    }
    args.out.mkdir(parents=True, exist_ok=True)
    draw(figures, args.out / "dtx.png")
    title = "Silence, thinned"
    print(write_section(args.out, "dtx", title, figures, observed, render, threads=1, argv=argv).read_text(encoding="utf-8"))
    return 0


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
        f"noise under all of it. Packets below {figures['silence_db']:g} dBFS are quiet, once all has been for 0.3 s: of a run of them the "
        f"first is sent and then one in {figures['every_s']:g} s, with {books} instead of {figures['n_q']}, and a gap names the others. "
        f"On the wire is an estimate: each message alone, with {figures['tcp_ip_bytes']} bytes of TCP/IP and 2 or 4 of WebSocket. "
    )
    wire = table(
        [
            *("noise", "talk, s", "quiet packets", "of those sent", "messages, kbps, all", "thinned", "on the wire, kbps, all", "thinned"),
            *("saved on the wire", "in silence, kbps, all", "thinned"),
        ],
        [
            [
                _room(row),
                f"{row['seconds']:.0f}",
                f"{100 * row['quiet_share']:.0f}%",
                "-" if row["sent_share"] is None else f"{100 * row['sent_share']:.0f}%",
                *(f"{row[kind][i]:.2f}" for kind in ("message_kbps", "wire_kbps") for i in (0, 1)),
                f"{100 * _saved(row):.0f}%",
                *(["-", "-"] if row["bytes"] is None else [f"{8 * size / figures['packet_ms']:.2f}" for size in row["bytes"]["wire"]]),
            ]
            for row in rows
        ],
    )
    quiet = table(
        [
            *("noise", "recorded, dBFS", "all", "thinned", "thinned to all, mean dB", "least", "most"),
            *("noise made to packets sent, mean dB", "least", "most"),
            *("distance, thinned to all", "all to recorded", "thinned to recorded", "two takes"),
        ],
        [
            [
                _room(row),
                *_cells(row, "level_db_sound", "level_db_every", "level_db_fewer"),
                *_cells(row["difference_db"], "mean", "least", "most"),
                *_cells(row["comfort_db"], "mean", "least", "most"),
                *_cells(row, *(f"distance_db_{a}_{b}" for a, b in PAIRS), "distance_db_takes"),
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
        "The pauses, decoded with all and thinned: levels, by how much the two differ from pause to pause, by how much the comfort noise "
        "differs from the packets that it is made of, and log-spectral distances in dB, beside that of two takes of the same noise, which "
        "differ by chance alone.",
        quiet,
        "Where a pause begins and ends: by how much the level steps there beyond what it does with all codebooks, over a packet on each "
        f"side; then what the decoder still remembers of the pause: SNR of the speech behind it (20 ms at a time, above {speech:g} dBFS) "
        f"against that with all codebooks, at first and in the median, how much of it is below {wanted:g} dB, and how long behind a pause "
        f"the last of that is. As a yardstick: all codebooks have {own} dB against what was recorded.",
        switches,
        "![Levels in a talk, and SNR behind its pauses](dtx.png)",
    ]
    return "\n\n".join(parts) + "\n"


def _saved(row: Figures) -> float:
    every, fewer = row["wire_kbps"]
    return float(1 - fewer / every)


def _packet_bytes(rows: list[Figures]) -> str:
    found = next((row["bytes"] for row in rows if row["bytes"]), None)
    if found is None:
        return "No packet was quiet."
    (every, thinned), (wire, thinned_wire) = found["message"], found["wire"]
    told = f"{thinned:.1f} bytes of messages instead of {every:.0f}, and {thinned_wire:.0f} on the wire instead of {wire:.0f}"
    return f"A quiet packet takes {told}, on average, gaps included."


def _said(row: Figures, wanted: float) -> str:
    where = "As recorded" if row["noise_db"] is None else f"With noise at {_room(row)}"
    text = f"{where} {100 * row['quiet_share']:.0f}% of the packets are quiet, which saves {100 * _saved(row):.0f}% on the wire"
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
        for name, label in (("sound", "recorded"), ("every", "all codebooks"), ("fewer", "thinned, with comfort noise")):
            levels.step(at, trace[name], where="post", lw=1.0, label=label)
        levels.axhline(figures["silence_db"], color="0.7", lw=0.8)
        room = f"noise at {trace['noise_db']:g} dBFS"
        levels.set(title=f"a talk with {room}, packet by packet", xlabel="s", ylabel="dBFS", ylim=(-70, -10))
        levels.legend(fontsize=8, framealpha=1, loc="center")
    for i, row in enumerate(figures["rows"]):
        for name, line in (("median", "-"), ("worst", ":")):
            values = [np.nan if value is None else value for value in row["behind_db"][name]]
            label = f"{_room(row)}, {name}" if row["noise_db"] is not None else f"as recorded, {name}"
            after.plot(STEP_MS * np.arange(len(values)), values, line, color=f"C{i}", label=label)
    after.axhline(figures["wanted_db"], color="0.7", lw=0.8)
    after.set(title="behind a pause, against all codebooks", xlabel="ms behind the pause", ylabel="SNR of 20 ms, dB", ylim=(0, 95))
    after.legend(fontsize=7, frameon=False, loc="upper right", ncols=2)
    for axes in (levels, after):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


if __name__ == "__main__":
    sys.exit(main())
