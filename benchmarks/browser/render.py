"""The section `browser` in words and tables, from its figures alone."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.browser.delay import PAGES, PYTHON
from benchmarks.browser.start import LOOPBACK, SLOW
from benchmarks.browser.steps import BOTH
from benchmarks.harness.run import Headline
from benchmarks.harness.sections import Figures
from benchmarks.harness.tables import milliseconds, table

__all__ = ["AIM_BOTH_MS", "headlines", "render"]

AIM_BOTH_MS = 40.0
_AIM_LISTENER_MB = 9.0
_AIM_SOUND_S = {LOOPBACK: 2.0, SLOW: 6.0}
_WAITS = (("ready", "the page can be used"), ("playing", "the stream's start is there"), ("sound", "the first sound"))
_LAST_WAIT = ("codes", "the page decodes by itself")
_USERS = {"listen": "a listener", "talk": "a talker"}


def render(figures: Figures) -> str:
    """The section's text, from its figures alone."""
    parts = [
        "The page that `streamcodec serve` serves, in a headless Chromium. For steps and start, all of the browser's processes share one "
        "processor; the server runs on the others, if there are any. For mouth to ear, all programs share all processors.",
        *_aims(figures),
    ]
    for case, tell in (("steps", _steps), ("start", _start), ("mouth-to-ear", _delay), ("installs", _installs)):
        if case in figures:
            parts += tell(figures[case])
    return "\n\n".join(parts) + "\n"


def headlines(figures: Figures) -> list[Headline]:
    """The steps' time, the first sound on loopback, and mouth to ear beside Python's."""
    found = []
    if "steps" in figures:
        last = _row(figures["steps"], "speech", BOTH)["last"]
        what = f"encode and decode 80 ms in Chromium, {figures['steps']['model']}, {figures['steps']['low_kbps']:g} kbps, one processor"
        found.append(Headline(what, f"{last['p50']:.1f} ms (99th percentile {last['p99']:.1f})", case="steps"))
    if "start" in figures:
        told = " / ".join(f"{_median_s(link, 'sound'):.1f}" for link in figures["start"]["links"])
        found.append(Headline(f"page, cold start to the first sound, {LOOPBACK} / {SLOW}", f"{told} s", case="start"))
    if "mouth-to-ear" in figures:
        delays = {run["way"]: f"{run['delay_ms']:.0f} ms" for run in figures["mouth-to-ear"]["runs"]}
        what = "page to page, mouth to ear through virtual sound cards, packets of 80 ms"
        found.append(Headline(what, delays[PAGES], f"{delays[PYTHON]} ({PYTHON})", case="mouth-to-ear"))
    return found


def _aims(figures: Figures) -> list[str]:
    rows = []
    for what, aim, reached, unit in _reached(figures):
        rows.append([what, f"{aim:g} {unit}", f"{reached:.1f} {unit}", "yes" if reached < aim else "**no**"])
    return [table(["aim", "below", "reached", "met"], rows)] if rows else []


def _reached(figures: Figures) -> Iterator[tuple[str, float, float, str]]:
    if "steps" in figures:
        steps = figures["steps"]
        for signal in ("speech", "silence"):
            last = _row(steps, signal, BOTH)["last"]
            yield (
                f"encode and decode {steps['packet_ms']:g} ms of {signal}, 99th percentile of the last minute",
                AIM_BOTH_MS,
                last["p99"],
                "ms",
            )
    if "start" in figures:
        yield "what a listener downloads", _AIM_LISTENER_MB, _total(figures["start"]["weight"]["listen"]) / 1e6, "MB"
        for link in figures["start"]["links"]:
            yield f"cold start to the first sound, {link['link']}", _AIM_SOUND_S[link["link"]], _median_s(link, "sound"), "s"


# Steps -------------------------------------------------------------------------------------------------------------------------------


def _row(steps: Figures, signal: str, step: str) -> dict[str, Any]:
    found: dict[str, Any] = next(row for row in steps["rows"] if (row["signal"], row["step"]) == (signal, step))
    return found


