"""The section on attacks: a table of all that were run, from their figures alone."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.harness.run import Headline
from benchmarks.harness.sections import Figures
from benchmarks.harness.tables import milliseconds, table, verdict

__all__ = ["MOST_LATE_MS", "headlines", "held", "render"]

MOST_LATE_MS = 60.0


def render(cases: Mapping[str, Figures]) -> str:
    """The section's text; `cases` are the figures of each attack by its name."""
    first = next(iter(cases.values()))
    names = {name: "**no**" if not held(case) else "yes" for name, case in cases.items()}
    rows = [
        [
            name,
            names[name],
            f"{case['attack_s']:.0f}",
            *_phase(case["before"]),
            *_phase(case["during"]),
            " to ".join(f"{mib:.0f}" for mib in case["server_mib"]),
            f"{case['server_cores']:.2f}",
            f"{case['sent_mib']:.1f}",
            case["connections"],
            ", ".join(f"{answer} x {count}" for answer, count in case["answers"].items()) or "nothing",
        ]
        for name, case in cases.items()
    ]
    return (
        "\n\n".join(
            [
                f"{first['streams']} publishers send PCM in real time, in packets of 80 ms, and each has a listener of codes. *Late* is "
                "the time from a packet's last sample to its listener. Then one process attacks from another address, with what one core "
                f"can send. *Held* says that no packet was lost and that 99% came within {MOST_LATE_MS:g} ms meanwhile. The three "
                f"processes share the machine's cores. {verdict([failure for case in cases.values() for failure in case['failures']])}",
                table(
                    [
                        *("attack", "held", "for s", "lost before", "late p50 ms", "p99", "lost during", "late p50 ms", "p99"),
                        *("server's MiB", "its cores", "MiB sent", "connections", "what the attacker got"),
                    ],
                    rows,
                ),
            ]
        )
        + "\n"
    )


def held(case: Figures) -> bool:
    """Whether the streams went on as they should."""
    during = case["during"]
    return not case["failures"] and not during["lost"] and during["late_ms"] is not None and during["late_ms"]["p99"] <= MOST_LATE_MS


def headlines(cases: Mapping[str, Figures]) -> list[Headline]:
    """How many attacks harmed nobody."""
    good = sum(held(case) for case in cases.values())
    return [Headline(f"attacks beside which no packet is lost and 99% come within {MOST_LATE_MS:g} ms", f"{good} of {len(cases)}")]


def _phase(figures: Figures) -> list[object]:
    late = milliseconds(figures["late_ms"], "p50", "p99") if figures["late_ms"] else ["-", "-"]
    return [figures["lost"], *late]
