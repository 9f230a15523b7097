"""Timings of calls that take turns, and percentiles."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["Candidate", "alternate", "percentiles"]


@dataclass(frozen=True)
class Candidate:
    """One call to time: `audio_s` is how much audio it handles, all streams together; `labels` say in a table what it is.

    A candidate runs `burst` times in a row in every `every`-th round. A burst's first call finds the caches as the others left them.
    """

    call: Callable[[], object]
    audio_s: float
    labels: dict[str, Any] = field(default_factory=dict)
    burst: int = 5
    every: int = 1


def alternate(candidates: Sequence[Candidate], rounds: int, warm_up: int = 3) -> list[list[float]]:
    """Time all candidates in one run, seconds per call, by turns: what the machine does meanwhile meets all of them alike.

    The order rotates from round to round; the `warm_up` calls of each come first and do not count.
    """
    for candidate in candidates:
        for _ in range(warm_up if candidate.every == 1 else 1):
            candidate.call()
    times: list[list[float]] = [[] for _ in candidates]
    for at in range(rounds):
        for i in range(len(candidates)):
            index = (i + at) % len(candidates)
            candidate = candidates[index]
            if at % candidate.every:
                continue
            for _ in range(candidate.burst):
                begun = time.perf_counter()
                candidate.call()
                times[index].append(time.perf_counter() - begun)
    return times


def percentiles(values: Sequence[float], shares: Sequence[float] = (50, 95, 99)) -> dict[str, float]:
    """`p50`, `p95`, `p99` and `max` of `values`."""
    found = np.percentile(np.asarray(values, np.float64), shares) if len(values) else np.full(len(shares), np.nan)
    return {f"p{share:g}": float(value) for share, value in zip(shares, found, strict=True)} | {"max": float(max(values, default=np.nan))}
