"""The section on a cluster: what each case that was run has shown, from its figures alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.harness.plots import picture
from benchmarks.harness.run import Headline
from benchmarks.harness.sections import Figures
from benchmarks.harness.tables import milliseconds, table, verdict

__all__ = ["draw", "headlines", "render"]

_MOST = 3


def render(cases: Mapping[str, Figures]) -> str:
    """The section's text; `cases` are the figures of each case by its name."""
    wrong = [f"{name}: {failure}" for name, case in cases.items() for failure in case["failures"]]
    parts = [
        "Nodes and NATS are processes on one machine, on the same cores as all clients. Publishers and listeners connect again as clients "
        f"of the package do. *Silence* is the longest time between two packets in a row, beyond a packet's own 80 ms. {verdict(wrong)}"
    ]
    kills = {name: cases[name] for name in ("kill node", "kill node, replicated") if name in cases}
    for name, told in _TOLD.items():
        if name in cases:
            parts += told(cases[name])
    if kills:
        parts += _killed_nodes(kills)
    return "\n\n".join(parts) + "\n"


def _hop(case: Figures) -> list[str]:
    rows = [
        [
            f"{case['streams'][kind]} of {name}",
            case[kind]["packets"],
            *milliseconds(case[kind]["late_ms"], "p50", "p99"),
            *milliseconds(case[kind]["other_late_ms"], "p50", "p99"),
            *milliseconds(case[kind]["added_ms"], "p50", "p99", "max"),
        ]
        for kind, name in (("codes", "codes"), ("pcm", "PCM"))
        if kind in case
    ]
    cores = ", ".join(
        f"{case['cores'][name]:.2f} ({who})" for name, who in (("origin", "the origin"), ("other", "the other node"), ("nats", "NATS"))
    )
    return [
        f"**The hop.** Two nodes, {case['kbps']:g} kbps; each stream is published at one node and has a listener of codes at both. *Late* "
        "is the time from a packet's last sample to the listener, *added* the time from the listener at the publisher's node to the one at "
        f"the other node, packet by packet, in {case['seconds']:g} s. Cores: {cores}. Packets that were lost between the nodes: "
        f"{case['lost_between_nodes']}.",
        table(["streams", "packets", "late, p50 ms", "p99", "late at the other node, p50 ms", "p99", "added, p50 ms", "p99", "max"], rows),
    ]


def _drain(case: Figures) -> list[str]:
    compared = case["compared"]
    rows = [[where, f"{silence['before']:.0f}", f"{silence['drain']:.0f}"] for where, silence in case["silence_ms"].items()]
    return [
        f"**A node drains**, with {case['streams']['pcm']} publishers of PCM and {case['streams']['codes']} of codes; each has listeners "
        f"of codes and of PCM at both nodes, {case['listeners']} in all. All were at the other node after {_seconds(case['moved_s'])}. "
        f"Of {case['packets']:,} packets {case['lost']} were lost and {case['repeated']} came twice; publishers dropped "
        f"{case['dropped_s']:.2f} s. Against an unbroken run: {compared['differing']:,} of {compared['entries']:,} codes differ, behind "
        f"{compared['near_ties']:,} near-ties; {compared['samples']:,} samples are within {compared['max_error']:.1e}.",
        table(["longest silence, listeners of", "before, ms", "while it drains"], rows),
    ]


def _killed_nodes(cases: Mapping[str, Figures]) -> list[str]:
    rows = [
        [
            f"{stream['kind']}, {'with' if case['replicate'] else 'without'} `--replicate`",
            _seconds(stream["again_s"]),
            _seconds(stream["again_elsewhere_s"]),
            f"{stream['unheard_s']:.2f} s",
            stream["told"],
            _told(stream["ends"]) or "goes on",
            _told([f"{at:g} s: {code or reason}" for at, code, reason in stream["publisher"]]) or "nothing",
        ]
        for case in cases.values()
        for stream in case["streams"]
    ]
    return [
        "**A node is killed** (SIGKILL) that has all publishers. *Heard again after* is the time from the kill to the first packet behind "
        "the longest silence: at the other node, and by those who had listened at the node that is gone. *Not heard* is what the publisher "
        "said and nobody heard at the other node.",
        table(
            [
                "stream",
                "heard again after",
                "by who was at the dead node",
                "not heard",
                "gaps told",
                "listeners are told",
                "publisher is told",
            ],
            rows,
        ),
    ]


def _kill_nats(case: Figures) -> list[str]:
    return [
        f"**NATS is killed** (SIGKILL) and is there again {case['down_s']:.1f} s later; {case['streams']} streams at two nodes, one "
        "of which begins meanwhile.",
        table(
            ["listeners", "packets lost", "told", "not told", "longest silence, ms", "heard again after NATS is back"],
            [
                ["at the publisher's node", case["local_lost"], "-", "-", _whole(case["local_silence_ms"]), "-"],
                ["at the other node", "-", _reasons(case["remote_told"]), case["remote_unnamed"], "-", _seconds(case["back_s"])],
            ],
        ),
    ]


def _cuts(case: Figures) -> list[str]:
    rows = [
        [
            f"{cut['cut_s']:g} s, {cut['how']}",
            _seconds(cut["agreed_s"]),
            *(
                f"{one['winner'] or 'nobody'}; {'both' if one['both_began'] else 'one'} began; told {', '.join(one['told']) or 'nothing'}"
                for one in (cut["contested"]["contested"], cut["contested"]["new"])
            ),
            cut["local_lost"],
            _whole(cut["local_silence_ms"]),
            _seconds(cut["remote_back_s"]),
            _reasons(cut["remote_told"]),
            cut["remote_unnamed"],
        ]
        for cut in case["cuts"]
    ]
    return [
        "**A node is cut off from NATS** for a while (*here*; the other one is *there*). *Silent*: nothing comes through, and nobody is "
        "told; *reset*: connections break at once. At the other node somebody wants the name of a stream that is published here, and one "
        "that is new on both sides. *One publisher each after* counts from the end of the cut.",
        table(
            [
                *("cut", "one publisher each after", "name in use here", "new name", "packets lost at the publisher's node"),
                *("longest silence there, ms", "heard again at the other node after", "told there", "not told"),
            ],
            rows,
        ),
    ]