def _steps(steps: Figures) -> list[str]:
    names = {
        "encode": f"encode at {steps['low_kbps']:g} kbps",
        "decode": f"decode at {steps['low_kbps']:g} kbps",
        BOTH: f"both at {steps['low_kbps']:g} kbps",
        "decode high": f"decode at {steps['high_kbps']:g} kbps",
    }
    window = "minute" if steps["window_s"] == 60 else f"{steps['window_s']:g} s"
    cells = [
        [
            f"{names[step]}, {signal}",
            *(value for part in ("first", "last") for value in milliseconds(row[part], "p50", "p95", "p99")),
            *milliseconds({"worst": row["all"]["max"], "cold": row["very_first_ms"]}, "worst", "cold"),
        ]
        for step in names
        for signal in ("speech", "silence")
        for row in [_row(steps, signal, step)]
    ]
    first, last = f"first {window}", f"last {window}"
    header = [
        f"{steps['packet_ms']:g} ms, in ms",
        f"{first}: median",
        "p95",
        "p99",
        f"{last}: median",
        "p95",
        "p99",
        "longest",
        "the very first",
    ]
    loaded = steps["loaded_ms"]
    memory = steps["memory"]
    early = [look["private_mib"] for look in memory if look["at_s"] <= steps["window_s"]]
    late = [look["private_mib"] for look in memory if look["at_s"] >= memory[-1]["at_s"] - steps["window_s"]]
    text = (
        f"Chromium {steps['browser']}. The page's codec in a worker, ONNX Runtime {steps['runtime']} in WebAssembly with one thread, for "
        f"{steps['minutes']:g} minutes at a microphone's pace: every {steps['packet_ms']:g} ms a packet is encoded, its codes are decoded, "
        f"and a packet of {steps['high_kbps']:g} kbps is decoded, one after the other. Packets of two streams take turns, so each of them "
        f"advances at half of real time: one of speech, and one that falls digitally silent after {steps['spoken_s']:g} s for good, where "
        f"numbers too small for the processor's quick ways would show. {steps['packets']:,} packets; {steps['late']} more would have been "
        "due while another was at work, and were left out."
    )
    loading = (
        "From nothing to a stream's first state, files and WebAssembly from loopback included: "
        f"{loaded['encode'] / 1000:.1f} s for the encoder, then {loaded['decode'] / 1000:.1f} s for the decoder and "
        f"{loaded['decode high'] / 1000:.1f} s for the one of {steps['high_kbps']:g} kbps."
    )
    return [
        "### Steps",
        text,
        table(header, cells),
        loading,
        table(
            ["memory, MiB", first, last],
            [
                ["the page's process, private, median", statistics.median(early), statistics.median(late)],
                ["kept by JavaScript and WebAssembly", steps["heap_mib"]["first"], steps["heap_mib"]["last"]],
            ],
        ),
        "![The codec's time and the page's memory](browser.png)",
    ]


# Start -------------------------------------------------------------------------------------------------------------------------------


def _total(files: Sequence[dict[str, Any]]) -> int:
    return sum(one["bytes"] for one in files)


def _median_s(link: dict[str, Any], mark: str) -> float:
    return float(statistics.median(start[mark] for start in link["starts"])) / 1000


def _start(start: Figures) -> list[str]:
    weight = start["weight"]
    kinds = sorted({one["kind"] for files in weight.values() for one in files})
    sizes = {(user, one["kind"]): one for user, files in weight.items() for one in files}
    rows = [[kind, *(_files(sizes.get((user, kind))) for user in _USERS)] for kind in kinds]
    rows.append(["in all, MB", *(f"{_total(weight[user]) / 1e6:.2f}" for user in _USERS)])
    waits = [*_WAITS, *([_LAST_WAIT] if _later(start) else [])]
    times = [
        [
            link["link"],
            *(f"{_median_s(link, mark):.2f} ({max(one[mark] for one in link['starts']) / 1000:.2f})" for mark, _ in waits),
        ]
        for link in start["links"]
    ]
    return [
        "### Weight and start",
        "What is downloaded with an empty cache, compressed as it is sent, without headers, in MB (and files). A stream at "
        f"{start['bandwidth']:g} kbps takes the model's part for up to 8 codebooks; more are loaded when a stream has them.",
        table(["MB (files)", *_USERS.values()], rows),
        f"Seconds from the entered address, median of {len(start['links'][0]['starts'])} starts with an empty cache (and the longest). "
        "A script presses the button as soon as it can be pressed. The first sound is the first sample above -60 dB of full scale that "
        f"leaves for the speaker, of a stream that is never silent. {SLOW} is a proxy in front of the server, with a round trip of "
        f"{start['round_trip_ms']:g} ms.",
        table(["s until", *(what for _, what in waits)], times),
    ]


