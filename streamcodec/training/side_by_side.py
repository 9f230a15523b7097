"""Jobs of a training step on several threads, each of which computes alone.

Layers of few channels are too little work to be shared: two threads at every operation take a fifth less time than one, and two threads
that have half of the rows each take half.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import Parameter

__all__ = ["add_up", "side_by_side", "split_rows", "threads_of"]

T = TypeVar("T")


def side_by_side(jobs: Sequence[Callable[[], T]], threads: int) -> list[T]:
    """Run all jobs on up to `threads` threads, the first ones first, and return what they return; operations of a job run on its thread.

    A job's error is raised when all have ended.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        if min(threads, len(jobs)) < 2:
            return [job() for job in jobs]
        running = [_pool(threads).submit(job) for job in jobs]
        for each in running:
            each.exception()
        return [each.result() for each in running]
    finally:
        torch.set_num_threads(before)


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "streamcodec-training", initializer=partial(torch.set_num_threads, 1))


def split_rows(rows: int, parts: int) -> list[slice]:
    """Up to `parts` slices of `rows` rows, which differ by one row at most."""
    parts = max(1, min(rows, parts))
    ends = [rows * i // parts for i in range(parts + 1)]
    return [slice(a, b) for a, b in pairwise(ends)]


def threads_of(device: torch.device) -> int:
    """How many threads share the rows of a batch: as many as torch has, and one where another device than the processor computes."""
    return torch.get_num_threads() if device.type == "cpu" else 1


def add_up(weights: Iterable[Parameter], parts: Iterable[Sequence[Tensor]]) -> None:
    """Give each weight the sum of what the parts of a batch found as its gradient."""
    for weight, *gradients in zip(weights, *parts, strict=True):
        weight.grad = torch.stack(gradients).sum(dim=0)