def _churn(case: Figures) -> list[str]:
    rows = [
        [f"node {at + 1}", f"{memory['start_mib']:.0f}", f"{memory['end_mib']:.0f}", _slope(memory)]
        for at, memory in enumerate(case["memory"])
    ]
    stored = ", ".join(f"{name} {messages}" for name, messages in case["stored"].items())
    return [
        f"**Streams come and go** at three nodes with `--replicate` for {case['minutes']:g} min: {case['places']} at a time, of "
        f"{case['mean_life_s']:g} s on average, {case['streams']:,} in all, each with listeners at two nodes. {case['packets']:,} packets "
        f"came, gaps named {sum(case['told'].values())}, {case['unnamed']} were lost untold. Left behind: "
        f"{_reasons({what: count for what, count in case['left'].items() if count})}; entries in the stores: {stored}.",
        table(["memory, MiB", "behind the warm-up", "at the end", "slope, MiB a minute"], rows),
        "![Memory of the nodes over time](cluster.png)",
    ]


def _copies(case: Figures) -> list[str]:
    kinds = case["kinds"]
    rows = [
        [
            kind,
            *(f"{one['parts'][part]:,}" for part in ("states", "resampler", "samples", "history", "else")),
            *(f"{one[size]:,.0f}" for size in ("copy", "piece", "history", "given")),
            f"{one['pack_ms']:.2f}",
        ]
        for kind, one in kinds.items()
    ]
    history_s = max(one["history_s"] for one in kinds.values())
    return [
        f"**What `--replicate` writes**, in bytes, of one stream of speech at {case['kbps']:g} kbps: the parts of the last copy, then the "
        f"mean of all copies and of the pieces of history, both each second. All the history ({history_s:.1f} s) and a stream that is "
        "handed over are there to compare with.",
        table(
            [
                *("stream", "model's states", "resampler", "samples that wait", "history since the last piece", "all else"),
                *("a copy", "pieces", "all history", "handed over", "packed in, ms"),
            ],
            rows,
        ),
    ]


_TOLD: dict[str, Callable[[Figures], list[str]]] = {
    "hop": _hop,
    "drain": _drain,
    "kill nats": _kill_nats,
    "cut network": _cuts,
    "churn": _churn,
    "copies": _copies,
}


def draw(cases: Mapping[str, Figures], folder: Path) -> None:
    """Memory over time, where streams came and went."""
    if "churn" not in cases:
        return
    with picture(folder / "cluster.png", 8, 3.2) as figure:
        axes = figure.subplots()
        for at, course in enumerate(cases["churn"]["course"]):
            axes.plot([seconds / 60 for seconds, _ in course], [mib for _, mib in course], lw=1.0, label=f"node {at + 1}")
        axes.set(xlabel="min", ylabel="resident memory, MiB")
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False)


def headlines(cases: Mapping[str, Figures]) -> list[Headline]:
    """What each case was run for."""
    found = []
    for name, case in cases.items():
        if name == "hop" and "codes" in case:
            added = milliseconds(case["codes"]["added_ms"], "p50", "p99")
            what = f"the hop to another node, {case['streams']['codes']} streams: added delay, p50 and p99"
            found.append(Headline(what, f"{added[0]} and {added[1]} ms", case=name))
        elif name == "drain":
            silence = max(one["drain"] for one in case["silence_ms"].values())
            found.append(
                Headline(
                    f"drain of {case['listeners']} listeners: packets lost, longest silence", f"{case['lost']}, {silence:.0f} ms", case=name
                )
            )
        elif name.startswith("kill node"):
            found.append(Headline(f"{name}: all publishers heard again after", _seconds(case["again_s"]), case=name))
        elif name == "kill nats":
            told = f"{case['local_lost']}, {_seconds(case['back_s'])}"
            found.append(Headline("kill nats: packets lost at home, others back after", told, case=name))
        elif name == "cut network":
            worst = max((cut["agreed_s"] for cut in case["cuts"]), default=None)
            found.append(Headline("cut network: one publisher per name after", _seconds(worst), case=name))
        elif name == "churn":
            lost = sum(case["told"].values()) + case["unnamed"]
            left = sum(case["left"].values())
            found.append(Headline(f"{case['streams']:,} streams at three nodes: packets lost, left behind", f"{lost}, {left}", case=name))
        elif name == "copies":
            sizes = ", ".join(f"{(one['copy'] + one['piece']) / 1000:.1f} kB ({kind})" for kind, one in case["kinds"].items())
            found.append(Headline("`--replicate`: bytes of a stream each second", sizes, case=name))
    return found


def _slope(memory: Figures) -> str:
    slope = memory["mib_per_minute"]
    return "-" if slope is None else f"{slope:.2f}" if memory["long"] else f"{slope:.2f} (too short to tell)"


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.2f} s"


def _whole(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


def _reasons(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {what}" for what, count in counts.items()) or "nothing"


def _told(lines: Sequence[str]) -> str:
    """The first few of them, as a cell of a table."""
    shown = [*lines[:_MOST], *([f"{len(lines) - _MOST} more"] if len(lines) > _MOST else [])]
    return "; ".join(shown).replace("|", "/")
