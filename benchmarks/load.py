"""Many at once: publishers and listeners of every kind on loopback, in real time, and every packet checked afterwards.

The server is one process, all clients are another. Latency runs from the moment at which a packet's last sample is due from the microphone
until the listener's program has the packet, so it holds the server's work, both processes' waiting, and the load's own lateness.
With --fast everything is sent as quickly as the server takes it: the same checks on a machine of any speed, and no latency.
Ends with an error if anything was lost, or is not what encoding and decoding the whole clip gives.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import Figures, Observed, argument_parser, percentiles, table, write_section
from benchmarks.load_check import CODES_EQUAL, FLOAT_WITHIN, Check, Offline, check, offline_codes
from benchmarks.load_plan import Plan, make_plan
from benchmarks.load_run import Report, generate, serve
from benchmarks.processes import finish, receive
from streamcodec.server import Limits

__all__ = ["main", "render"]

_STAGES = ("captured to received", "received to step", "the step", "step to queued")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the load, check it, and write the section `load`; 1 if a check failed."""
    import torch

    from streamcodec.codec import load

    parser = argument_parser(__doc__)
    parser.add_argument("--publishers", type=int, default=20)
    parser.add_argument("--listeners", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--model", default="speech-24k")
    parser.add_argument("--threads", type=int, default=1, help="of the server's model")
    parser.add_argument("--packet-frames", type=int, default=6)
    parser.add_argument("--pcm-every", type=int, default=2, help="every n-th stream has listeners of PCM, which the server decodes")
    parser.add_argument("--fast", action="store_true", help="send as quickly as the server takes it, and measure no latency")
    parser.add_argument("--block-ms", type=float, default=20.0, help="what a publisher's device hands over at once")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    codec = load(args.model)
    packet_s, block_s = args.packet_frames / codec.frame_rate, args.block_ms / 1000
    plan = make_plan(args.publishers, args.listeners, args.seconds, packet_s, block_s, args.pcm_every, fast=args.fast)
    print(f"encoding {args.publishers} clips of {plan.seconds:g} s in one go, to compare with", file=sys.stderr)
    offline = [offline_codes(codec, plan, publisher) for publisher in plan.publishers]
    print(f"{args.publishers} publishers and {args.listeners} listeners for {plan.seconds:g} s", file=sys.stderr)
    with Observed() as observed:
        report, served = _run(plan, offline, args.model, codec.fingerprint, args.threads)
    print("checking what every listener got", file=sys.stderr)
    outcome = check(codec, plan, offline, report)
    figures = _figures(plan, args.model, report, served, outcome)
    args.out.mkdir(parents=True, exist_ok=True)
    if not plan.fast:
        draw(figures, args.out / "load.png")
    title = f"{args.publishers} publishers, {args.listeners} listeners"
    print(write_section(args.out, "load", title, figures, observed, render, threads=args.threads, argv=argv).read_text(encoding="utf-8"))
    for failure in outcome.failures:
        print(failure, file=sys.stderr)
    return 1 if outcome.failures else 0


def _run(plan: Plan, offline: list[Offline], model: str, fingerprint: str, threads: int) -> tuple[Report, dict[str, Any]]:
    """Run both processes; return what the load saw, and what the server says of itself."""
    spawn = multiprocessing.get_context("spawn")
    codes = {i: offline[i].codes for i, publisher in enumerate(plan.publishers) if publisher.format == "codes"}
    (server_end, server_pipe), (load_end, load_pipe) = spawn.Pipe(), spawn.Pipe()
    # Where nobody is in time, no machine is too small and no listener too slow.
    limits = Limits(capacity=None, stall_s=3600.0) if plan.fast else Limits()
    server = spawn.Process(target=serve, args=(server_pipe, model, threads, limits))
    server.start()
    clients = None
    try:
        url = f"ws://127.0.0.1:{receive(server_end, server)}"
        clients = spawn.Process(target=generate, args=(load_pipe, url, plan, fingerprint, codes))
        clients.start()
        receive(load_end, clients)
        server_end.send("usage")
        before = receive(server_end, server)
        load_end.send("go")
        report: Report = receive(load_end, clients)
        server_end.send("usage")
        after = receive(server_end, server)
        server_end.send("stop")
        served = {**receive(server_end, server), "usage": (before, after)}
    finally:
        finish(clients, server)
    return report, served


# The figures -------------------------------------------------------------------------------------------------------------------------


def _figures(plan: Plan, model: str, report: Report, served: dict[str, Any], outcome: Check) -> Figures:
    packet_ms, rows = 1000 * plan.packet_s, outcome.rows
    coded = [row for row in rows if row["format"] == "codes"]
    latencies = {
        "all packets": outcome.latencies,
        **{f"listeners of {f}": [x for x in outcome.latencies if x["format"] == f] for f in sorted({row["format"] for row in rows})},
        **{f"publishers of {s}": [x for x in outcome.latencies if x["source"] == s] for s in sorted({row["source"] for row in rows})},
    }
    ways = np.array(served["ways_us"], np.float64).reshape(-1, len(_STAGES)) / 1000
    return {
        "model": model,
        "pace": "fast" if plan.fast else "live",
        "seconds": plan.seconds,
        "packet_ms": packet_ms,
        "block_ms": 1000 * plan.block_s,
        "publishers": _count(publisher.kind for publisher in plan.publishers),
        "published_kbps": _count(f"{publisher.bandwidth:g}" for publisher in plan.publishers),
        "listeners": _count(row["format"] for row in rows),
        "listened_kbps": _count(f"{row['kbps']:g}" for row in coded if "kbps" in row),
        "encoded": sum(publisher.format != "codes" for publisher in plan.publishers),
        "decoded": len({which.stream for which in plan.listeners if which.format != "codes"}),
        "failures": outcome.failures,
        "packets": sum(row.get("packets", 0) for row in rows),
        "lost": sum(row.get("lost", 0) for row in rows),
        "dropped": sum(published.dropped for published in report.published),
        "codes_equal": _worst([row.get("codes_equal") for row in coded], min),
        "codes_identical_listeners": sum(row.get("codes_equal") == 1.0 for row in coded),
        "played_error": _worst([row.get("audio_error") for row in coded], max),
        "pcm_error": {f: _worst([row.get("audio_error") for row in rows if row["format"] == f], max) for f in ("pcm_f32le", "pcm_s16le")},
        "timestamp_error_ms": _worst([row.get("timestamp_error_ms") for row in rows], max),
        "latency_ms": {name: percentiles([ms for part in parts for ms in part["ms"]]) for name, parts in latencies.items() if parts},
        "stages_ms": {name: percentiles(list(ways[:, i])) for i, name in enumerate(_STAGES)} if len(ways) else {},
        "server": _load_of(served["usage"]),
        "clients": _load_of(report.usage),
        "batch": served["rows"] / max(1, served["steps"]),
        "step_ms": 1000 * served["busy_s"] / max(1, served["steps"]),
        "distribution": _distribution(outcome.latencies),
        "over_time": _over_time(outcome.latencies, plan.packet_s),
        "rows": rows,
    }


def _count(values: Any) -> dict[str, int]:
    names, counts = np.unique(list(values), return_counts=True)
    return {str(name): int(count) for name, count in zip(names, counts, strict=True)}


def _worst(values: Sequence[float | None], pick: Any) -> float | None:
    return pick([value for value in values if value is not None], default=None)  # type: ignore[no-any-return]


def _load_of(usage: tuple[dict[str, float], dict[str, float]]) -> dict[str, float]:
    before, after = usage
    wall = after["at"] - before["at"]
    cores, loop = ((after[name] - before[name]) / wall for name in ("cpu_s", "loop_s"))
    return {"cores": cores, "loop_cores": loop, "peak_mib": after["peak_mib"]}


def _distribution(latencies: list[dict[str, Any]]) -> dict[str, list[float]]:
    """Latency at each percent of the packets, by what the listener gets."""
    shares = np.linspace(0, 100, 201)
    found = {}
    for format in sorted({part["format"] for part in latencies}):
        ms = np.concatenate([part["ms"] for part in latencies if part["format"] == format])
        found[format] = [round(float(value), 2) for value in np.percentile(ms, shares)]
    return found


def _over_time(latencies: list[dict[str, Any]], packet_s: float) -> dict[str, list[float]]:
    """Median and 99th percentile of each second, or as near to one as whole packets come."""
    per = _packets_per_second(packet_s)
    longest = max((len(part["ms"]) for part in latencies), default=0)
    seconds = [[ms for part in latencies for ms in part["ms"][at : at + per]] for at in range(0, longest, per)]
    return {f"p{share}": [round(float(np.percentile(ms, share)), 2) for ms in seconds] for share in (50, 99)}


def _packets_per_second(packet_s: float) -> int:
    return max(1, round(1 / packet_s))


# Telling -----------------------------------------------------------------------------------------------------------------------------


def render(figures: Figures) -> str:
    """The section's text, from its figures alone."""

    def several(counts: dict[str, int], unit: str = "") -> str:
        order = sorted(counts, key=lambda name: (len(name), name)) if unit else list(counts)
        return ", ".join(f"{counts[name]} x {name}{unit}" for name in order)

    failures = figures["failures"]
    verdict = "**Every check passed.**" if not failures else f"**{len(failures)} checks failed**, the first: {failures[0]}."
    checks = [
        ["packets received, by all listeners", f"{figures['packets']:,}"],
        ["lost on the way to a listener", figures["lost"]],
        ["messages that the server dropped", figures["dropped"]],
        [f"codes equal to the whole clip's, worst listener (at least {100 * CODES_EQUAL:g}%)", _percent(figures["codes_equal"])],
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
    live = figures.get("pace", "live") == "live"
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
            f"Publishers of codes send what was encoded before the run. {verdict}",
            table(["", "found"], checks),
            *(timing if live else []),
            f"The server used {figures['server']['cores']:.2f} cores, {figures['server']['loop_cores']:.2f} of them for its loop, and at "
            f"most {figures['server']['peak_mib']:.0f} MiB; its model steps took {figures['step_ms']:.1f} ms for {figures['batch']:.1f} "
            f"streams on average. The load's own process used {figures['clients']['cores']:.2f} cores on the same machine.",
            *(["![Distribution of latency, and latency over time](load.png)"] if live else []),
        ]
    )