def _files(one: dict[str, Any] | None) -> str | None:
    return None if one is None else f"{one['bytes'] / 1e6:.2f} ({one['files']})"


def _later(start: Figures) -> bool:
    """Whether the page played before it decoded by itself."""
    return any(_median_s(link, "codes") > _median_s(link, "sound") + 0.5 for link in start["links"])


# Mouth to ear ------------------------------------------------------------------------------------------------------------------------


def _delay(delay: Figures) -> list[str]:
    runs = delay["runs"]
    rows = []
    for run in runs:
        measured = [run["delay_ms"], run["worst_delay_ms"], round(run["stoi"], 3), round(run["correlation"], 2)]
        rows.append([run["way"], *measured, run["underruns"], run["lost"]])
    header = ["", "mouth to ear, ms", "longest, ms", "STOI against the offline codec", "correlation", "underruns", "packets lost"]
    shares = [
        [stage, *(f"{run['stages_ms'][stage]:.1f} ({run['stages_ms'][stage] / run['delay_ms']:.0%})" for run in runs)]
        for stage in runs[0]["stages_ms"]
    ]
    memory = next(run["memory"] for run in runs if run["way"] == PAGES)
    kept = [
        [
            f"the page of the {who}",
            *(f"{memory[when][who]['private_mib']:.0f} ({memory[when][who]['heap_mib']:.0f})" for when in ("before", "after")),
        ]
        for who in ("talker", "listener")
    ]
    return [
        "### Mouth to ear",
        f"The bundled clip, repeated for {delay['minutes']:g} minutes, played in front of a virtual microphone and recorded at a virtual "
        f"ear (PulseAudio null sinks), packets of 80 ms at {delay['bandwidth']:g} kbps: once through `streamcodec mic` and `play`, once "
        "through two Chromiums, one of which talks and one of which listens, with `serve` between them. The delay is the peak of the "
        "cross-correlation of both recordings, which one sound server's clock paces; median and longest of parts of ten seconds. Echo "
        f"cancellation is off; both players hold back at least {delay['slack_ms']:g} ms against late packets, and more where "
        "packets come late.",
        table(header, rows),
        "Where it comes from, by the player's own medians; the last line is what they do not account for, the devices' buffers on both "
        "sides and the browsers' own audio processes.",
        table(["ms, of the delay", *(run["way"] for run in runs)], shares),
        table(["memory, MiB, private (kept by JavaScript and WebAssembly)", "before", "after"], kept),
    ]


# Installs ----------------------------------------------------------------------------------------------------------------------------


def _installs(installs: Figures) -> list[str]:
    rows = [
        [
            f"`streamcodec[{row['extra']}]`, engine `{row['engine']}`",
            row["packages"],
            f"{row['bytes'] / 1e6:.0f}",
            ", ".join(f"{one['package']} {one['bytes'] / 1e6:.0f}" for one in row["largest"]),
            f"{row['start_s']:.2f}",
            f"{row['peak_mib']:.0f}",
        ]
        for row in installs["rows"]
    ]
    return [
        "### A listener in Python, without torch and with it",
        "The packages that each takes, as they are installed here, files that Python compiles left out, beside "
        f"{installs['own_bytes'] / 1e6:.0f} MB of its own; the time from the command until a first packet at {installs['bandwidth']:g} "
        f"kbps is decoded, by the median of {installs['starts']} starts with warm files; and the most memory until then. The first of them "
        "runs where torch, OpenVINO and numba cannot be imported.",
        table(["", "packages", "MB", "the largest, MB", "start, s", "memory, MiB"], rows),
    ]
