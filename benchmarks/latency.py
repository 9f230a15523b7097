"""Where the time goes: every packet's way from the microphone to the device, stage by stage, on networks good and bad.

Publisher, server, listeners and their devices are the real programs' own parts, in two processes; the device is a thread that pulls blocks
of 5 ms from the adaptive playout buffer, by a clock that may drift. One case a run; cases merge into one section.

Networks are made by a TCP proxy in the clients' process; with `--netns` by the kernel, which takes root and a kernel with netem.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

import numpy as np

from benchmarks.common import Figures, Observed, argument_parser, write_section
from benchmarks.latency_cases import CASES, Case, Lengths, make_case
from benchmarks.latency_device import hour_of_drift
from benchmarks.latency_figures import ear_figures, quality_by_second, thinned
from benchmarks.latency_report import draw, render
from benchmarks.latency_run import HOP, RATE, Ran, Setup, run, spoken

__all__ = ["main", "render"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the cases that are asked for, and write each into the section `latency`; a missed goal is no error."""
    parser = argument_parser(__doc__)
    add = parser.add_argument
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--case", choices=CASES, nargs="+", help="one or more")
    which.add_argument("--all", action="store_true", help="every case: some forty minutes")
    add("--minutes", type=float, help="of loopback and drift (default: 10; 2 where packets are shorter)")
    add("--before-seconds", type=float, default=10.0, help="until something happens to the network")
    add("--during-seconds", type=float, help="of narrow, jitter, reset and shrink (default: each case's own)")
    add("--after-seconds", type=float, default=15.0, help="until the end, once the network is well again")
    add("--compressed-minutes", type=float, default=60.0, help="of drift in made-up time")
    add(
        "--netns",
        action="store_true",
        help="network namespaces with netem instead of the proxy: takes root, iproute2 and a kernel with netem",
    )
    args = parser.parse_args(argv)
    if args.netns:
        from benchmarks.link_netns import missing

        if why := missing():
            print(f"no network namespaces with netem here: {why}", file=sys.stderr)
            return 1
    for name in CASES if args.all else args.case:
        minutes = args.minutes or (2.0 if name in ("loopback-13", "loopback-27") else 10.0)
        lengths = Lengths(60 * minutes, args.before_seconds, args.during_seconds, args.after_seconds, args.compressed_minutes)
        case = make_case(name, lengths)
        print(f"{name}: {sum(setup.seconds for setup in case.runs.values()):.0f} s. {case.about}", file=sys.stderr)
        with Observed() as observed:
            figures = measure(case, netns=args.netns)
        told = [word for word in (sys.argv[1:] if argv is None else argv) if word not in (*CASES, "--all", "--case")]
        path = write_section(
            args.out,
            "latency",
            "Latency, packet by packet",
            figures,
            observed,
            render,
            threads=1,
            argv=["--case", name, *told],
            case=f"{name}-netns" if args.netns else name,
        )
        cases = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["cases"]
        draw({known: ran["figures"] for known, ran in cases.items()}, args.out)
        for goal in figures["goals"]:
            print(f"{name}: {goal['goal']}: {goal['found']} {goal['unit']}, at most {goal['most']:g}: {goal['met']}", file=sys.stderr)
    print(path.read_text(encoding="utf-8"))
    return 0


def measure(case: Case, *, netns: bool = False) -> Figures:
    """Run a case and return its figures."""
    runs: dict[str, Figures] = {}
    for name, setup in case.runs.items():
        ran = run(setup, netns=netns)
        runs[name] = {
            "seconds": setup.seconds,
            "packet_ms": 1000 * setup.packet_s,
            "kbps": setup.bandwidth,
            "uplink_broken": len(ran.broken),
            "uplink_dropped_s": ran.uplink_dropped_s,
            "ears": [ear_figures(setup, ear, ran) for ear in setup.ears],
        }
        if case.quality:
            runs[name]["quality_db"] = _quality(setup, ran)
    if case.compressed_minutes:
        sound, packet = spoken(10.0), 6 * HOP
        last = runs[list(runs)[-1]]
        last["compressed"] = [hour_of_drift(sound, RATE, packet, case.compressed_minutes, ppm) for ppm in case.ppm]
    goals = case.goals(runs)
    for ear in (ear for each in runs.values() for ear in each["ears"]):
        ear["course"] = thinned(ear["course"])
    return {
        "about": case.about,
        "network": "netns" if netns else "proxy",
        "disturbed": None if case.disturbed is None else list(case.disturbed),
        "runs": runs,
        "goals": goals,
    }


def _quality(setup: Setup, ran: Ran) -> dict[str, list[float | None]]:
    """What every listener heard, second by second, against the whole bandwidth decoded without a network."""
    from streamcodec.codec import load

    codec = load(setup.model)
    encoder, decoder = codec.stream_encoder(setup.bandwidth), codec.stream_decoder(setup.bandwidth)
    codes = [*encoder.feed(spoken(setup.seconds)), *encoder.flush()]
    reference = np.concatenate([*(decoder.feed(packet) for packet in codes), decoder.flush()])
    return {ear.name: quality_by_second(setup, ran, ran.heard[ear.name], reference) for ear in setup.ears}


if __name__ == "__main__":
    sys.exit(main())
