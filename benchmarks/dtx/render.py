"""The section on thinned silence: tables and a picture, from its figures alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.dtx.figures import PAIRS, STEP_MS
from benchmarks.harness.plots import numbers, picture
from benchmarks.harness.run import Headline
from benchmarks.harness.sections import Figures
from benchmarks.harness.tables import table

__all__ = ["draw", "headlines", "render"]


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


def headlines(figures: Figures) -> list[Headline]:
    """What is saved where the room is silent and where it is at its noisiest."""
    rows = [row for row in figures["rows"] if row["quiet_share"]]
    ends = rows[:: len(rows) - 1 or 1]
    told = ", ".join(f"{100 * _saved(row):.0f}% ({'silent room' if row['noise_db'] is None else _room(row)})" for row in ends)
    return [Headline(f"saved on the wire by thinning silence, `{figures['model']}`, {figures['kbps']:g} kbps", told)] if rows else []


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


def draw(figures: Figures, folder: Path) -> None:
    """Levels of one talk, and the SNR behind pauses."""
    with picture(folder / "dtx.png", 13, 4.4) as figure:
        _draw(figure, figures)


def _draw(figure: Any, figures: Figures) -> None:
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
            values = numbers(row["behind_db"][name])
            label = f"{_room(row)}, {name}" if row["noise_db"] is not None else f"as recorded, {name}"
            after.plot(STEP_MS * np.arange(len(values)), values, line, color=f"C{i}", label=label)
    after.axhline(figures["wanted_db"], color="0.7", lw=0.8)
    after.set(title="behind a pause, against all codebooks", xlabel="ms behind the pause", ylabel="SNR of 20 ms, dB", ylim=(0, 95))
    after.legend(fontsize=7, frameon=False, loc="upper right", ncols=2)
