"""Jobs that run at the same time, one of them on the calling thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

__all__ = ["run_together"]


def run_together(jobs: Sequence[Callable[[], object]], helpers: ThreadPoolExecutor | None) -> None:
    """Run the first job here and the others on `helpers`, which only a single job can do without; return when all are done."""
    others = [helpers.submit(job) for job in jobs[1:]] if helpers is not None else []
    for job in jobs[:1]:
        job()
    for other in others:
        other.result()
