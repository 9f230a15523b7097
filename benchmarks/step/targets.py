"""What one core is held to with the full-size model at 6 kbps, and whether a run reached it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from benchmarks.harness.models import FULL_SIZE

__all__ = ["TARGETS", "Target", "check"]

Measure = Literal["realtime", "packages_80_ms", "transformers_clip"]
Row = dict[str, Any]

_REFERENCES = ("encodec", "transformers")


@dataclass(frozen=True)
class Target:
    """`goal` is how many times real time, or how many times as fast as the reference's calls, all streams together."""

    operation: str
    batch: int
    precision: str
    measure: Measure
    goal: float


TARGETS = (
    Target("encode", 1, "fp32", "realtime", 13.0),
    Target("encode", 1, "fp32", "packages_80_ms", 3.0),
    Target("encode", 1, "bf16", "realtime", 19.0),
    Target("encode", 16, "fp32", "realtime", 26.0),
    Target("encode", 16, "fp32", "transformers_clip", 1.7),
    Target("encode", 16, "bf16", "realtime", 44.0),
    Target("decode", 1, "fp32", "realtime", 13.0),
    Target("decode", 1, "bf16", "realtime", 22.0),
    Target("decode", 16, "fp32", "realtime", 23.0),
    Target("decode", 16, "bf16", "realtime", 36.0),
)


def check(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Each target, what `rows` say of it in `reached`, and whether that is enough in `met`; both None where the run did not measure it."""
    found = []
    for target in TARGETS:
        reached = _reached(target, rows)
        met = None if reached is None else reached >= target.goal
        found.append({**asdict(target), "reached": reached, "met": met})
    return found


def _reached(target: Target, rows: Sequence[Row]) -> float | None:
    same = [row for row in rows if row["operation"] == target.operation and row["threads"] == 1]
    steps = [row for row in same if row["kind"] == "step" and row["frames"] == 6 and row["batch"] == target.batch]
    ours = [row["realtime"] for row in steps if row["ours"] and row["who"] == FULL_SIZE and row["precision"] == target.precision]
    if not ours:
        return None
    if target.measure == "realtime":
        return float(max(ours))
    if target.measure == "packages_80_ms":
        theirs = [row["realtime"] for row in steps if row["who"] in _REFERENCES]
        complete = len(theirs) == len(_REFERENCES)
    else:
        theirs = [row["realtime"] for row in same if row["kind"] == "clip" and row["who"] == "transformers"]
        complete = bool(theirs)
    # Against all of them is against the quickest.
    return float(max(ours) / max(theirs)) if complete else None
