"""Jobs of a training step: each on a thread that computes alone, results in order, errors told when all have ended."""

from __future__ import annotations

import threading

import pytest
import torch

from streamcodec.training.side_by_side import side_by_side, split_rows


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_results_come_in_order_and_operations_stay_on_their_thread(threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        found = side_by_side([lambda n=n: (n, torch.get_num_threads()) for n in range(5)], threads)  # type: ignore[misc]
        assert found == [(n, 1) for n in range(5)]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_jobs_run_at_the_same_time() -> None:
    both = threading.Barrier(2, timeout=30.0)  # passed only by two that wait at once
    assert sorted(side_by_side([both.wait, both.wait], 2)) == [0, 1]


def test_an_error_is_raised_when_all_have_ended() -> None:
    ended = []

    def fails() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        side_by_side([fails, lambda: ended.append(1)], 2)
    assert ended == [1]


@pytest.mark.parametrize(("rows", "parts", "sizes"), [(8, 2, [4, 4]), (8, 3, [2, 3, 3]), (2, 4, [1, 1]), (5, 1, [5]), (3, 0, [3])])
def test_rows_are_split_evenly(rows: int, parts: int, sizes: list[int]) -> None:
    slices = split_rows(rows, parts)
    assert [part.stop - part.start for part in slices] == sizes
    assert [row for part in slices for row in range(rows)[part]] == list(range(rows))