def _spread(spread: dict[str, float]) -> list[str]:
    return [f"{spread[name]:.1f}" for name in ("p50", "p95", "p99", "max")]


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.3f}%"


def _tiny(value: float | None) -> str:
    return "-" if value is None else f"{value:.1e}"


def draw(figures: Figures, path: Path) -> None:
    """The distribution of latency by what a listener gets, and its course over the run."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4.4), dpi=110, layout="constrained")
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
    seconds = (np.arange(len(figures["over_time"]["p50"])) + 0.5) * _packets_per_second(packet_s) * packet_s
    right.plot(seconds, figures["over_time"]["p99"], color="tab:red", lw=1.2, label="99th percentile")
    right.plot(seconds, figures["over_time"]["p50"], color="0.2", lw=1.2, label="median")
    right.set(title="the same, second by second", xlabel="s", ylabel="ms", xlim=(0, figures["seconds"]))
    right.set_ylim(bottom=0)
    right.legend(fontsize=8, frameon=False)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    total = (
        f"{sum(figures['publishers'].values())} publishers, {sum(figures['listeners'].values())} listeners, {figures['packets']:,} packets"
    )
    figure.suptitle(f"{total}: {figures['lost']} lost")
    figure.savefig(path)


if __name__ == "__main__":
    sys.exit(main())
