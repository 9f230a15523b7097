"""The section on a load: tables and a picture, from its figures alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness.parity import told
from benchmarks.harness.plots import picture
from benchmarks.harness.run import Headline
from benchmarks.harness.sections import Figures
from benchmarks.harness.tables import table, verdict
from benchmarks.load.check import FLOAT_WITHIN

__all__ = ["draw", "headlines", "packets_per_second", "render"]


def render(figures: Figures) -> str:
    """The section's text, from its figures alone."""

    def several(counts: dict[str, int], unit: str = "") -> str:
        order = sorted(counts, key=lambda name: (len(name), name)) if unit else list(counts)
        return ", ".join(f"{counts[name]} x {name}{unit}" for name in order)

    checks = [
        ["packets received, by all listeners", f"{figures['packets']:,}"],
        ["lost on the way to a listener", figures["lost"]],
        ["messages that the server dropped", figures["dropped"]],
        ["codes that differ from the whole clip's, worst listener", told(figures["differing"], figures["near_ties"])],
        [
            "listeners of codes that got the whole clip's, every one",
            f"{figures['codes_identical_listeners']} of {figures['listeners'].get('codes', 0)}",
        ],
        [
            f"codes played packet by packet against decoded in one go, largest error (at most {FLOAT_WITHIN:g})",
            _tiny(figures["played_error"]),
        ],
        [f"PCM from the server against decoded in one go, float (at most {FLOAT_WITHIN:g})", _tiny(figures["pcm_error"]["pcm_f32le"])],
        ["the same, 16 bits (at most one step, 3.1e-05)", _tiny(figures["pcm_error"]["pcm_s16le"])],
        ["timestamps against the true time of capture, largest error", f"{figures['timestamp_error_ms'] or 0:.2f} ms"],
    ]
    stages = [[f"in the server: {name}", *_spread(spread)] for name, spread in figures["stages_ms"].items()]
    latency = [[name, *_spread(spread)] for name, spread in figures["latency_ms"].items()]
    live = _is_live(figures)
    pace = "in real time" if live else "as quickly as the server took it (so no latency is told)"
    timing = [
        "Latency: from the moment at which a packet's last sample is due from the microphone until the listener's program has the "
        "packet. Resampling 48 kHz withholds 5 ms, and so a packet waits for one block more.",
        table(["ms", "p50", "p95", "p99", "max"], [*latency, *stages]),
    ]
    return "\n\n".join(
        [
            f"`{figures['model']}` for {figures['seconds']:g} s {pace}, packets of {figures['packet_ms']:g} ms, on loopback. "
            f"Publishers: {several(figures['publishers'])} ({several(figures['published_kbps'], ' kbps')}), in blocks of "
            f"{figures['block_ms']:g} ms. Listeners: {several(figures['listeners'])} (codes at "
            f"{several(figures['listened_kbps'], ' kbps')}); the server encodes {figures['encoded']} streams and decodes "
            f"{figures['decoded']}. Each publisher says something else; the yardstick is its clip encoded and decoded in one go. "
            f"Publishers of codes send what was encoded before the run. {verdict(figures['failures'])}",
            table(["", "found"], checks),
            *(timing if live else []),
            f"The server used {figures['server']['cores']:.2f} cores, {figures['server']['loop_cores']:.2f} of them for its loop, and at "
            f"most {figures['server']['peak_mib']:.0f} MiB; its model steps took {figures['step_ms']:.1f} ms for {figures['batch']:.1f} "
            f"streams on average. The load's own process used {figures['clients']['cores']:.2f} cores on the same machine.",
            *(["![Distribution of latency, and latency over time](load.png)"] if live else []),
        ]
    )


def _is_live(figures: Figures) -> bool:
    return bool(figures.get("pace", "live") == "live")


def headlines(figures: Figures) -> list[Headline]:
    """How late packets are, and how many were lost."""
    if not _is_live(figures):
        return []
    late, clients = figures["latency_ms"]["all packets"], [sum(figures[who].values()) for who in ("publishers", "listeners")]
    what = f"{clients[0]} publishers, {clients[1]} listeners, `{figures['model']}`: p50 / p99 from last sample to listener"
    return [Headline(what, f"{late['p50']:.0f} / {late['p99']:.0f} ms, {figures['lost']} of {figures['packets']:,} packets lost")]


def packets_per_second(packet_s: float) -> int:
    """Packets in a second, or as near to one as whole packets come."""
    return max(1, round(1 / packet_s))


def _spread(spread: dict[str, float]) -> list[str]:
    return [f"{spread[name]:.1f}" for name in ("p50", "p95", "p99", "max")]


def _tiny(value: float | None) -> str:
    return "-" if value is None else f"{value:.1e}"


def draw(figures: Figures, folder: Path) -> None:
    """The distribution of latency by what a listener gets, and its course over the run; nothing where none was measured."""
    if not _is_live(figures):
        return
    with picture(folder / "load.png", 13, 4.4) as figure:
        _draw(figure, figures)


def _draw(figure: Any, figures: Figures) -> None:
    left, right = figure.subplots(1, 2)
    colours = {"codes": "tab:blue", "pcm_f32le": "tab:green", "pcm_s16le": "tab:orange"}
    for format, values in figures["distribution"].items():
        dashes = "--" if format == "pcm_s16le" else "-"  # both sorts of PCM go out together: one would hide the other
        left.plot(values, np.linspace(0, 100, len(values)), dashes, color=colours.get(format, "0.4"), label=f"listeners of {format}")
    left.set(title="latency from a packet's last sample to the listener", xlabel="ms", ylabel="% of packets within", ylim=(0, 100))
    left.set_xlim(0, 1.15 * max((values[-3] for values in figures["distribution"].values()), default=1.0))
    left.axhline(99, color="0.8", lw=0.8, zorder=0)
    left.legend(fontsize=8, frameon=False, loc="lower right")
    packet_s = figures["packet_ms"] / 1000
    seconds = (np.arange(len(figures["over_time"]["p50"])) + 0.5) * packets_per_second(packet_s) * packet_s
    right.plot(seconds, figures["over_time"]["p99"], color="tab:red", lw=1.2, label="99th percentile")
    right.plot(seconds, figures["over_time"]["p50"], color="0.2", lw=1.2, label="median")
    right.set(title="the same, second by second", xlabel="s", ylabel="ms", xlim=(0, figures["seconds"]))
    right.set_ylim(bottom=0)
    right.legend(fontsize=8, frameon=False)
    total = (
        f"{sum(figures['publishers'].values())} publishers, {sum(figures['listeners'].values())} listeners, {figures['packets']:,} packets"
    )
    figure.suptitle(f"{total}: {figures['lost']} lost")
